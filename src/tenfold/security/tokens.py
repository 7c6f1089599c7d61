"""Bearer tokens: JWTs (RFC 7519, RFC 9068) signed with HS256 or Ed25519, checked to the last field.

A token is accepted only when all of this holds: three parts of plain base64url; a header of exactly ``typ``,
``alg`` and ``kid``; a ``kid`` we know, with the algorithm that belongs to that key (the token never chooses it);
a good signature; our ``iss`` and ``aud``; ``nbf`` and ``iat`` not in the future; ``exp`` in the future. Anything
else raises :class:`InvalidToken`, or :class:`ExpiredToken` when only the time has passed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from tenfold._core.clock import Clock
from tenfold.errors import ExpiredToken, InvalidToken
from tenfold.security.keys import SecretKey
from tenfold.security.principal import Principal

if TYPE_CHECKING:
    from joserfc.jwk import OctKey, OKPKey

Algorithm = Literal["HS256", "Ed25519"]

TYPE = "at+jwt"
"""``typ`` of our access tokens (RFC 9068), so that no other kind of JWT passes for one."""

TOKEN_BYTES_MAX = 4096

LEEWAY_S = 5.0
"""How far the clock of the instance that issued a token may be ahead. Expiry has no leeway."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says. Times are seconds since the epoch; claims not listed are ignored."""

    iss: str
    aud: str
    sub: str
    iat: float
    exp: float
    jti: str
    nbf: float = 0.0
    """Not before; ours are good from ``iat`` on."""
    sid: str = ""
    """The log-in the token belongs to."""


class Tokens:
    """Issues and verifies the tokens of one issuer.

    ``algorithm`` signs new tokens. Ed25519 lets others verify with the public key alone; HS256 is the quicker.
    Both keys are derived from the app's secret, so that switching needs nothing but the switch. Tokens signed
    with former secrets verify as long as these are configured.
    """

    def __init__(
        self,
        secret: SecretKey,
        clock: Clock,
        *,
        issuer: str,
        audience: str = "",
        algorithm: Algorithm = "HS256",
    ) -> None:
        self._clock = clock
        self._issuer = issuer
        self._audience = audience or issuer
        self._keys: dict[str, tuple[Algorithm, OctKey | OKPKey]] = {}
        names: tuple[Algorithm, ...] = ("HS256", "Ed25519")
        for name in names:
            for seed in secret.derive(f"token/{name}"):
                key = _key(name, seed)
                self._keys[str(key.kid)] = (name, key)
        current = secret.derive(f"token/{algorithm}")[0]
        self._kid = _kid(algorithm, current)

    def issue(self, subject: str, ttl_s: float, *, sid: str = "") -> str:
        """A signed token for ``subject``, good from now for ``ttl_s`` seconds, or up to one less.

        It is kept short, in whole seconds too: it is sent, read and looked up with every request.
        """
        from joserfc import jwt

        algorithm, key = self._keys[self._kid]
        now = self._clock.now()
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": subject,
            "iat": int(now),
            "exp": int(now + ttl_s),
            "jti": _short_id(self._clock),
        }
        if sid:
            claims["sid"] = sid
        return jwt.encode(
            {"typ": TYPE, "alg": algorithm, "kid": self._kid}, claims, key, algorithms=[algorithm]
        )

    def verify(self, token: str) -> Claims:
        """The claims of a token that is good now; raises :class:`InvalidToken` or :class:`ExpiredToken`."""
        claims = self._signed(token)
        now = self._clock.now()
        if claims.iss != self._issuer or claims.aud != self._audience:
            raise InvalidToken("The token was issued by or for somebody else.")
        if max(claims.iat, claims.nbf) > now + LEEWAY_S:
            raise InvalidToken("The token is not valid yet.")
        if not claims.exp > now:
            raise ExpiredToken("The token has expired.")
        return claims

    def _signed(self, token: str) -> Claims:
        """The claims, once structure, header, key and signature are right."""
        from joserfc import jwt
        from joserfc.errors import JoseError

        if len(token) > TOKEN_BYTES_MAX or not token.isascii():
            raise InvalidToken("This is not a token.")
        algorithm, key = self._key_of(header_of(token))
        try:
            decoded = jwt.decode(token, key, algorithms=[algorithm])
            return msgspec.convert(decoded.claims, Claims)
        except (JoseError, ValueError, TypeError, RecursionError):
            # The reason is of use to an attacker only.
            raise InvalidToken("The token is not valid.") from None

    def _key_of(self, header: Mapping[str, Any]) -> tuple[Algorithm, OctKey | OKPKey]:
        # Equality instead of a list of what is forbidden: jku, jwk, x5u, crit, b64, zip … all fall through here.
        kid = header.get("kid")
        found = self._keys.get(kid) if isinstance(kid, str) else None
        if found is None or header != {"typ": TYPE, "alg": found[0], "kid": kid}:
            raise InvalidToken("The token is not one of ours, or its key is no longer in use.")
        return found


