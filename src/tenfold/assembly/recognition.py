"""How a process knows callers: from the accounts' database where it serves their service, and by asking it elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold.assembly.parts import AccountsPart
from tenfold.rpc import recognition
from tenfold.security.accounts import Accounts

if TYPE_CHECKING:
    from tenfold._core.lifecycle import Part
    from tenfold.app import App
    from tenfold.assembly.guards import Guards
    from tenfold.http.operation import Operation


class Recognition:
    """``operation`` is what other processes ask by; None where the app has no accounts."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._accounts = app.auth if isinstance(app.auth, Accounts) else None
        self.operation: Operation[..., recognition.Recognised | None] | None = None
        if self._accounts is not None:
            self.operation = recognition.operation(self._accounts.database.name, self._accounts.authenticator)

    @property
    def open(self) -> list[str]:
        """The operation, for the list of those that all services may call."""
        return [] if self.operation is None else [self.operation.name]

    @property
    def here(self) -> bool:
        """Whether this process opens the accounts' database."""
        return self._accounts is not None and self._accounts.database in self._app.databases

    def part(self, guards: Guards) -> Part | None:
        """What makes the app's authenticator know callers while the app runs."""
        app, accounts = self._app, self._accounts
        if accounts is None or self.operation is None:
            return None
        if self.here:
            return AccountsPart(accounts, app, guards.sessions(accounts.database))
        asked = recognition.Asked(
            self.operation,
            app.clock,
            service=self.operation.service,
            caller=app.services[0].name,
            secure=app.settings.app.env == "production",
        )
        return _AskedPart(accounts, asked)


class _AskedPart:
    def __init__(self, accounts: Accounts, asked: recognition.Asked) -> None:
        self._authenticator, self._asked = accounts.authenticator, asked

    async def start(self) -> None:
        self._authenticator.bind(self._asked)

    async def stop(self) -> None:
        self._authenticator.bind(None)
