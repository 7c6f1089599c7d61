"""``IncomingWebhook``: what another party sends, verified, kept, and handled once.

The request is answered with 202 as soon as one row of the queue is committed; the work is done by a worker. Order:
none. Loss: what was answered with 2xx survives any crash, and is tried again by ``retry``; what does not fit
the declared type is parked with a sentence and can be retried once the code can read it. Duplicates: the handler's
inbox row, keyed by the sender's id, commits with its effect, so that the second of two deliveries changes nothing,
for as long as inbox rows are kept (``worker.retention_s``). Before that, while the first is pending, the second is not even
put into the queue. Errors for the sender: 401 for a wrong, missing or stale signature, 400 for what is no JSON, 413.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import msgspec
from msgspec import Struct

from tenfold._core.clock import Clock
from tenfold._core.container import Depends, describe, hints_of
from tenfold._core.sections import Settings
from tenfold.db.database import Tx
from tenfold.errors import (
    ConfigError,
    DeclarationError,
    MalformedBody,
    NotBound,
    WrongArguments,
)
from tenfold.http.operation import Operation, Policies
from tenfold.http.request import Request
from tenfold.queue.handler import Handler, plan_for
from tenfold.queue.queue import check_priority
from tenfold.queue.retry import Retry
from tenfold.security.policy import public
from tenfold.webhooks.providers import PROVIDERS, Arrived, Provider, Verified, WrongSignature
from tenfold.webhooks.received import Received

if TYPE_CHECKING:
    from tenfold._core.container import Container
    from tenfold.db.database import Database
    from tenfold.queue.queue import Queues

Secret = str | Sequence[str] | Callable[..., Any]
"""One, several that are all good, or a function that makes either of what is injected."""

EVENT_ID_MAX = 64
BODY_MAX_BYTES = 1_048_576


class Accepted(Struct, frozen=True):
    """The webhook is kept and will be handled. ``id`` is the sender's own."""

    id: str


class _Kept(Struct, kw_only=True):
    """The payload of the message."""

    id: str
    kind: str
    at: float
    data: msgspec.Raw


_decode_kept = msgspec.json.Decoder(_Kept).decode


