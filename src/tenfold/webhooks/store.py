"""What is kept about endpoints, events and deliveries, and the statements for it. Portable SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from tenfold.webhooks.tables import delivery, endpoint, event

EndpointState = Literal["enabled", "disabled"]
DeliveryState = Literal["pending", "delivered", "failed", "held"]

ALL = "*"
"""Among the topics of an endpoint: every topic."""


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where events are sent. Times are seconds since the epoch. The secret is not shown again."""

    id: str
    url: str
    topics: list[str]
    """Names of topics; ``["*"]`` for all."""
    owner: str
    """Who gets a mail when the endpoint is disabled; may be empty."""
    state: EndpointState
    reason: str
    """Why it is disabled."""
    concurrency: int
    """Deliveries under way at a time, of the whole fleet."""
    ordered: bool
    """Events of one key arrive in their order; one that fails holds up those of its line."""
    failures: int
    """Attempts that failed since the last that did not."""
    failing_since: float | None
    created_at: float

    def wants(self, topic: str) -> bool:
        return topic in self.topics or ALL in self.topics


class Delivery(Struct, frozen=True, kw_only=True):
    """One event on its way to one endpoint, and what became of it. Times are seconds since the epoch.

    ``pending`` until an attempt succeeds (``delivered``) or the last one has failed (``failed``); ``held`` when the
    endpoint was disabled. Failed and held ones can be replayed.
    """

    endpoint_id: str
    event_id: str
    topic: str
    state: DeliveryState
    attempts: int
    status: int | None
    """Of the last answer; None when there was none."""
    said: str
    """The beginning of an answer that was no success, or why there was none."""
    duration_ms: float | None
    tried_at: float | None
    next_at: float | None
    """When it is tried again."""
    created_at: float


class EndpointDisabled(Struct, frozen=True):
    """An endpoint gets nothing any more, because nothing could be delivered. ``at`` is in seconds since the epoch."""

    endpoint_id: str
    url: str
    owner: str
    reason: str
    at: float


class Target(Struct, frozen=True, kw_only=True):
    """Where to send, and the sealed secrets to sign with."""

    url: str
    secret: str
    old_secret: str | None
    old_secret_until: float | None


class Task(Target, frozen=True, kw_only=True):
    """All that one attempt needs to know."""

    state: EndpointState
    body: str
    delivery_state: DeliveryState
    attempts: int
    round: int
    next_at: float | None


class Replayed(Struct, frozen=True):
    """A delivery that begins anew."""

    event_id: str
    position: int
    round: int
    order_key: str | None


_SHOWN = [c for c in endpoint.c if c.name not in ("service", "secret", "old_secret", "old_secret_until")]
_TARGET = [endpoint.c[name] for name in Target.__struct_fields__]
_SHOWN_DELIVERY = [delivery.c[name] for name in Delivery.__struct_fields__]
_one = (endpoint.c.id == sa.bindparam("id_"), endpoint.c.service == sa.bindparam("service_"))
_this = (
    delivery.c.endpoint_id == sa.bindparam("endpoint_id_"),
    delivery.c.event_id == sa.bindparam("event_id_"),
)

all_endpoints = (
    sa.select(*_SHOWN)
    .where(endpoint.c.service == sa.bindparam("service_"))
    .order_by(endpoint.c.created_at, endpoint.c.id)
)
one_endpoint = sa.select(*_SHOWN).where(*_one)
target = sa.select(*_TARGET).where(*_one)
add_endpoint = sa.insert(endpoint)
remove_endpoint = sa.delete(endpoint).where(*_one)
set_secret = (
    sa.update(endpoint)
    .where(*_one)
    .values(
        old_secret=endpoint.c.secret,
        old_secret_until=sa.bindparam("until"),
        secret=sa.bindparam("sealed"),
    )
)
enable = sa.update(endpoint).where(*_one).values(state="enabled", reason="", failures=0, failing_since=None)
disable = (
    sa.update(endpoint)
    .where(*_one, endpoint.c.state == "enabled")
    .values(state="disabled", reason=sa.bindparam("why"))
)
note_failure = (
    sa.update(endpoint)
    .where(*_one)
    .values(
        failures=endpoint.c.failures + 1,
        failing_since=sa.func.coalesce(endpoint.c.failing_since, sa.bindparam("now_", type_=sa.Double())),
    )
)
note_success = (
    sa.update(endpoint).where(*_one, endpoint.c.failures > 0).values(failures=0, failing_since=None)
)

add_event = sa.insert(event)
add_delivery = sa.insert(delivery)
task = (
    sa.select(
        *_TARGET,
        endpoint.c.state,
        event.c.body,
        delivery.c.state.label("delivery_state"),
        delivery.c.attempts,
        delivery.c.round,
        delivery.c.next_at,
    )
    .select_from(delivery)
    .join(endpoint, endpoint.c.id == delivery.c.endpoint_id)
    .join(event, sa.and_(event.c.service == endpoint.c.service, event.c.id == delivery.c.event_id))
    .where(*_this)
)
note_attempt = (
    sa.update(delivery)
    .where(*_this)
    .values(
        {
            name: sa.bindparam(name)
            for name in ("state", "attempts", "status", "said", "duration_ms", "tried_at", "next_at")
        }
    )
)
hold = sa.update(delivery).where(*_this).values(state="held", next_at=None)
log = (
    sa.select(*_SHOWN_DELIVERY)
    .where(delivery.c.endpoint_id == sa.bindparam("endpoint_id_"))
    .order_by(delivery.c.position.desc())
    .limit(sa.bindparam("limit_"))
)
remove_log = sa.delete(delivery).where(delivery.c.endpoint_id == sa.bindparam("id_"))
expired_events = sa.delete(event).where(event.c.created_at < sa.bindparam("before"))
expired_deliveries = sa.delete(delivery).where(delivery.c.created_at < sa.bindparam("before"))

to_replay = (
    sa.select(delivery.c.event_id, delivery.c.position, delivery.c.round, event.c.order_key)
    .join(event, event.c.id == delivery.c.event_id)
    .where(
        event.c.service == sa.bindparam("service_"),
        delivery.c.endpoint_id == sa.bindparam("endpoint_id_"),
        delivery.c.state.in_(sa.bindparam("states", expanding=True)),
        delivery.c.created_at >= sa.bindparam("since"),
        delivery.c.created_at <= sa.bindparam("until"),
        delivery.c.position > sa.bindparam("after"),
    )
    .order_by(delivery.c.position)
    .limit(sa.bindparam("limit_"))
)
begin_round = (
    sa.update(delivery)
    .where(*_this)
    .values(state="pending", attempts=0, round=delivery.c.round + 1, next_at=None)
)


def change_endpoint(changes: Sequence[str]) -> Any:
    """Set some columns."""
    return sa.update(endpoint).where(*_one).values({name: sa.bindparam(name) for name in changes})


def shown(row: Mapping[str, Any]) -> Endpoint:
    """An endpoint as it is shown."""
    topics = msgspec.json.decode(row["topics"], type=list[str])
    return msgspec.convert({**row, "topics": topics, "ordered": bool(row["ordered"])}, Endpoint)
