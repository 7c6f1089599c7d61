"""From a request's credentials to a principal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from tenfold._core.origin import Headers, check_same_origin
from tenfold.security.principal import Principal


class Authenticator(ABC):
    """Recognises callers. One method is enough for an authenticator of your own::

    class Gateway(Authenticator):
        async def authenticate(self, headers, cookies):
            user = headers.get("x-authenticated-user")
            return Principal(id=user, via="gateway") if user else None
    """

    challenge: str = "Bearer"
    """Value of ``WWW-Authenticate`` in answers with 401."""

    trusted_origins: frozenset[str] = frozenset()
    """Origins besides the app's own whose pages may use its session cookie, as ``https://shop.example``."""

    other_credentials: tuple[str, ...] = ("x-api-key",)
    """Headers, in lower case, that carry a credential besides ``Authorization``. A request with one of them goes to
    :meth:`authenticate` every time, never to :meth:`fast`, which would judge the token alone."""

    carriers: tuple[str, ...] | None = None
    """Headers, in lower case, of which a request carries one at least if it has a credential at all: one without them is
    nobody's, and :meth:`authenticate` is not asked. None: it is asked of every request."""

    @abstractmethod
    async def authenticate(self, headers: Headers, cookies: Mapping[str, str], /) -> Principal | None:
        """The caller, or None when the request carries no credential.

        Raises :class:`~tenfold.errors.InvalidToken` or :class:`~tenfold.errors.ExpiredToken` for a credential
        that is there and not good: it is never ignored, also not on public operations.
        """

    def check_origin(self, principal: Principal, method: str, headers: Headers) -> None:
        """Called after :meth:`authenticate`, before the operation: refuses forged cross-site requests.

        Browsers send cookies by themselves, so a principal whose ``via`` is ``session`` passes with an unsafe
        method only from a page of the same origin. ``method`` is the request's, ``WEBSOCKET`` for a handshake.
        Raises :class:`~tenfold.errors.Forbidden`.
        """
        if principal.via == "session":
            check_same_origin(method, headers, self.trusted_origins)

    def fast(self, authorization: bytes, /) -> Principal | None:
        """The principal of an ``Authorization`` header that was verified before and is still good, without waiting; else
        None. ``authorization`` is its value as it came."""
        return None

    def schemes(self) -> dict[str, dict[str, Any]]:
        """OpenAPI security schemes by name."""
        return {"bearer": {"type": "http", "scheme": "bearer"}}
