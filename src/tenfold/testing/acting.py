"""Acting as a principal without its credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tenfold.security.authenticator import Authenticator

if TYPE_CHECKING:
    from tenfold._core.origin import Headers
    from tenfold.security.principal import Principal


class ActingAuthenticator(Authenticator):
    """The app's own authenticator, except that requests without credentials come from ``principal``."""

    def __init__(self) -> None:
        self.principal: Principal | None = None
        self._own: Authenticator | None = None

    def wrap(self, own: Authenticator) -> Authenticator:
        """Stand before ``own``."""
        self._own = own
        self.challenge, self.trusted_origins = own.challenge, own.trusted_origins
        self.other_credentials = own.other_credentials
        return self

    async def authenticate(self, headers: Headers, cookies: Mapping[str, str], /) -> Principal | None:
        assert self._own is not None
        found = await self._own.authenticate(headers, cookies)
        return self.principal if found is None else found

    def check_origin(self, principal: Principal, method: str, headers: Headers) -> None:
        assert self._own is not None
        if principal is not self.principal:
            self._own.check_origin(principal, method, headers)

    def fast(self, authorization: bytes, /) -> Principal | None:
        assert self._own is not None
        return self._own.fast(authorization)

    def schemes(self) -> dict[str, dict[str, Any]]:
        assert self._own is not None
        return self._own.schemes()
