"""Whose calls are taken from outside of the process. Nobody's, unless this says so.

With an identity, a call needs a token of a service that declares it. Without one, calls come from this machine only,
in development and tests: a name in the network, or a place in it, proves nothing.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Protocol

from tenfold.errors import CallRefused, Problem, Unauthorized
from tenfold.rpc.wire import CERTIFICATE, SCHEME
from tenfold.security.identity.names import BALANCER, SHOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenfold.http.request import Request
    from tenfold.security.identity.names import ServiceName
    from tenfold.security.identity.refusals import Refusals

_NAME_CHARS_MAX = 100
_FROM_ELSEWHERE = ("x-forwarded-for", "x-forwarded-host", "x-real-ip", "forwarded", "via")
"""Headers of proxies: the peer is not who asks."""
_OF_BROWSERS = ("origin", "sec-fetch-site", "sec-fetch-mode")
"""A page of any site can make a browser on this machine send requests to this machine."""


class Identity(Protocol):
    """Who the services of a process are to others, and who others are to them."""

    def issue(self, caller: str, audience: str) -> str:
        """A token by which the service ``caller``, which is served here, proves itself to the service ``audience``.

        Raises ConfigError where it cannot."""
        ...

    def admit(self, token: str, operation: str, shown: ServiceName | None) -> str:
        """The service that sends ``token`` with a call of ``operation`` (``orders.place_order``), over a connection that
        showed the certificate of ``shown``.

        Raises :class:`~tenfold.errors.InvalidToken` for a token that proves nothing, and
        :class:`~tenfold.errors.CallRefused` for one that came from somebody else, and for a service that does not
        declare that it calls this."""
        ...


class Door:
    """Decides about each call before anything of it is read."""

    def __init__(self, identity: Identity | None, *, env: str, refusals: Refusals) -> None:
        self._identity, self._env, self._refusals = identity, env, refusals

    @property
    def opens(self) -> bool:
        """Whether there is anybody whose calls are taken."""
        return self._identity is not None or self._env != "production"

    def admit(self, request: Request, operation: str, caller: str) -> str:
        """The service that calls. ``caller`` is what it says of itself, which counts where nothing has to be proved.

        Raises :class:`Unauthorized` and :class:`CallRefused`; both are logged and counted."""
        try:
            if self._identity is not None:
                return self._identity.admit(_token(request.headers), operation, _shown(request))
            self._check_place(request)
        except Problem as problem:
            reason = problem.extra.get("reason", problem.kind)
            self._refusals.note(
                problem.extra.get("caller", ""), operation[:_NAME_CHARS_MAX], reason, str(problem)
            )
            raise
        return caller.rpartition("/")[2]  # behind the name of its app

    def _check_place(self, request: Request) -> None:
        if self._env == "production":
            raise CallRefused("Calls of services need an identity here.", reason="identity")
        if any(name in request.headers for name in (*_FROM_ELSEWHERE, *_OF_BROWSERS)):
            raise CallRefused(
                "Calls of services come from services, not from browsers or proxies.", reason="way"
            )
        if not _is_this_machine(request.client):
            raise CallRefused(
                "Without an identity, calls of services are taken from this machine only.", reason="place"
            )


def _token(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != SCHEME.lower() or not token:
        raise Unauthorized(f"A call of a service needs a token: Authorization: {SCHEME} ….", reason="missing")
    return token.strip()


def _shown(request: Request) -> ServiceName | None:
    """Whose certificate the connection has shown; that of the caller where a balancer took it, and says so. What anybody
    else says of a certificate is not heard."""
    shown: ServiceName | None = request.scope.get(SHOWN)
    if shown is not None and shown.service == BALANCER:
        from tenfold.security.identity.certificates import told

        return told(request.headers.get(CERTIFICATE, ""))
    return shown


def _is_this_machine(client: tuple[str, int] | None) -> bool:
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
