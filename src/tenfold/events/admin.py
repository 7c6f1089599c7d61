"""What people do with events: see what lags, publish a time range again, deal with what is in quarantine.

For the CLI, metrics and dashboards; portable SQL, off the hot path.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import sqlalchemy as sa

from tenfold.errors import BrokerUnavailable, NotFound
from tenfold.events._outbox_sql import statements
from tenfold.events.tables import outbox
from tenfold.queue.admin import Admin, MessageInfo
from tenfold.queue.tables import archive, message

if TYPE_CHECKING:
    from tenfold.db.database import Database
    from tenfold.events.contract import Broker, Counts, Feed
    from tenfold.queue.queue import Queue

REPLAY_CHUNK = 1_000
"""Rows that one transaction of a replay puts back."""


SKEW_S = 3_600.0
"""Clocks of relays are not behind those of publishers by more."""


class Lag(NamedTuple):
    """What of one topic is not published yet."""

    topic: str
    unsent: int
    oldest_s: float
    """For how long the oldest of them has been waiting."""
    refused: int
    """How many of them the broker has refused at least once."""


class TopicInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One topic, as people see it."""

    name: str
    unsent: int = 0
    oldest_s: float = 0.0
    kept: int = 0
    """Published, and kept in the outbox for a replay."""
    error: str = ""
    """What the broker last said of an event that it has not taken."""


class SubscriptionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One subscription, as people see it."""

    name: str
    topic: str
    pending: int
    """In the queue: ready, delayed, running or waiting behind one of their key."""
    parked: int
    dead: int
    """In quarantine."""
    at_broker: int | None = None
    """Published and not taken in; None without a broker, or where it does not tell."""


class Overview(NamedTuple):
    """Everything about the events of an app."""

    topics: list[TopicInfo]
    subscriptions: list[SubscriptionInfo]
    trouble: str = ""
    """Why the broker could not be asked; empty when it answered, or when there is none."""


_c = outbox.c
_unsent = (
    sa.select(
        _c.topic,
        sa.func.count(),
        sa.func.min(_c.created_at),
        sa.func.sum(sa.case((_c.failures > 0, 1), else_=0)),
    )
    .where(_c.sent_at.is_(None))
    .group_by(_c.topic)
)
_kept = sa.select(_c.topic, sa.func.count()).where(_c.sent_at.is_not(None)).group_by(_c.topic)
_errors = (
    sa.select(_c.topic, _c.error)
    .where(_c.sent_at.is_(None), _c.error.is_not(None))
    .order_by(_c.id)
    .limit(200)
)
_hot = sa.select(message.c.handler, message.c.state, sa.func.count()).where(message.c.kind == "event")
_hot = _hot.group_by(message.c.handler, message.c.state)
_dead = (
    sa.select(archive.c.handler, sa.func.count())
    .where(archive.c.state == "dead", archive.c.kind == "event")
    .group_by(archive.c.handler)
)
_between = [
    # By the relay's clock, which may be behind the publisher's; it only spares reading what is older.
    _c.sent_at >= sa.bindparam("since") - SKEW_S,
    _c.created_at.between(sa.bindparam("since"), sa.bindparam("till")),
]
_found = sa.select(_c.id).where(*_between, _c.id > sa.bindparam("after")).order_by(_c.id)
_found = _found.limit(sa.bindparam("most"))
_found_of = _found.where(_c.topic == sa.bindparam("name"))
_count = sa.select(sa.func.count()).select_from(outbox).where(*_between)
_count_of = _count.where(_c.topic == sa.bindparam("name"))


class EventsAdmin:
    """See the module's docstring. ``broker`` is None where the database carries the events."""

    def __init__(self, queue: Queue, broker: Broker | None = None) -> None:
        self._queue, self._broker = queue, broker
        self._messages = Admin(queue)

    @property
    def _database(self) -> Database:
        return self._queue.database

    # ── looking ──

    async def lag(self) -> list[Lag]:
        """What is not published yet, by topic. Its cost grows with the number of unsent events."""
        now = self._queue.clock.now()
        rows = await self._database.read(consistency="strong").all(_unsent, tuple)
        return [
            Lag(topic, count, max(0.0, now - oldest), int(refused)) for topic, count, oldest, refused in rows
        ]

    async def overview(self, topics: Sequence[str], feeds: Sequence[Feed]) -> Overview:
        """Topics and subscriptions of the code, and those that only rows know of."""
        lag = {one.topic: one for one in await self.lag()}
        async with self._database.read(consistency="strong") as reader:
            kept: dict[str, int] = dict(await reader.all(_kept, tuple))
            errors: dict[str, str] = dict(reversed(await reader.all(_errors, tuple)))
            hot: list[tuple[str, str, int]] = await reader.all(_hot, tuple)
            dead: dict[str, int] = dict(await reader.all(_dead, tuple))
        names = sorted({*topics, *lag, *kept})
        known = {feed.name: feed.topic for feed in feeds}
        subscriptions = sorted({*known, *dead, *(handler for handler, _, _ in hot)})
        at_broker, trouble = await self._at_broker(feeds)
        return Overview(
            [_topic(name, lag.get(name), kept.get(name, 0), errors.get(name, "")) for name in names],
            [
                _subscription(name, known.get(name, ""), hot, dead, at_broker.get(name))
                for name in subscriptions
            ],
            trouble,
        )

    async def _at_broker(self, feeds: Sequence[Feed]) -> tuple[dict[str, Counts | None], str]:
        """Nothing, and why, when the broker is away: what else there is to see is shown all the same."""
        found: dict[str, Counts | None] = {}
        if self._broker is None:
            return found, ""
        for feed in feeds:
            try:
                found[feed.name] = await self._broker.counts(feed)
            except BrokerUnavailable as error:
                return {}, str(error)
        return found, ""

    # ── publishing again ──

    async def count(self, since: float, until: float, topic: str | None = None) -> int:
        """How many published events of that time (seconds since the epoch) a replay would publish again."""
        reader = self._database.read(consistency="strong")
        statement = _count if topic is None else _count_of
        return int(await reader.scalar(statement, **_range(since, until, topic)))

    async def replay(self, since: float, until: float, topic: str | None = None) -> AsyncGenerator[int]:
        """Have the relay publish again what was published between two times, oldest first; yields how many it has
        put back so far. Subscriptions that have handled an event, or given it up, do not handle it again
        (``events.inbox_keep_s``)."""
        done, after = 0, 0
        statement = _found if topic is None else _found_of
        given = _range(since, until, topic)
        while True:
            async with self._database.tx() as tx:
                ids = await tx.all(statement, int, after=after, most=REPLAY_CHUNK, **given)
                if not ids:
                    return
                sql = statements(tx.database)
                await tx.execute(sql.again, ids=sql.list(ids))
            done, after = done + len(ids), ids[-1]
            yield done

    # ── quarantine ──

    async def quarantine(self, subscription: str | None = None, limit: int = 50) -> list[MessageInfo]:
        """Dead event messages with their error, newest first."""
        found = await self._messages.list(state="dead", handler=subscription, limit=500)
        return [info for info in found if info.kind == "event"][:limit]

    async def retry(self, ids: Sequence[int]) -> None:
        """Handle them again, as if new. Raises NotFound for one that is no event."""
        for id_ in ids:
            info = await self._messages.show(id_)
            if info.kind != "event":
                raise NotFound(f"Message {id_} is no event but a {info.kind}; see `tenfold jobs retry`.")
            await self._messages.retry(id_)

    async def retry_all(self, subscription: str | None = None) -> int:
        """Handle again everything that is in quarantine, of one subscription or of all; answers how much."""
        retried = 0
        while found := await self.quarantine(subscription, limit=500):
            await self.retry([info.id for info in found])
            retried += len(found)
        return retried


def _range(since: float, until: float, topic: str | None) -> dict[str, Any]:
    return {"since": since, "till": until, **({} if topic is None else {"name": topic})}


def _topic(name: str, lag: Lag | None, kept: int, error: str) -> TopicInfo:
    unsent, oldest_s = (lag.unsent, lag.oldest_s) if lag is not None else (0, 0.0)
    return TopicInfo(name=name, unsent=unsent, oldest_s=oldest_s, kept=kept, error=error)


def _subscription(
    name: str, topic: str, hot: Sequence[tuple[str, str, int]], dead: dict[str, int], counts: Counts | None
) -> SubscriptionInfo:
    mine = {state: count for handler, state, count in hot if handler == name}
    parked = mine.pop("parked", 0)
    return SubscriptionInfo(
        name=name,
        topic=topic,
        pending=sum(mine.values()),
        parked=parked,
        dead=dead.get(name, 0),
        at_broker=None if counts is None else counts.waiting,
    )
