"""Tokens by which services prove to each other who calls: short-lived, for one audience, signed with Ed25519.

They are JWTs (RFC 7519) of a type of their own, so that no other token of the app passes for one. ``iss`` and ``sub``
are the caller's name, ``aud`` the callee's, both as SPIFFE writes them. The key decides whose token it is: a service
can sign for itself only, whatever it writes into ``iss``.

**Replay.** A token is a bearer token: within its life of 60 seconds, who has read it can use it against the service
that it was made for, and against no other. It is not bound to one request, since it is sent with many of them. Where
the network can be read by others, use TLS (:mod:`~tenfold.security.identity.tls`): with mutual TLS nobody reads it on
the way, and who has no certificate of a service cannot send it. What must not happen twice carries an idempotency key.

**Clocks.** A token is sent with half of its life left at least, so a callee's clock may be 30 seconds ahead of its
caller's, and ``LEEWAY_S`` behind it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from tenfold._core.clock import Clock
from tenfold.errors import ConfigError, ExpiredToken, InvalidToken
from tenfold.security.identity.keys import Keys, PublicKey, SigningKey
from tenfold.security.identity.names import ServiceName, parse
from tenfold.security.tokens import header_of

if TYPE_CHECKING:
    from collections.abc import Callable

TYPE: Final = "tenfold-service+jwt"
ALGORITHM: Final = "Ed25519"
"""The fully specified name of EdDSA on this curve (RFC 9864, which retires the name "EdDSA")."""
TTL_S = 60.0
TTL_MAX_S = 300.0
"""No token is accepted that says it lives longer."""
LEEWAY_S = 10.0
TOKEN_BYTES_MAX = 2048
VERIFIED_MAX = 1_000
"""Tokens remembered as verified. A fleet's services send each other one per audience and half minute."""

