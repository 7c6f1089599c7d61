"""What a service holds: its name and policies, and lists of all that it declares."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct
from typing_extensions import Unpack

from tenfold._core.container import Scope
from tenfold._core.sections import PeerSettings
from tenfold.cache.cache import Cache
from tenfold.client.client import HttpClient
from tenfold.db.database import Database
from tenfold.errors import DeclarationError
from tenfold.events.subscription import Subscription
from tenfold.events.topic import Topic
from tenfold.eventstore.aggregate import Aggregate
from tenfold.eventstore.projection import Projection
from tenfold.http.operation import UNSET, Operation
from tenfold.http.policies import Shared, SharedOptions, check
from tenfold.http.websocket import WebSocketOperation
from tenfold.jobs.job import Job
from tenfold.queue.options import QueueOptions
from tenfold.schedules.schedule import Schedule

if TYPE_CHECKING:
    from tenfold.webhooks.incoming import IncomingWebhook
    from tenfold.webhooks.outgoing import Webhooks


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


class Declarations:
    """Plain objects in plain lists. The classes that declare them are bases of :class:`~tenfold.service.service.Service`."""

    def __init__(
        self,
        name: str,
        *,
        prefix: str = "",
        auth: Any = UNSET,
        settings: type[Any] | None = None,
        tags: Sequence[str] = (),
        calls: Sequence[Declarations | Operation[..., Any] | str] | None = None,
        **policies: Unpack[SharedOptions],
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
        for taken in PeerSettings.__struct_fields__:
            if settings is not None and taken in settings.__struct_fields__:
                raise DeclarationError(
                    f"its settings have {taken!r}, which [services.{name}] {taken} means already: where the service is.",
                    where=f"service {name}",
                    remedy="Name it after what it is of, such as payments_url.",
                )
        self.name = name
        self.prefix = prefix
        self.auth = auth
        self.policies = Shared(**cast("dict[str, Any]", policies))
        """What its operations inherit."""
        check(self.policies, f"service {name}")
        self.settings_type = settings
        self.tags = tuple(tags) or (name,)
        if isinstance(calls, str):
            raise DeclarationError(
                f"its calls {calls!r} are a text.", where=f"service {name}", remedy=f"Write [{calls!r}]."
            )
        self.calls = None if calls is None else tuple(calls)
        """Whom it may call; None: it does not say."""
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
        self.clients: list[HttpClient] = []
        self.mounts: list[Mount] = []
        self.providers: list[Provider] = []
        self.start_hooks: list[Callable[..., Any]] = []
        self.stop_hooks: list[Callable[..., Any]] = []

    def __repr__(self) -> str:
        return f"<Service {self.name}>"

    def _own_database(self, where: str) -> Database:
        if not self.databases:
            raise DeclarationError(
                "events are kept in the service's database, and it has none (yet).",
                where=where,
                remedy=f"Before it, write: db = {self.name.replace('-', '_')}.database(metadata).",
            )
        return self.databases[0]


def _caller_folder() -> Path:
    """Folder of the module that makes the service; the working folder in an interactive session."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    file = frame.f_globals.get("__file__") if frame is not None else None
    return Path(file).resolve().parent if file else Path.cwd()
