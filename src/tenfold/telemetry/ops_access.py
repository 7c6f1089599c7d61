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
from functools import cached_property
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from tenfold._core.clock import Clock

COOKIE: Final = "tenfold_ops"
SIGNED_IN_S: Final = 12 * 3600.0
"""How long a sign-in lasts."""
WRONG_MAX: Final = 20
"""Wrong tokens that one address may send in :data:`WRONG_S`."""
WRONG_S: Final = 60.0
ADDRESSES_MAX: Final = 10_000
"""Of whom wrong tokens are counted."""


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


class Guesses:
    """Wrong tokens by address, so that nobody finds one by trying: so many in a minute, and for the rest of it no token
    from there is looked at. Cookies hold meanwhile. Bounded: the address that was longest quiet is forgotten."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wrong: dict[str, tuple[float, int]] = {}

    def too_many(self, address: str) -> bool:
        """Whether this address has to wait."""
        begun, count = self._wrong.get(address, (0.0, 0))
        return count >= WRONG_MAX and self._clock.monotonic() - begun < WRONG_S

    def wrong(self, address: str) -> None:
        """One more."""
        now = self._clock.monotonic()
        begun, count = self._wrong.pop(address, (now, 0))
        self._wrong[address] = (begun, count + 1) if now - begun < WRONG_S else (now, 1)
        if len(self._wrong) > ADDRESSES_MAX:
            del self._wrong[next(iter(self._wrong))]


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
        self._guesses = Guesses(clock)
        self._secret, self._salt = token.encode(), b"tenfold dashboard\0" + read_token.encode()

    @cached_property
    def _key(self) -> bytes:
        """What cookies are signed with. Slow to derive (scrypt, RFC 7914: some 20 ms, once): who may read has a cookie, and
        would else try tokens of operators against it as fast as their machine hashes."""
        return hashlib.scrypt(self._secret, salt=self._salt, n=1 << 13, r=8, p=1, dklen=32)

    def visitor(self, scope: Mapping[str, Any]) -> Visitor | None:
        """Who makes this request; None for who does not say, or says it wrongly."""
        if not self.asks:
            return LOCAL if is_local(scope) else None
        authorization = header(scope, b"authorization")
        if authorization[:7].lower() == b"bearer ":
            return self.by_token(authorization[7:].strip(), address_of(scope))
        if cookie := header(scope, b"cookie"):
            visitor = self._by_cookie(cookie.decode("latin-1"))
            if visitor is not None:
                return visitor
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        return self.by_token(query["token"].encode(), address_of(scope)) if "token" in query else None

    def by_token(self, given: bytes, address: str) -> Visitor | None:
        """Whose token it is. It takes the same time for all that is none, and for all while :meth:`shut`."""
        found: Visitor | None = None
        for token, visitor in self._tokens:
            if hmac.compare_digest(given, token) and found is None:
                found = visitor
        if self._guesses.too_many(address):
            return None
        if found is None:
            self._guesses.wrong(address)
        return found

    def shut(self, address: str) -> bool:
        """Whether tokens from there are not looked at for now: too many were wrong."""
        return self.asks and self._guesses.too_many(address)

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


def address_of(scope: Mapping[str, Any]) -> str:
    """Who a request is from, for counting: of IPv6 the network, since a machine has as many addresses there as it
    likes."""
    client = scope.get("client")
    text = str(client[0]) if client else ""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return text
    return text if found.version == 4 else str(ipaddress.ip_network(f"{found}/64", strict=False))


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
