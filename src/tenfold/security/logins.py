"""What a log-in gives: tokens, or a cookie."""

from __future__ import annotations

import msgspec

from tenfold.security.principal import Principal
from tenfold.security.sessions import CookieArgs


class TokenPair(msgspec.Struct, frozen=True, kw_only=True):
    """What a log-in answers (RFC 6749 § 5.1). Its ``repr`` hides the tokens."""

    access_token: str
    refresh_token: str
    expires_in: int
    """Seconds for which the access token is good."""
    token_type: str = "Bearer"  # noqa: S105 - the type, not a token

    def __repr__(self) -> str:
        return f"TokenPair(access_token='••••••', refresh_token='••••••', expires_in={self.expires_in})"


class SessionLogin(msgspec.Struct, frozen=True, kw_only=True):
    """A log-in by cookie: ``reply.set_cookie(**login.cookie)``. Its ``repr`` hides the cookie."""

    principal: Principal
    cookie: CookieArgs

    def __repr__(self) -> str:
        return f"SessionLogin(principal={self.principal!r}, cookie='••••••')"
