"""A service: one module of a backend, with everything it declares.

Declarations are plain objects in plain lists; nothing is registered anywhere else. An :class:`~tenfold.app.App`
collects services, checks them, and gives their databases, caches and queues something to work with.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, overload

from msgspec import Struct
from typing_extensions import TypedDict, Unpack

from tenfold._core.container import Scope, describe
from tenfold._core.context import Priority
from tenfold.cache.cache import Cache
from tenfold.db.database import Database
from tenfold.errors import DeclarationError, Problem
from tenfold.events.schema import Upcaster
from tenfold.events.subscription import Subscription
from tenfold.events.topic import Topic
from tenfold.eventstore.aggregate import Aggregate, Decide
from tenfold.eventstore.projection import BATCH, Mode, OnPoison, Projection
from tenfold.eventstore.record import Event, Recorded
from tenfold.guard.rates import Limit, as_limit
from tenfold.http.operation import UNSET, Operation, Policies, ResponseCache
from tenfold.http.websocket import WebSocketOperation
from tenfold.jobs.delivery import Delivery
from tenfold.jobs.job import Job, Unique
from tenfold.queue.options import QueueOptions
from tenfold.queue.retry import Retry
from tenfold.schedules.calendar import MISSED_MAX, Missed
from tenfold.schedules.schedule import Schedule

if TYPE_CHECKING:
    import sqlalchemy as sa

    from tenfold.webhooks.incoming import IncomingWebhook
    from tenfold.webhooks.outgoing import Webhooks
    from tenfold.webhooks.policy import Patience
    from tenfold.webhooks.providers import Provider as WebhookProvider
    from tenfold.webhooks.providers import ProviderName

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
S = TypeVar("S")
C = TypeVar("C")
F = TypeVar("F", bound=Callable[..., Any])


class OperationOptions(TypedDict, total=False):
    """What surrounds an operation; see :class:`~tenfold.http.operation.Policies` for each."""

    auth: Any
    status: int | None
    idempotent: bool | Literal["required"]
    limit: str | Limit | None
    timeout_s: float | None
    cache: ResponseCache | None
    etag: bool
    body_max_bytes: int | None
    unknown_fields: Literal["reject", "ignore"]
    response_model: Any
    priority: Priority
    errors: tuple[type[Problem], ...]
    tags: tuple[str, ...]
    summary: str
    description: str
    deprecated: bool
    hidden: bool


class _Decorator(Protocol):
    """Turns a function into an operation of the same signature."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Operation[P, R]: ...

    @overload
    def __call__(self, fn: Callable[P, R], /) -> Operation[P, R]: ...