class IncomingWebhook:
    """Made by ``@service.webhook(path, secret=…)``; the options are described there."""

    def __init__(
        self,
        service: str,
        path: str,
        fn: Callable[..., Any],
        *,
        secret: Secret,
        provider: str | Provider = "standard",
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = 60.0,
        queue: str = "default",
        priority: int = 0,
        concurrency: int | None = None,
        body_max_bytes: int = BODY_MAX_BYTES,
        limit: Any = None,
        tags: tuple[str, ...] = (),
    ) -> None:
        self.service = service
        self.fn = fn
        self.name = f"{service}.{name or fn.__name__}"
        self.provider = self._provider(provider)
        self.retry = retry or Retry(attempts=10)
        self.timeout_s = timeout
        self.queue = queue
        self.priority = check_priority(priority, self.name)
        self.concurrency = concurrency
        self._secrets = Depends(self._secrets_factory(secret), "singleton")
        self._bound: tuple[Queues, Database, Handler] | None = None
        policies = Policies(
            auth=public,
            status=202,
            body_max_bytes=body_max_bytes,
            idempotent=False,  # the sender's own id is looked at, whatever the service asks of its clients
            errors=(WrongSignature, MalformedBody),
            tags=tags,
        )
        if limit is not None:
            policies.limit = limit
        self.operation: Operation[..., Accepted] = Operation(
            self._receiver(),
            service=service,
            method="POST",
            path=path,
            policies=policies,
            name=f"{self.name}.receive",
        )

    def __repr__(self) -> str:
        return f"IncomingWebhook({self.name!r}, {self.operation.path!r})"

    # ── the request ──

    def _receiver(self) -> Callable[..., Awaitable[Accepted]]:
        """The operation's function. A secret that is made from settings is injected into it."""

        async def receive(request: Request, secret: Any, settings: Settings, clock: Clock) -> Accepted:
            return await self._receive(request, secret, settings.webhooks.tolerance_s, clock)

        receive.__name__, receive.__doc__ = f"receive_{self.fn.__name__}", self.fn.__doc__
        receive.__annotations__ = {
            "request": Request,
            "secret": Annotated[Any, self._secrets],
            "settings": Settings,
            "clock": Clock,
            "return": Accepted,
        }
        return receive

    def start_hook(self) -> Callable[..., Awaitable[None]]:
        """For the app's start: a secret that is none is found before the first webhook comes."""

        async def check(secret: Any) -> None: ...

        check.__name__ = f"check_{self.fn.__name__}"
        check.__annotations__ = {"secret": Annotated[Any, self._secrets], "return": None}
        return check

    def _secrets_factory(self, made: Secret) -> Callable[..., Any]:
        if not callable(made):
            known = self._checked(made)
            return lambda: known

        async def secrets(value: Any) -> Sequence[str]:
            return self._checked(value)

        secrets.__annotations__ = {"value": Annotated[Any, Depends(made, "singleton")]}
        return secrets

    def _checked(self, given: str | Sequence[str]) -> Sequence[str]:
        """The secrets. Raises :class:`ConfigError` without repeating one that cannot be."""
        secrets = [given] if isinstance(given, str) else list(given)
        try:
            for one in secrets or [""]:
                self.provider.check(one)
        except ValueError as error:
            raise ConfigError(str(error), where=f"webhook {self.name}") from None
        return secrets

    async def _receive(
        self, request: Request, secrets: Sequence[str], tolerance_s: float, clock: Clock
    ) -> Accepted:
        body = await request.body()
        arrived = Arrived(request.headers, body, clock.now())
        verified = self.provider.verify(arrived, secrets, tolerance_s)
        payload = _payload(verified, body, arrived.now)
        queues, database, handler = self._parts()
        queue, event_id = queues.of(database), _event_id(verified.id)
        message = queue.message(
            "event",
            self.name,
            payload,
            queue=self.queue,
            lane=handler.lane,
            priority=self.priority,
            event_id=event_id,
            unique_key=f"{self.name}:{event_id}",
        )
        async with database.tx() as tx:
            queue.put(tx, message)
        return Accepted(verified.id)

    # ── for the app ──

    def bind(self, queues: Queues, container: Container, database: Database | None) -> Handler:
        """What a worker needs. ``database`` is the service's."""
        if database is None:
            raise DeclarationError(
                "its service has no database to keep what comes in.",
                where=f"webhook {self.name}",
                remedy="Declare one: db = service.database(metadata).",
            )
        plan = plan_for(container, self.fn, self.name, database)
        parameter, type_, whole = self._parameter(set(plan.wanted))
        decode = _decoder(self.name, parameter, type_, whole)
        given = plan.uses(Tx)
        around = not given and inspect.iscoroutinefunction(self.fn)
        handler = Handler(
            self.name,
            "event",
            self.fn,
            decode,
            plan,
            database=database,
            retry=self.retry,
            timeout_s=self.timeout_s,
            concurrency=self.concurrency,
            inbox=True,
            transaction="given" if given else "around" if around else "none",
        )
        self._bound = queues, database, handler
        return handler

    def unbind(self) -> None:
        """Back to the state before :meth:`bind`."""
        self._bound = None

    def _parts(self) -> tuple[Queues, Database, Handler]:
        if self._bound is None:
            raise NotBound(f"The webhook {self.name} was called before its app started.")
        return self._bound

    def _parameter(self, injected: set[str]) -> tuple[str, Any, bool]:
        """Which parameter takes the webhook, the type of its body, and whether it wants the rest too."""
        left = [name for name in inspect.signature(self.fn).parameters if name not in injected]
        if len(left) != 1:
            raise DeclarationError(
                f"of its parameters, {left or 'none'} would be the webhook; nothing provides more than one.",
                where=f"{self.name}, {describe(self.fn)}",
                remedy="Take the body, or a Received[Body], in one parameter and let the container inject the others.",
            )
        hint = hints_of(self.fn).get(left[0], Any)
        if hint is Received:
            return left[0], Any, True
        if get_origin(hint) is Received:
            return left[0], get_args(hint)[0], True
        return left[0], hint, False

    @staticmethod
    def _provider(provider: str | Provider) -> Provider:
        if isinstance(provider, Provider):
            return provider
        try:
            return PROVIDERS[provider]
        except KeyError:
            raise DeclarationError(
                f"there is no provider {provider!r}.",
                where="Service.webhook",
                remedy=f"There are {', '.join(PROVIDERS)}; others are subclasses of Provider.",
            ) from None


def _payload(verified: Verified, body: bytes, now: float) -> str:
    try:
        text = body.decode()
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody(f"The body is signed, but is no JSON: {error}.") from None
    kept = _Kept(id=verified.id, kind=verified.kind, at=now, data=msgspec.Raw(text))
    return msgspec.json.encode(kept).decode()


def _event_id(id_: str) -> str:
    return id_ if len(id_) <= EVENT_ID_MAX else hashlib.sha256(id_.encode()).hexdigest()


def _decoder(name: str, parameter: str, type_: Any, whole: bool) -> Callable[[str], dict[str, Any]]:
    try:
        decode = msgspec.json.Decoder(type_).decode
    except TypeError as error:
        raise DeclarationError(
            f"its body type {type_!r} cannot be read from JSON: {error}.", where=name
        ) from None

    def decoded(payload: str) -> dict[str, Any]:
        try:
            kept = _decode_kept(payload)
            data = decode(kept.data)
        except msgspec.MsgspecError as error:
            raise WrongArguments(f"webhook {name}: {error}.") from None
        value = Received(id=kept.id, kind=kept.kind, at=kept.at, data=data) if whole else data
        return {parameter: value}

    return decoded