_KID = re.compile(r"[0-9a-f]{32}")


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says. Times are seconds since the epoch; claims not listed are ignored."""

    iss: str
    sub: str
    aud: str
    iat: float
    nbf: float
    exp: float
    jti: str


class _Kept(NamedTuple):
    """A token of ours, and until when it is sent."""

    token: str
    until: float
    changes: int


class _Verified(NamedTuple):
    name: ServiceName
    audience: str
    exp: float
    kid: str
    changes: int


class ServiceTokens:
    """The tokens of one service: those it sends, and those that others send it.

    ``keys`` are looked at again as they say; a key that is no longer there stops what it had signed from being sent
    and from being accepted.
    """

    def __init__(self, name: ServiceName, keys: Keys, clock: Clock, *, ttl_s: float = TTL_S) -> None:
        if not 0 < ttl_s <= TTL_MAX_S:
            raise ConfigError(
                f"tokens of services live {TTL_MAX_S:g} seconds at most.", where="identity.token_ttl_s"
            )
        self.name = name
        self.keys, self._ttl_s = keys, ttl_s
        self._now: Callable[[], float] = clock.now
        self._uuid = clock.uuid
        self._kept: dict[str, _Kept] = {}
        self._verified: dict[str, _Verified] = {}

    def issue(self, audience: ServiceName | str) -> str:
        """A token for ``audience``, with half of its life left at least; the same one until then.

        A service's short name stands for the one of this trust domain. Raises ConfigError where this service has no
        private key.
        """
        wanted = self._full(audience)
        self.keys.look()  # or the token of a key that nobody trusts any more would be sent for the rest of its time
        kept = self._kept.get(wanted)
        now = self._now()
        if kept is not None and now < kept.until and kept.changes == self.keys.changes:
            return kept.token
        signing = self.keys.signing()
        token = self._signed(wanted, signing, now)
        self._kept[wanted] = _Kept(token, min(now + self._ttl_s / 2, signing.until), self.keys.changes)
        return token

    def verify(self, token: str, audience: ServiceName | str = "") -> ServiceName:
        """Who sends ``token`` to ``audience`` (default: this service).

        Raises :class:`InvalidToken` or :class:`ExpiredToken`, whose ``extra["reason"]`` is one word: ``malformed``,
        ``key``, ``signature``, ``audience``, ``issuer``, ``early``, ``lifetime`` or ``expired``. Sentences name
        services and key ids, and never hold any of the token.
        """
        wanted = self._full(audience or self.name)
        known = self._verified.get(token)
        if known is not None and known.changes == self.keys.changes and known.audience == wanted:
            # The key is asked for again: it may have come to its end, and asking is what looks at the files.
            if known.exp > self._now() and self.keys.public(known.kid) is not None:
                return known.name
            del self._verified[token]
        claims, key = self._checked_signature(token)
        name = self._issuer(claims, key)
        if claims.aud != wanted:
            raise _invalid(
                "audience", f"The token of {name} is for {_shown(claims.aud)}, and this is {wanted}."
            )
        self._check_times(claims, name)
        self._remember(token, _Verified(name, wanted, claims.exp, key.kid, self.keys.changes))
        return name

    def _full(self, audience: ServiceName | str) -> str:
        if isinstance(audience, ServiceName):
            return str(audience)
        return audience if "/" in audience else str(ServiceName(self.name.domain, audience))

    def _signed(self, audience: str, signing: SigningKey, now: float) -> str:
        from joserfc import jwt

        me = str(self.name)
        claims = Claims(
            iss=me, sub=me, aud=audience, iat=now, nbf=now, exp=now + self._ttl_s, jti=self._uuid()
        )
        header = {"typ": TYPE, "alg": ALGORITHM, "kid": signing.kid}
        return jwt.encode(header, msgspec.to_builtins(claims), signing.key, algorithms=[ALGORITHM])

    def _checked_signature(self, token: str) -> tuple[Claims, PublicKey]:
        from joserfc import jwt
        from joserfc.errors import JoseError

        if len(token) > TOKEN_BYTES_MAX or not token.isascii():
            raise _invalid("malformed", "This is not a token of a service.")
        key = self._key(_header(token))
        try:
            decoded = jwt.decode(token, key.key, algorithms=[ALGORITHM])
            return msgspec.convert(decoded.claims, Claims), key
        except (JoseError, ValueError, TypeError, RecursionError):
            raise _invalid(
                "signature",
                f"The token was not signed by the key of {key.service} that it names, or was changed since.",
            ) from None

    def _key(self, header: dict[str, Any]) -> PublicKey:
        # Equality instead of a list of what is forbidden: other algorithms, jku, jwk, x5u, crit … all fall through here.
        kid = header.get("kid")
        if not isinstance(kid, str) or header != {"typ": TYPE, "alg": ALGORITHM, "kid": kid}:
            raise _invalid("malformed", "This is not a token of a service.")
        key = self.keys.public(kid) if _KID.fullmatch(kid) else None
        if key is None:
            shown = f" {kid[:16]}" if _KID.fullmatch(kid) else ""
            raise _invalid(
                "key",
                f"The key{shown} of the token is not, or no longer, in this service's folder of public keys.",
            )
        return key

    def _issuer(self, claims: Claims, key: PublicKey) -> ServiceName:
        name = parse(claims.iss)
        if name != ServiceName(self.name.domain, key.service) or claims.sub != claims.iss:
            raise _invalid(
                "issuer", f"The token says that it is from {_shown(claims.iss)}; its key is of {key.service}."
            )
        return ServiceName(self.name.domain, key.service)

    def _check_times(self, claims: Claims, name: ServiceName) -> None:
        now = self._now()
        if max(claims.iat, claims.nbf) > now + LEEWAY_S:
            ahead = max(claims.iat, claims.nbf) - now
            raise _invalid(
                "early",
                f"The token of {name} is not valid yet: its clock is {ahead:.0f} s ahead of this one's.",
            )
        if not claims.exp - claims.iat <= TTL_MAX_S:
            raise _invalid("lifetime", f"The token of {name} lives longer than the {TTL_MAX_S:g} s allowed.")
        if not claims.exp > now:
            raise ExpiredToken(f"The token of {name} expired {now - claims.exp:.0f} s ago.", reason="expired")

    def _remember(self, token: str, verified: _Verified) -> None:
        if len(self._verified) >= VERIFIED_MAX:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = verified


def _header(token: str) -> dict[str, Any]:
    try:
        return header_of(token)
    except InvalidToken:
        raise _invalid("malformed", "This is not a token of a service.") from None


def _invalid(reason: str, sentence: str) -> InvalidToken:
    return InvalidToken(sentence, reason=reason)


def _shown(text: str) -> str:
    """A name that was signed, if it is one."""
    name = parse(text)
    return str(name) if name is not None else "something that is no service"
