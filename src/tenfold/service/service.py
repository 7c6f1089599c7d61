"""A service: one module of a backend, with everything it declares.

Declarations are plain objects in plain lists; nothing is registered anywhere else. An :class:`~tenfold.app.App`
collects services, checks them, and gives their databases, caches and queues something to work with.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import Unpack

from tenfold._core.container import Scope, describe
from tenfold.cache.cache import Cache
from tenfold.client.client import HttpClient
from tenfold.client.options import ClientOptions, Options
from tenfold.db.database import Database
from tenfold.errors import DeclarationError
from tenfold.events.schema import Upcaster
from tenfold.events.topic import Topic
from tenfold.service.background import Background
from tenfold.service.declarations import Provider
from tenfold.service.hooks import Hooks
from tenfold.service.sourcing import Sourcing

if TYPE_CHECKING:
    import sqlalchemy as sa


T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Service(Hooks, Background, Sourcing):
    """A module of the backend.

    ``prefix`` stands before every path. ``auth`` is the policy of operations that name none; without either,
    the app does not start. ``limit`` is a rate limit that its operations share, besides their own; ``timeout_s``,
    ``priority``, ``concurrency``, ``idempotent``, ``slo`` and ``body_max_bytes`` are those of operations that say nothing of
    them (:class:`~tenfold.http.policies.Shared`). ``calls`` are the services and operations of others that it calls, as
    objects or names (``calls=[catalog, "inventory.hold"]``): other calls are refused, and a service that runs in
    processes of its own takes only calls that are declared. Left out, it may call whatever runs in its own process. ``settings`` is a msgspec Struct, read from ``[services.NAME]`` and injected by type. ``tags`` group its operations in the
    documentation (default: the service's name).
    """

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

    def http(
        self,
        name: str,
        url: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        **options: Unpack[ClientOptions],
    ) -> HttpClient:
        """A client for calls out: ``payments = service.http("payments", "https://api.example/v1", timeout_s=2.0)``.

        ``headers`` go with every call to ``url``. Without a URL, the client takes whole ones, of any public host. The
        options are those of :class:`~tenfold.client.options.Options`; ``[clients.NAME]`` can say each differently, and the
        URL and a token.
        """
        client = HttpClient(self.name, name, url, options=Options(**options), headers=headers)
        self.clients.append(client)
        return client

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