class _JobDecorator(Protocol):
    """Turns a function into a job of the same signature."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Job[P, R]: ...

    @overload
    def __call__(self, fn: Callable[P, R], /) -> Job[P, R]: ...


@dataclass(frozen=True, slots=True)
class Mount:
    """Another ASGI application below a path."""

    path: str
    app: Any
    auth: Any


@dataclass(frozen=True, slots=True)
class Provider:
    """A factory for a type, registered with :meth:`Service.provide`."""

    type: Any
    factory: Callable[..., Any]
    scope: Scope


class Service:
    """A module of the backend.

    ``prefix`` stands before every path. ``auth`` is the policy of operations that name none; without either,
    the app does not start. ``limit`` is a rate limit that its operations share, besides their own. ``settings`` is a msgspec Struct, read from ``[services.NAME]`` and injected by type.
    ``tags`` group its operations in the documentation (default: the service's name).
    """

    def __init__(
        self,
        name: str,
        *,
        prefix: str = "",
        auth: Any = UNSET,
        limit: str | Limit | None = None,
        settings: type[Any] | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        if not name.replace("-", "_").isidentifier() or name != name.lower():
            raise DeclarationError(
                f"{name!r} is not a service name.",
                where="Service",
                remedy="Use lower-case letters, digits, '-' and '_', beginning with a letter.",
            )
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise DeclarationError(
                f"its prefix {prefix!r} must begin with a slash and not end with one.",
                where=f"service {name}",
            )
        if settings is not None and not (isinstance(settings, type) and issubclass(settings, Struct)):
            raise DeclarationError(
                f"its settings {settings!r} are not a msgspec Struct.",
                where=f"service {name}",
                remedy="Write `class MySettings(msgspec.Struct, frozen=True): ...`.",
            )
        self.name = name
        self.prefix = prefix
        self.auth = auth
        self.limit = None if limit is None else as_limit(limit)
        self.settings_type = settings
        self.tags = tuple(tags) or (name,)
        self.home = _caller_folder()
        """Folder of the module that declares the service; migrations are kept below it."""
        self.operations: list[Operation[..., Any]] = []
        self.jobs: list[Job[..., Any]] = []
        self.topics: list[Topic[Any]] = []
        self.queues: list[QueueOptions] = []
        self.subscriptions: list[Subscription] = []
        self.schedules: list[Schedule] = []
        self.aggregates: list[Aggregate[Any, Any]] = []
        self.projections: list[Projection] = []
        self.websockets: list[WebSocketOperation] = []
        self.webhooks_in: list[IncomingWebhook] = []
        self.webhooks_out: list[Webhooks] = []
        self.databases: list[Database] = []
        self.caches: list[Cache] = []
        self.mounts: list[Mount] = []
        self.providers: list[Provider] = []
        self.start_hooks: list[Callable[..., Any]] = []
        self.stop_hooks: list[Callable[..., Any]] = []

    def __repr__(self) -> str:
        return f"<Service {self.name}>"

    # ── resources ──

    def database(self, metadata: sa.MetaData, *, migrations: str | Path | None = None) -> Database:
        """The service's own database: the tables of ``metadata``.

        Where it lives is a setting (``[database]``); embedded SQLite until configured otherwise. ``migrations``
        is the folder of its Alembic scripts, default ``migrations/NAME`` beside the module.
        """
        folder = self.home / (migrations or Path("migrations") / self.name.replace("-", "_"))
        if self.databases:
            raise DeclarationError("it has a database already.", where=f"service {self.name}")
        database = Database(self.name, metadata, migrations=folder)
        self.databases.append(database)
        return database

    def cache(
        self,
        name: str = "",
        *,
        ttl_s: float = 60.0,
        stale_s: float = 0.0,
        negative_ttl_s: float | None = None,
        strict: bool = False,
    ) -> Cache:
        """A cache; entries live ``ttl_s`` seconds unless said otherwise. ``strict``: no read is older than an
        acknowledged write, on whichever instance (see docs/guides/caching.md)."""
        cache = Cache(
            f"{self.name}.{name}" if name else self.name,
            ttl_s=ttl_s,
            stale_s=stale_s,
            negative_ttl_s=negative_ttl_s,
            strict=strict,
        )
        self.caches.append(cache)
        return cache

    def topic(
        self,
        name: str,
        type_: type[T],
        *,
        version: int = 1,
        upcast: Mapping[int, Upcaster] | None = None,
    ) -> Topic[T]:
        """A topic: facts of type ``type_`` that this service publishes and others subscribe to with ``on``.

        ``version`` and ``upcast`` are described in :class:`~tenfold.events.topic.Topic`.
        """
        topic = Topic(self.name, name, type_, version=version, upcast=upcast)
        self.topics.append(topic)
        return topic

    def provide(self, type_: Any, factory: Callable[..., Any], *, scope: Scope = "singleton") -> None:
        """Inject ``factory``'s value wherever a parameter is annotated with ``type_``, in the whole app."""
        self.providers.append(Provider(type_, factory, scope))

    # ── operations ──

    def get(self, path: str, **options: Unpack[OperationOptions]) -> _Decorator:
        """Answer ``GET path``. Options: :class:`OperationOptions`."""
        return self._operation("GET", path, options)

    def post(self, path: str, **options: Unpack[OperationOptions]) -> _Decorator:
        """Answer ``POST path``. Options: :class:`OperationOptions`."""
        return self._operation("POST", path, options)

    def put(self, path: str, **options: Unpack[OperationOptions]) -> _Decorator:
        """Answer ``PUT path``. Options: :class:`OperationOptions`."""
        return self._operation("PUT", path, options)

    def patch(self, path: str, **options: Unpack[OperationOptions]) -> _Decorator:
        """Answer ``PATCH path``. Options: :class:`OperationOptions`."""
        return self._operation("PATCH", path, options)

    def delete(self, path: str, **options: Unpack[OperationOptions]) -> _Decorator:
        """Answer ``DELETE path``. Options: :class:`OperationOptions`."""
        return self._operation("DELETE", path, options)

    def internal(self, fn: Callable[P, Coroutine[Any, Any, R]]) -> Operation[P, R]:
        """An operation without a route: other services may call it, clients may not."""
        operation: Operation[P, R] = Operation(fn, service=self.name, method="POST", path="/")
        operation.routed = False
        self.operations.append(operation)
        return operation

    def websocket(self, path: str, *, auth: Any = UNSET) -> Callable[[F], F]:
        """Talk over a WebSocket at ``path``; ``auth`` is checked before the connection is accepted."""

        def declare(fn: F) -> F:
            policy = self.auth if auth is UNSET else auth
            self.websockets.append(
                WebSocketOperation(fn, service=self.name, path=self.prefix + path, auth=policy)
            )
            return fn

        return declare

    def mount(self, path: str, app: Any, *, auth: Any = UNSET) -> None:
        """Hand every request below ``path`` to another ASGI application, once ``auth`` has let it pass."""
        self.mounts.append(Mount(self.prefix + path, app, self.auth if auth is UNSET else auth))

    def _operation(self, method: str, path: str, options: OperationOptions) -> _Decorator:
        policies = Policies(**options)
        policies.auth = self.auth if policies.auth is UNSET else policies.auth
        policies.tags = policies.tags or self.tags

        def declare(fn: Callable[P, Any]) -> Operation[P, Any]:
            operation: Operation[P, Any] = Operation(
                fn, service=self.name, method=method, path=self.prefix + path, policies=policies
            )
            self.operations.append(operation)
            return operation

        return declare

    # ── background ──

    def job(
        self,
        *,
        retry: Retry | None = None,
        timeout: float | None = 60.0,
        queue: str = "default",
        priority: int = 0,
        unique: Unique = False,
        concurrency: int | None = None,
        cpu: bool = False,
        result_ttl: float | None = None,
        events: Sequence[Topic[Any]] = (),
        name: str | None = None,
    ) -> _JobDecorator:
        """Background work: ``await fn.enqueue(tx, …)`` makes it exist if and only if ``tx`` commits.

        The options are described in :class:`~tenfold.jobs.job.Job`; times are in seconds. ``events`` are the topics
        that it waits for, when it is a :class:`~tenfold.jobs.flow.Flow`.
        """

        def declare(fn: Callable[P, Any]) -> Job[P, Any]:
            job: Job[P, Any] = Job(
                self.name,
                fn,
                name=name,
                retry=retry,
                timeout=timeout,
                queue=queue,
                priority=priority,
                unique=unique,
                concurrency=concurrency,
                cpu=cpu,
                result_ttl=result_ttl,
                deliveries=[self._delivery(topic) for topic in events],
            )
            self.jobs.append(job)
            return job

        return declare

    def _delivery(self, topic: Topic[Any]) -> Delivery:
        """What brings the events of a topic to the flows of this service: one for all of them."""
        for known in self.subscriptions:
            if isinstance(known, Delivery) and known.topic is topic:
                return known
        made = Delivery(self.name, topic)
        self.subscriptions.append(made)
        return made

    def on(
        self,
        topic: Topic[Any],
        *,
        retry: Retry | None = None,
        timeout: float | None = 60.0,
        queue: str = "default",
        priority: int = 0,
        concurrency: int | None = None,
        name: str | None = None,
    ) -> Callable[[F], F]:
        """Handle every event of ``topic``: inbox row, effect and acknowledgement commit together."""

        def declare(fn: F) -> F:
            subscription = Subscription(
                self.name,
                topic,
                fn,
                name=name,
                retry=retry,
                timeout=timeout,
                queue=queue,
                priority=priority,
                concurrency=concurrency,
            )
            self.subscriptions.append(subscription)
            return fn

        return declare

    def queue(
        self,
        name: str,
        *,
        rate: str = "",
        concurrency: int | None = None,
        fair: bool = True,
        keep: Mapping[str, float] | None = None,
    ) -> QueueOptions:
        """Say something of a queue; all queues exist anyway. Each can be said differently under ``[queues.NAME]``.

        ``rate`` bounds how many messages start ("100/minute", "100/minute burst 10"), ``concurrency`` how many run at a
        time, both in the whole fleet. ``fair`` (default): its tenants take turns. ``keep`` says for how many seconds
        finished messages are kept: ``{"done": …, "dead": …, "cancelled": …}``.
        """
        options = QueueOptions(name, rate, concurrency, fair, keep)
        self.queues.append(options)
        return options

    def every(
        self,
        when: str | float | timedelta,
        *,
        timezone: str = "UTC",
        missed: Missed = "once",
        missed_max: int = MISSED_MAX,
        queue: str = "default",
        retry: Retry | None = None,
        timeout: float | None = 300.0,
        name: str | None = None,
    ) -> Callable[[F], F]:
        """Run at every tick of a cron expression or an interval (seconds), once in the whole fleet.

        ``missed``, ``missed_max`` and ``timezone`` are described in :class:`~tenfold.schedules.schedule.Schedule`; ``timeout`` is
        in seconds.
        """

        def declare(fn: F) -> F:
            schedule = Schedule(
                self.name,
                fn,
                when,
                timezone=timezone,
                missed=missed,
                missed_max=missed_max,
                queue=queue,
                retry=retry,
                timeout=timeout,
                name=name,
            )
            self.schedules.append(schedule)
            return fn

        return declare

    # ── webhooks ──

    def webhook(
        self,
        path: str,
        *,
        secret: str | Sequence[str] | Callable[..., Any],
        provider: ProviderName | WebhookProvider = "standard",
        retry: Retry | None = None,
        timeout: float | None = 60.0,
        queue: str = "default",
        priority: int = 0,
        concurrency: int | None = None,
        body_max_bytes: int = 1_048_576,
        limit: str | Limit | None = None,
        name: str | None = None,
    ) -> Callable[[F], F]:
        """Take in webhooks at ``POST path``: verified, kept, answered with 202, and handled once by a worker.

        The function takes the body, or a :class:`~tenfold.webhooks.Received` of it, and what is injected; with
        ``tx: Tx``, its effect commits together with the note that this webhook was handled. ``secret`` is a text,
        several that are all good (while one is replaced), or a function that makes either of what is injected,
        such as the service's settings. The other options are those of :meth:`on`; what is promised stands in
        :mod:`tenfold.webhooks.incoming`.
        """

        def declare(fn: F) -> F:
            from tenfold.webhooks.incoming import IncomingWebhook

            hook = IncomingWebhook(
                self.name,
                self.prefix + path,
                fn,
                secret=secret,
                provider=provider,
                name=name,
                retry=retry,
                timeout=timeout,
                queue=queue,
                priority=priority,
                concurrency=concurrency,
                body_max_bytes=body_max_bytes,
                limit=limit,
                tags=self.tags,
            )
            self.webhooks_in.append(hook)
            self.operations.append(hook.operation)
            self.start_hooks.append(hook.start_hook())
            return fn

        return declare

    def webhooks(
        self, *topics: Topic[Any], path: str = "", auth: Any = UNSET, patience: Patience | None = None
    ) -> Webhooks:
        """Send the events of ``topics`` to endpoints that are added at run time; see
        :class:`~tenfold.webhooks.outgoing.Webhooks`. They are kept in the service's database.

        With a ``path``, operations below it manage them, for who passes ``auth``.
        """
        from tenfold.webhooks.outgoing import Webhooks
        from tenfold.webhooks.policy import Patience

        if not self.databases:
            raise DeclarationError(
                "its endpoints are kept in a database, and it has none yet.",
                where=f"service {self.name}, webhooks",
                remedy="Declare one before: db = service.database(metadata).",
            )
        hooks = Webhooks(self.name, self.databases[0], topics, patience or Patience())
        self.topics.append(hooks.disabled)
        self.jobs += hooks.work.jobs
        self.subscriptions += hooks.work.subscriptions
        self.schedules += hooks.work.schedules
        self.start_hooks.append(hooks.start)
        self.webhooks_out.append(hooks)
        if path:
            from tenfold.webhooks import operations

            operations.declare(self, hooks, path, auth)
        return hooks

    # ── event sourcing ──

    def aggregate(
        self,
        name: str,
        *,
        events: Sequence[type[Any] | Event[Any]],
        state: type[S],
        evolve: Callable[[S, Any], S],
        decide: Decide[S, C] | None = None,
        initial: Callable[[], S] | None = None,
        snapshot_every: int | None = None,
        revision: int = 1,
        publish: Mapping[type[Any], Topic[Any] | tuple[Topic[Any], Callable[[Recorded[Any]], Any]]]
        | None = None,
    ) -> Aggregate[S, C]:
        """Entities whose state is what their events have made of them, kept in the service's database.

        The options are described in :class:`~tenfold.eventstore.aggregate.Aggregate`.
        """
        aggregate: Aggregate[S, C] = Aggregate(
            self.name,
            name,
            self._own_database(f"{self.name}.{name}"),
            events=events,
            state=state,
            evolve=evolve,
            decide=decide,
            initial=initial,
            snapshot_every=snapshot_every,
            revision=revision,
            publish=publish,
        )
        self.aggregates.append(aggregate)
        return aggregate

    def projection(
        self,
        *aggregates: Aggregate[Any, Any],
        mode: Mode = "async",
        tables: Sequence[sa.Table] = (),
        name: str | None = None,
        revision: int = 1,
        batch: int = BATCH,
        on_poison: OnPoison = "stop",
    ) -> Callable[[F], F]:
        """Fill ``tables`` of the service from the events of ``aggregates``: in the transaction that appends
        (``mode="sync"``), or later and once (``"async"``).

        The options are described in :class:`~tenfold.eventstore.projection.Projection`.
        """

        def declare(fn: F) -> F:
            self.projections.append(
                Projection(
                    self.name,
                    self._own_database(f"{self.name}.{name or fn.__name__}"),
                    fn,
                    aggregates,
                    mode=mode,
                    tables=tables,
                    name=name,
                    revision=revision,
                    batch=batch,
                    on_poison=on_poison,
                )
            )
            return fn

        return declare

    def subscribe_all(
        self,
        *aggregates: Aggregate[Any, Any],
        since: Literal["beginning", "now"] = "beginning",
        name: str | None = None,
        batch: int = BATCH,
        on_poison: OnPoison = "stop",
    ) -> Callable[[F], F]:
        """Follow the events of ``aggregates``, or of all there are in the app, in their one order.

        The function takes ``event: Recorded`` or ``events: list[Recorded]``. What it does through ``tx: Tx`` happens
        once per event; what it does elsewhere, at least once. ``since`` says where it begins the first time.
        """

        def declare(fn: F) -> F:
            self.projections.append(
                Projection(
                    self.name,
                    self._own_database(f"{self.name}.{name or fn.__name__}"),
                    fn,
                    aggregates or None,
                    name=name,
                    batch=batch,
                    on_poison=on_poison,
                    from_now=since == "now",
                )
            )
            return fn

        return declare

    def _own_database(self, where: str) -> Database:
        if not self.databases:
            raise DeclarationError(
                "events are kept in the service's database, and it has none (yet).",
                where=where,
                remedy=f"Before it, write: db = {self.name.replace('-', '_')}.database(metadata).",
            )
        return self.databases[0]

    # ── lifecycle ──

    def on_start(self, fn: F) -> F:
        """Run ``fn`` when the app starts, after databases and caches; its parameters are injected."""
        self.start_hooks.append(_hook(fn))
        return fn

    def on_stop(self, fn: F) -> F:
        """Run ``fn`` when the app stops, before databases and caches; its parameters are injected."""
        self.stop_hooks.append(_hook(fn))
        return fn


def _hook(fn: F) -> F:
    if not inspect.iscoroutinefunction(fn):
        raise DeclarationError(
            "it is not an async function.", where=describe(fn), remedy="Write `async def`."
        )
    return fn


def _caller_folder() -> Path:
    """Folder of the module that makes the service; the working folder in an interactive session."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    file = frame.f_globals.get("__file__") if frame is not None else None
    return Path(file).resolve().parent if file else Path.cwd()
