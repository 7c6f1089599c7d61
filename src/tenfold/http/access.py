"""Who may use an operation: the authentication step's run-time half."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from tenfold.errors import DeclarationError, Forbidden, Unauthorized
from tenfold.http.operation import UNSET
from tenfold.security.policy import Policy, as_policy
from tenfold.security.principal import Principal

if TYPE_CHECKING:
    from tenfold.guard.fairness import Callers
    from tenfold.http.operation import Operation
    from tenfold.http.request import Request
    from tenfold.security.authenticator import Authenticator

C = TypeVar("C", bound=Principal)


def policy_of(operation: Operation[..., Any], authenticator: Authenticator | None) -> Policy:
    """Raises DeclarationError without a policy (deny by default), or without anybody to recognise callers."""
    if operation.policies.auth is UNSET:
        raise DeclarationError(
            "it does not say who may use it.",
            where=operation.where,
            remedy="Give it, or its service, auth=public, auth=authenticated, a Principal class or roles(…).",
        )
    policy = as_policy(operation.policies.auth)
    if authenticator is None and not policy.anonymous_ok:
        raise DeclarationError(
            f"it is for {policy.describe()}, but the app has no authenticator.",
            where=operation.where,
            remedy="Give the app one: App(…, auth=Accounts(…)).",
        )
    return policy


class Authentication:
    """Asks the authenticator, when the quick way did not know the credential. ``callers`` are told whose it is."""

    def __init__(self, authenticator: Authenticator, callers: Callers | None = None) -> None:
        self._authenticator, self._callers = authenticator, callers

    async def authenticate(self, request: Request) -> Principal | None:
        """The caller, or None without a credential. Raises what the authenticator raises."""
        headers = request.headers
        principal = await self._authenticator.authenticate(headers, request.cookies)
        if principal is not None:
            self._authenticator.check_origin(principal, request.method, headers)
            if self._callers is not None:
                self._callers.learn(request.header_bytes, principal)
        return principal


def admitted(principal: Principal | None, type_: type[C]) -> C:
    """The caller as the class that the handler takes. Raises Unauthorized, Forbidden."""
    if isinstance(principal, type_):
        return principal
    if principal is None:
        raise Unauthorized("This operation needs a caller who is logged in.")
    raise Forbidden(f"This operation is for {type_.__name__}.")


def optional(principal: Principal | None, type_: type[C]) -> C | None:
    """The caller where it is of the class, else None."""
    return principal if isinstance(principal, type_) else None
