"""The small parts of an app: mail, accounts, dependencies, the services' own hooks."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tenfold._core.clock import Clock
from tenfold._core.container import Container, Plan, describe
from tenfold._core.context import Context, use
from tenfold._core.sections import Settings
from tenfold.mail.mailer import Mailer
from tenfold.mail.page import MailboxPage
from tenfold.security.accounts import Accounts
from tenfold.security.principal import service_principal
from tenfold.telemetry.hub import Hub

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.security.sessions import SessionStore
    from tenfold.service import Service

log = logging.getLogger("tenfold.app")


class MailPart:
    def __init__(
        self, mailer: Mailer, settings: Settings, data_dir: Path, clock: Clock, telemetry: Hub
    ) -> None:
        self._mailer, self._settings = mailer, settings
        self._data_dir, self._clock, self._telemetry = data_dir, clock, telemetry

    async def start(self) -> None:
        self._mailer.bind(self._settings.mail, data_dir=self._data_dir, clock=self._clock)
        if not self._settings.mail.url:
            about = "Mails that this app wrote instead of sending them."
            self._telemetry.pages.add("/mailbox", "Mailbox", about, MailboxPage(self._data_dir / "mailbox"))

    async def stop(self) -> None:
        await self._mailer.stop()


class AccountsPart:
    def __init__(self, accounts: Accounts, app: App, sessions: SessionStore) -> None:
        self._accounts, self._app, self._sessions = accounts, app, sessions

    async def start(self) -> None:
        app = self._app
        await self._accounts.bind(
            app.settings, data_dir=app.data_dir, clock=app.clock, name=app.name, sessions=self._sessions
        )

    async def stop(self) -> None:
        await self._accounts.stop()


class DependenciesPart:
    """Singletons are made when first asked for, and cleaned up here."""

    def __init__(self, container: Container) -> None:
        self._container = container

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        await self._container.clean_up()


class HooksPart:
    """One service's start and stop functions, with their dependencies."""

    def __init__(self, service: Service, container: Container) -> None:
        self._service = service.name
        self._starts = [(hook, container.plan_all(hook, {Context})) for hook in service.start_hooks]
        self._stops = [(hook, container.plan_all(hook, {Context})) for hook in service.stop_hooks]

    async def start(self) -> None:
        for hook, plan in self._starts:
            await self._run(hook, plan)

    async def stop(self) -> None:
        """Every one of them, last declared first; one that fails does not keep the others from running."""
        for hook, plan in reversed(self._stops):
            try:
                await self._run(hook, plan)
            except Exception:
                log.exception("%s failed", describe(hook))

    async def _run(self, hook: Callable[..., Awaitable[None]], plan: Plan) -> None:
        name = getattr(hook, "__name__", "hook")
        context = Context(
            service=self._service,
            operation=f"{self._service}.{name}",
            principal=service_principal(self._service),
        )
        with use(context):
            async with AsyncExitStack() as stack:
                await hook(**await plan.resolve({Context: context}, stack))
