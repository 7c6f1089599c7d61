"""Signing in and out at the dashboard: with a token of the settings, or as an account of the app.

Which accounts may is said by role (``ops.operators``, ``ops.readers``). The password is checked by the app's own
accounts, which slow guessing down; tokens are checked one at a time here, with a pause after a wrong one, and for a
minute not at all from where too many wrong ones came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from tenfold.dashboard import ui
from tenfold.dashboard.html import Html, tag
from tenfold.errors import Problem
from tenfold.security.accounts import Accounts
from tenfold.telemetry.ops import TOO_MANY
from tenfold.telemetry.ops_access import Role, Visitor, address_of

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.security.principal import Principal
    from tenfold.telemetry.ops import Scope

PATH: Final = "/sign-in"
OUT: Final = "/sign-out"
PAUSE_S: Final = 0.3
"""After a wrong token: three guesses a second for everybody together."""


class Signing:
    """Decides who may come in."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    @property
    def accounts(self) -> Accounts | None:
        """Those of the app, where the settings let any of them in."""
        ops, auth = self._app.settings.ops, self._app.auth
        return auth if isinstance(auth, Accounts) and (ops.operators or ops.readers) else None

    async def visitor(self, form: Mapping[str, str], scope: Scope) -> Visitor | str:
        """Who signs in, or a sentence that says why nobody does."""
        doors, address = self._app.assembly.ops.doors, address_of(scope)
        if email := form.get("email", "").strip():
            return await self._account(email, form.get("password", ""), address)
        if doors.shut(address):  # before the turn: a flood must not make others wait
            return TOO_MANY
        async with self._turn:
            found = doors.by_token(form.get("token", "").strip().encode(), address)
            if found is None:
                await self._app.clock.sleep(PAUSE_S)
        return found or (TOO_MANY if doors.shut(address) else "This is not the token.")

    async def _account(self, email: str, password: str, address: str) -> Visitor | str:
        accounts = self.accounts
        if accounts is None:
            return "Accounts of the app may not sign in here: ops.operators and ops.readers name no roles."
        try:
            principal = await accounts.verify_password(email, password, address=address)
        except Problem as problem:
            return problem.detail or problem.title
        role = self._role(principal)
        return Visitor(email, role) if role is not None else "This account may not look at the dashboard."

    def _role(self, principal: Principal) -> Role | None:
        ops = self._app.settings.ops
        for roles, role in ((ops.operators, Role.OPERATE), (ops.readers, Role.READ)):
            if "*" in roles or principal.roles & set(roles):
                return role
        return None


def form(name: str, root: str, onward: str, accounts: bool, sentence: str = "") -> Html:
    """The page that asks who it is."""
    target = f"{root}{PATH}"
    hidden = tag("input", type="hidden", name="next", value=onward)
    with_token = tag(
        "form", hidden, ui.field("Token", "token", type_="password", required=True, autofocus=not accounts),
        tag("button", "Sign in", type="submit", class_="primary"), class_="rows", method="post", action=target,
    )  # fmt: skip
    as_account = tag(
        "form", hidden, ui.field("E-mail", "email", type_="email", required=True, autofocus=True),
        ui.field("Password", "password", type_="password", required=True),
        tag("button", "Sign in", type="submit", class_="primary"), class_="rows", method="post", action=target,
    )  # fmt: skip
    about = "The token is the setting ops.token of the process, or ops.read_token."
    return tag(
        "main",
        tag("h1", f"Sign in to {name}"),
        ui.note(sentence, "bad") if sentence else None,
        ui.card("As an account of the app", as_account) if accounts else None,
        ui.card("With a token", with_token, tag("p", about, class_="muted")),
        id="main", class_="alone",
    )  # fmt: skip


def safe(onward: str) -> str:
    """Where to go after signing in: a path of this listener, and nothing that leads away from it."""
    plain = onward.startswith("/") and not onward.startswith("//") and "\\" not in onward
    return onward if plain and onward.isprintable() else "/"
