"""Who may do what at the operations listener. Two roles: to read everything, and to operate too.

Three ways to say who one is: a bearer token (``ops.token`` operates, ``ops.read_token`` reads), the cookie that the
dashboard gives after a sign-in, or, where no token is set, being on this machine.

The cookie says who it is for, in which role and until when, and is signed with a key that follows from the tokens
(HMAC-SHA256, RFC 2104): every instance of a fleet believes it without asking, and a changed token ends them all.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from enum import IntEnum
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from tenfold._core.clock import Clock

COOKIE: Final = "tenfold_ops"
SIGNED_IN_S: Final = 12 * 3600.0
"""How long a sign-in lasts."""


class Role(IntEnum):
    """What a visitor may do; each role includes those before it."""

    READ = 1
    """See every page."""
    OPERATE = 2
    """Change what runs: retry, pause, override, send requests."""


class Visitor(msgspec.Struct, frozen=True):
    """Who asks for a page."""

    name: str
    """As the audit log has them: ``ann@example.org``, ``ops.token``, ``this machine``."""
    role: Role
    signed_in: bool = False
    """By the cookie, so that there is something to sign out of."""

    @property
    def operates(self) -> bool:
        return self.role >= Role.OPERATE


LOCAL: Final = Visitor("this machine", Role.OPERATE)
"""Who asks a listener on the loopback interface that has no token."""


class _Signed(msgspec.Struct, array_like=True):
    name: str
    role: int
    until: float


class Doors:
    """Recognises visitors. Without a token, everybody on this machine operates."""

    def __init__(self, token: str, read_token: str, clock: Clock) -> None:
        self._tokens = [
            (given.encode(), Visitor(name, role))
            for given, name, role in (
                (token, "ops.token", Role.OPERATE), (read_token, "ops.read_token", Role.READ),
            )
            if given
        ]  # fmt: skip
        self.asks = bool(token)
        """Whether a token is asked for at all."""
        self._clock = clock
        secret = hashlib.sha256(b"\0".join((b"tenfold dashboard", token.encode(), read_token.encode())))
        self._key = secret.digest()

    def visitor(self, scope: Mapping[str, Any]) -> Visitor | None:
        """Who makes this request; None for who does not say, or says it wrongly."""
        if not self.asks:
            return LOCAL if is_local(scope) else None
        authorization = header(scope, b"authorization")
        if authorization[:7].lower() == b"bearer ":
            return self.by_token(authorization[7:].strip())
        if cookie := header(scope, b"cookie"):
            visitor = self._by_cookie(cookie.decode("latin-1"))
            if visitor is not None:
                return visitor
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        return self.by_token(query.get("token", "").encode())

    def by_token(self, given: bytes) -> Visitor | None:
        """Whose token it is. It takes the same time for all that is none."""
        found: Visitor | None = None
        for token, visitor in self._tokens:
            if hmac.compare_digest(given, token) and found is None:
                found = visitor
        return found

    def cookie(self, visitor: Visitor, *, path: str, secure: bool) -> str:
        """The value of ``Set-Cookie`` that makes a browser known."""
        until = self._clock.now() + SIGNED_IN_S
        said = msgspec.json.encode(_Signed(visitor.name, int(visitor.role), until))
        value = f"{_text(said)}.{_text(self._mac(said))}"
        return _cookie(value, path, int(SIGNED_IN_S), secure)

    def no_cookie(self, *, path: str, secure: bool) -> str:
        """The value of ``Set-Cookie`` that makes a browser forget."""
        return _cookie("", path, 0, secure)

    def _by_cookie(self, text: str) -> Visitor | None:
        try:
            found = SimpleCookie(text).get(COOKIE)
            said, _, mac = ("" if found is None else found.value).partition(".")
            raw = _bytes(said)
            if not hmac.compare_digest(self._mac(raw), _bytes(mac)):
                return None
            signed = msgspec.json.decode(raw, type=_Signed)
            role = Role(signed.role)
        except (CookieError, ValueError, msgspec.DecodeError):
            return None
        return Visitor(signed.name, role, True) if self._clock.now() < signed.until else None

    def _mac(self, said: bytes) -> bytes:
        return hmac.digest(self._key, said, "sha256")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on ``host``."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_local(scope: Mapping[str, Any]) -> bool:
    """Whether a request names this machine as its host: a web page's own name that points here does not."""
    host = header(scope, b"host").decode("latin-1")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return not host or is_loopback(name)


def header(scope: Mapping[str, Any], name: bytes) -> bytes:
    """A header of a request, empty where there is none."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


def _cookie(value: str, path: str, max_age_s: int, secure: bool) -> str:
    flags = "; HttpOnly; SameSite=Lax" + ("; Secure" if secure else "")
    return f"{COOKIE}={value}; Path={path or '/'}; Max-Age={max_age_s}{flags}"


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
