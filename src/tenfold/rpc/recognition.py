"""Who calls, asked of the service that has the accounts: for processes that do not serve it.

Only the accounts' own processes open their database. The others ask them, by a call like any other, with an operation
that every service may call without declaring it. A bearer token is asked about once in 30 s, and then known from memory;
an API key and a session are asked about with each request, as they are looked up with each request where the accounts
are. While no process of the accounts can be reached, callers who are not remembered get 503.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tenfold._core import context as contexts
from tenfold.errors import BadAnswer, BadRequest
from tenfold.http.operation import Operation, Policies
from tenfold.rpc.wire import principal_of, principal_text
from tenfold.security.credentials import Owner
from tenfold.security.policy import public
from tenfold.security.sessions import cookie_name
from tenfold.security.tokens import VerifiedTokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tenfold._core.clock import Clock
    from tenfold.security.credentials import AccountAuthenticator, LookUp
    from tenfold.security.principal import Principal

Kind = Literal["bearer", "api-key", "session"]


class Recognised(msgspec.Struct, frozen=True):
    """Whose a credential is. ``principal`` is its class and fields, as calls carry them."""

    principal: str
    exp: float = 0.0
    sid: str = ""


def operation(service: str, authenticator: AccountAuthenticator) -> Operation[..., Recognised | None]:
    """The operation that answers; ``service`` is that of the accounts."""

    async def recognise_caller(kind: Kind, credential: str) -> Recognised | None:
        return await _recognised(authenticator.look_up, kind, credential)

    policies = Policies(auth=public, hidden=True)
    made: Operation[[Kind, str], Recognised | None] = Operation(
        recognise_caller, service=service, method="POST", path="/", policies=policies
    )
    made.routed = False
    return made


async def _recognised(look_up: LookUp, kind: Kind, credential: str) -> Recognised | None:
    if kind == "bearer":
        owner = await look_up.bearer(credential)
        return Recognised(principal_text(owner.principal), owner.exp, owner.sid)
    principal = await (look_up.api_key if kind == "api-key" else look_up.session)(credential)
    return None if principal is None else Recognised(principal_text(principal))


class Asked:
    """Looks credentials up by calls (a :class:`~tenfold.security.credentials.LookUp`). ``caller`` is the service of this
    process in whose name it calls. What is answered is believed: who has the accounts says who is who."""

    def __init__(
        self,
        ask: Callable[..., Awaitable[Recognised | None]],
        clock: Clock,
        *,
        service: str,
        caller: str,
        secure: bool,
    ) -> None:
        self._ask, self._service, self._caller = ask, service, caller
        self.verified = VerifiedTokens(clock)
        self.cookie_name = cookie_name(secure)

    async def bearer(self, token: str) -> Owner:
        found = await self._asked("bearer", token)
        return Owner(self._principal(found), found.exp, found.sid) if found is not None else self._nobody()

    async def api_key(self, key: str) -> Principal:
        found = await self._asked("api-key", key)
        return self._principal(found) if found is not None else self._nobody()

    async def session(self, session_id: str) -> Principal | None:
        found = await self._asked("session", session_id)
        return None if found is None else self._principal(found)

    async def _asked(self, kind: Kind, credential: str) -> Recognised | None:
        context = contexts.current()
        with contexts.use(msgspec.structs.replace(context, service=self._caller, principal=None)):
            return await self._ask(kind, credential)

    def _principal(self, found: Recognised) -> Principal:
        try:
            principal = principal_of(found.principal)
        except BadRequest as error:
            raise self._unreadable(str(error)) from None
        return principal if principal is not None else self._nobody()

    def _nobody(self) -> Any:
        raise self._unreadable("it names nobody")

    def _unreadable(self, why: str) -> BadAnswer:
        return BadAnswer(
            f"{self._service} has answered who calls with what this code cannot read: {why}",
            dependency=self._service,
        )