Verified = tuple[bytes, Principal, float, str]
"""A header with a token, whose that is, until when it is remembered (seconds since the epoch), and its log-in."""

KEY_BYTES: Final = 32
"""The end of a header, a part of the token's signature, by which it is found: to hash all of it takes as long as reading it."""


class VerifiedTokens:
    """Tokens verified lately, so that a repeated one costs a dictionary look-up.

    Holds at most ``entries_max`` and each for at most ``recheck_s`` seconds, never beyond its expiry: that is the
    longest time for which a revocation in another process goes unnoticed.
    """

    def __init__(self, clock: Clock, *, recheck_s: float = 30.0, entries_max: int = 10_000) -> None:
        self.now = clock.now
        self.entries: dict[bytes, Verified] = {}
        """By the end of the ``Authorization`` header that carries the token, so that a request's needs no decoding."""
        self._recheck_s = recheck_s
        self._entries_max = entries_max
        self.stamp = 0
        """Changes with every :meth:`forget`."""

    def get(self, token: str) -> Principal | None:
        """The principal of ``token`` while the entry is fresh."""
        header = _header(token)
        try:
            known, principal, until, _ = self.entries[header[-KEY_BYTES:]]
        except KeyError:
            return None
        if known != header:
            return None
        if until > self.now():
            return principal
        del self.entries[header[-KEY_BYTES:]]
        return None

    def put(self, token: str, principal: Principal, exp: float, sid: str = "") -> None:
        """Remember that ``token`` stands for ``principal``; the oldest entry makes room."""
        if len(self.entries) >= self._entries_max:
            del self.entries[next(iter(self.entries))]
        header = _header(token)
        until = min(exp, self.now() + self._recheck_s)
        self.entries[header[-KEY_BYTES:]] = (header, principal, until, sid)

    def forget(self, *, account: str = "", sid: str = "") -> None:
        """Drop every token of an account, or of one log-in."""
        self.stamp += 1
        for key, (_, principal, _, own_sid) in list(self.entries.items()):
            if (account and principal.id == account) or (sid and own_sid == sid):
                del self.entries[key]

    def __len__(self) -> int:
        return len(self.entries)


def _header(token: str) -> bytes:
    # Headers become text as Latin-1, and a token that was verified is ASCII: what is replaced here stands for none.
    return b"Bearer " + token.encode("latin-1", "replace")


def header_of(token: str) -> dict[str, Any]:
    """The header of a JWT, of which nothing is verified yet; raises :class:`InvalidToken` where there is none."""
    import binascii

    first, _, _ = token.partition(".")
    try:
        padded = first + "=" * (-len(first) % 4)
        return msgspec.json.decode(base64.b64decode(padded, b"-_", validate=True), type=dict[str, Any])
    except (binascii.Error, msgspec.DecodeError, ValueError, RecursionError):
        raise InvalidToken("This is not a token.") from None


def _key(algorithm: Algorithm, seed: bytes) -> OctKey | OKPKey:
    from joserfc.jwk import OctKey, OKPKey
    from joserfc.util import urlsafe_b64encode

    kid = _kid(algorithm, seed)
    if algorithm == "HS256":
        return OctKey.import_key(seed, {"kid": kid, "use": "sig", "alg": "HS256"})
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return OKPKey.import_key(
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "d": urlsafe_b64encode(seed).decode(),
            "x": urlsafe_b64encode(public).decode(),
            "kid": kid,
        }
    )


def _short_id(clock: Clock) -> str:
    """96 random bits in 16 characters."""
    return base64.urlsafe_b64encode(clock.random.randbytes(12)).decode()


def _kid(algorithm: Algorithm, seed: bytes) -> str:
    """A name for the key that tells nothing about it."""
    return hashlib.sha256(f"kid {algorithm} ".encode() + seed).hexdigest()[:16]
