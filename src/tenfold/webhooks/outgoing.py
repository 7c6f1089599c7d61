"""``Webhooks``: who gets which events, and what became of them. Made by ``Service.webhooks``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from tenfold._core.clock import Clock
from tenfold._core.sections import Settings
from tenfold._core.text import nearest
from tenfold.errors import (
    ConfigError,
    Conflict,
    DeclarationError,
    FieldError,
    InvalidInput,
    NotBound,
    NotFound,
)
from tenfold.events.topic import Topic
from tenfold.guard import addresses
from tenfold.webhooks import signature, store
from tenfold.webhooks.delivering import Delivering, body_of
from tenfold.webhooks.policy import Patience
from tenfold.webhooks.store import ALL, Delivery, DeliveryState, Endpoint, EndpointDisabled
from tenfold.webhooks.vault import Vault

if TYPE_CHECKING:
    from tenfold.db.database import Database, Reader, Tx
    from tenfold.webhooks.contract import Answer, Sender

log = logging.getLogger("tenfold.webhooks")

ENDPOINTS_MAX = 1000
"""Of one service. Every event looks at all of them."""
CONCURRENCY_MAX = 64
OVERLAP_S = 86_400.0
LOG_MAX = 500
TEST_TYPE = "webhook.test"


class NewEndpoint(Struct, frozen=True):
    """An endpoint with its secret. This is the only time the secret is shown."""

    endpoint: Endpoint
    secret: str


class Webhooks:
    """The outgoing webhooks of one service: ``hooks = orders.webhooks(placed, cancelled)``.

    Each event of ``topics`` becomes one delivery per enabled endpoint that wants its topic. What is promised stands in
    :mod:`tenfold.webhooks.contract`; how long is tried, in ``patience``.
    """

    def __init__(
        self, service: str, database: Database, topics: Sequence[Topic[Any]], patience: Patience
    ) -> None:
        if not topics:
            raise DeclarationError(
                "it names no topic whose events would be sent.", where=f"{service}.webhooks"
            )
        self.service = service
        self.database = database
        self.topics = tuple(topics)
        self.patience = patience
        self.disabled: Topic[EndpointDisabled] = Topic(service, "webhook-endpoint-disabled", EndpointDisabled)
        """Published when an endpoint is given up; subscribe to it like to any topic."""
        self.work = Delivering(self)
        self._bound: tuple[Settings, Clock, Vault] | None = None

    def __repr__(self) -> str:
        return f"Webhooks({self.service!r}, {', '.join(topic.name for topic in self.topics)})"

    # ── endpoints ──

    async def add(
        self,
        tx: Tx,
        url: str,
        topics: Sequence[str] = (ALL,),
        *,
        owner: str = "",
        secret: str | None = None,
        concurrency: int = 4,
        ordered: bool = False,
    ) -> NewEndpoint:
        """A new endpoint, enabled; its secret is made unless one is given.

        ``owner`` is the e-mail address that is told when it is disabled. ``concurrency`` bounds the deliveries under
        way at a time, in the whole fleet. ``ordered`` keeps the order of events of one key. Raises
        :class:`InvalidInput` with every field that is wrong, :class:`Conflict` beyond ENDPOINTS_MAX.
        """
        _, clock, vault = self._parts()
        secret = signature.new_secret(clock.random) if secret is None else secret
        fields = self._checked(
            {
                "url": url,
                "topics": list(topics),
                "owner": owner,
                "secret": secret,
                "concurrency": concurrency,
                "ordered": ordered,
            }
        )
        if len(await self.endpoints(tx)) >= ENDPOINTS_MAX:
            raise Conflict(f"There are {ENDPOINTS_MAX:,} endpoints already; remove one first.")
        id_ = clock.uuid()
        row = {
            **fields,
            "id": id_,
            "service": self.service,
            "state": "enabled",
            "reason": "",
            "secret": vault.seal(secret, id_),
            "old_secret": None,
            "old_secret_until": None,
            "failures": 0,
            "failing_since": None,
            "created_at": clock.now(),
        }
        await tx.execute(store.add_endpoint, row)
        return NewEndpoint(await self.get(id_, tx), secret)

    async def endpoints(self, reader: Reader | None = None) -> list[Endpoint]:
        """Every endpoint, oldest first."""
        rows = await (reader or self.database.read()).all(store.all_endpoints, dict, service_=self.service)
        return [store.shown(row) for row in rows]

    async def get(self, endpoint_id: str, reader: Reader | None = None) -> Endpoint:
        """Raises :class:`NotFound`."""
        row = await (reader or self.database.read()).maybe(
            store.one_endpoint, dict, id_=endpoint_id, service_=self.service
        )
        if row is None:
            raise _no_endpoint(endpoint_id)
        return store.shown(row)

    async def change(self, tx: Tx, endpoint_id: str, **changes: Any) -> Endpoint:
        """Change ``url``, ``topics``, ``owner``, ``concurrency`` or ``ordered``; what is on its way follows.

        Raises :class:`NotFound`, :class:`InvalidInput`.
        """
        await self.get(endpoint_id, tx)
        fields = self._checked(changes)
        if fields:
            statement = store.change_endpoint(sorted(fields))
            await tx.execute(statement, {**fields, "id_": endpoint_id, "service_": self.service})
        return await self.get(endpoint_id, tx)

    async def remove(self, tx: Tx, endpoint_id: str) -> None:
        """Remove an endpoint with its log; what is on its way to it is dropped. Raises :class:`NotFound`."""
        if not await tx.execute(store.remove_endpoint, id_=endpoint_id, service_=self.service):
            raise _no_endpoint(endpoint_id)
        await tx.execute(store.remove_log, id_=endpoint_id)

    async def rotate(self, tx: Tx, endpoint_id: str, *, overlap_s: float = OVERLAP_S) -> NewEndpoint:
        """Give an endpoint a new secret; for ``overlap_s`` seconds, the old one signs too.

        Raises :class:`NotFound`.
        """
        _, clock, vault = self._parts()
        shown = await self.get(endpoint_id, tx)
        secret = signature.new_secret(clock.random)
        sealed, until = vault.seal(secret, endpoint_id), clock.now() + overlap_s
        await tx.execute(store.set_secret, id_=endpoint_id, service_=self.service, sealed=sealed, until=until)
        return NewEndpoint(shown, secret)

    async def enable(self, tx: Tx, endpoint_id: str) -> Endpoint:
        """Send to it again from the next event on; :meth:`replay` brings what it missed. Raises :class:`NotFound`."""
        await tx.execute(store.enable, id_=endpoint_id, service_=self.service)
        return await self.get(endpoint_id, tx)

    async def disable(self, tx: Tx, endpoint_id: str, reason: str = "Somebody disabled it.") -> Endpoint:
        """Send nothing to it; events are noted as held. Raises :class:`NotFound`."""
        await tx.execute(store.disable, id_=endpoint_id, service_=self.service, why=reason)
        return await self.get(endpoint_id, tx)

    # ── deliveries ──

    async def log(self, endpoint_id: str, *, limit: int = 50) -> list[Delivery]:
        """The newest deliveries to an endpoint, with what became of each. Raises :class:`NotFound`."""
        await self.get(endpoint_id)
        return await self.database.read().all(
            store.log, Delivery, endpoint_id_=endpoint_id, limit_=min(limit, LOG_MAX)
        )

    async def replay(
        self,
        endpoint_id: str,
        since: float,
        until: float | None = None,
        *,
        states: Sequence[DeliveryState] = ("failed", "held"),
    ) -> int:
        """Deliver again what was not: the events from ``since`` to ``until`` (seconds since the epoch) whose delivery
        is in one of ``states``; returns their number. Raises :class:`NotFound`, :class:`Conflict` while the endpoint
        is disabled.

        With ``"delivered"`` among the states, a receiver that lost what it had gets everything again, under the same
        ids.
        """
        found = await self.get(endpoint_id)
        if found.state == "disabled":
            raise Conflict(f"The webhook endpoint {endpoint_id} is disabled; enable it first.")
        end = self._parts()[1].now() if until is None else until
        return await self.work.replay(found, since, end, states)

    async def test(self, endpoint_id: str, sender: Sender) -> Answer:
        """Send an event of type ``webhook.test`` now, whatever the endpoint's state, and tell the answer. It is
        neither logged nor tried again. Raises :class:`NotFound`."""
        _, clock, _ = self._parts()
        target = await self.database.read().maybe(
            store.target, store.Target, id_=endpoint_id, service_=self.service
        )
        if target is None:
            raise _no_endpoint(endpoint_id)
        body = body_of(TEST_TYPE, clock.now(), {"endpoint_id": endpoint_id})
        return await self.work.post(target, endpoint_id, clock.uuid(), body, sender, clock)

    # ── life ──

    async def start(self, settings: Settings, clock: Clock) -> None:
        """For the app: what the settings say is checked here. Raises :class:`ConfigError`."""
        if library := missing_library():
            log.warning("%s sends no webhooks: %s", self.service, library)
        self.bind(settings, clock)

    def bind(self, settings: Settings, clock: Clock) -> None:
        """The same for the commands that do not start the app."""
        from tenfold.security.keys import secret_key

        check_networks(settings)
        key = secret_key(settings.app, Path(settings.app.data_dir), clock)
        self._bound = settings, clock, Vault(key.derive("webhooks"), clock.random)

    def _parts(self) -> tuple[Settings, Clock, Vault]:
        if self._bound is None:
            raise NotBound(f"The webhooks of {self.service} were used before their app started.")
        return self._bound

    # ── for the work ──

    def secrets_of(self, target: store.Target, endpoint_id: str) -> list[str]:
        """The secrets that sign now, the newest first."""
        _, clock, vault = self._parts()
        sealed = [target.secret]
        if target.old_secret is not None and (target.old_secret_until or 0.0) > clock.now():
            sealed.append(target.old_secret)
        return [vault.open(one, endpoint_id) for one in sealed]

    def place_of(self, url: str) -> addresses.Place:
        """The parts of an endpoint's URL by the rules of today. Raises ValueError."""
        settings = self._parts()[0]
        plain = settings.webhooks.plain_http
        return addresses.place_of(
            url,
            plain_http=settings.app.env != "production" if plain is None else plain,
            allowed=addresses.networks(settings.webhooks.allow),
        )

    def _checked(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Columns for the fields. Raises :class:`InvalidInput` that names every wrong one."""
        wrong: list[FieldError] = []
        columns: dict[str, Any] = {}
        for name, value in fields.items():
            try:
                columns[name] = self._column(name, value)
            except ValueError as error:
                wrong.append(FieldError(in_="body", path=name, message=str(error)))
        if wrong:
            raise InvalidInput(errors=wrong)
        return columns

    def _column(self, name: str, value: Any) -> Any:
        match name:
            case "url":
                return self.place_of(value).url
            case "topics":
                return msgspec.json.encode(self._topics(value)).decode()
            case "owner":
                return _owner(value)
            case "secret":
                signature.key_of(value)
                return value
            case "concurrency":
                if not 1 <= value <= CONCURRENCY_MAX:
                    raise ValueError(f"it is not a number from 1 to {CONCURRENCY_MAX}.")
                return value
            case "ordered":
                return int(value)
            case _:
                raise ValueError("an endpoint has no such field that could be changed.")

    def _topics(self, names: Sequence[str]) -> list[str]:
        known = [topic.name for topic in self.topics]
        if not names:
            raise ValueError(f'it is empty; name topics ({", ".join(known)}), or "*" for all.')
        for name in names:
            if name != ALL and name not in known:
                raise ValueError(f"there is no topic {name!r}.{nearest(name, known)}")
        return sorted(set(names))


def _no_endpoint(endpoint_id: str) -> NotFound:
    return NotFound(f"There is no webhook endpoint {endpoint_id!r}.")


def _owner(value: str) -> str:
    from tenfold.mail.address import parse_address

    return parse_address(value).address if value else ""


def check_networks(settings: Settings) -> None:
    """Raises :class:`ConfigError` for a network that is none."""
    try:
        addresses.networks(settings.webhooks.allow)
    except ValueError as error:
        raise ConfigError(str(error), where="webhooks.allow", remedy='Write ["10.1.0.0/16"].') from None


def missing_library() -> str:
    """A sentence when what sends is not installed, without loading it; else empty."""
    if find_spec("httpcore2") is not None:
        return ""
    return "it needs the library 'httpcore2', which is not installed. Run: pip install 'tenfold[webhooks]'"
