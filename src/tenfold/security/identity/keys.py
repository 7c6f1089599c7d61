"""Ed25519 keys of services in files, changed without a restart.

A service signs with its newest private key whose time has come; everybody verifies with the public keys of all. A key
is published first and signs ``spread_s`` later, so that who verifies has it by then; the one before it is trusted
until ``OVERLAP_S`` after that. Files are looked at again every ``LOOK_S`` seconds while they are used, and at once
for a key that is not known (but not more often than every ``MISS_S``, whatever strangers send). Files that turn bad
while a process runs are reported in its log, and the keys it has go on being used.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from tenfold._core.clock import Clock
from tenfold.errors import ConfigError
from tenfold.security.identity import files

if TYPE_CHECKING:
    from joserfc.jwk import OKPKey

log = logging.getLogger("tenfold.identity")
T = TypeVar("T")

LOOK_S = 2.0
MISS_S = 0.2
SPREAD_S = 5.0
"""How long the public folder is given to reach everybody who verifies, before a new key signs."""
NOW_SPREAD_S, NOW_OVERLAP_S = LOOK_S, 2.0
"""The same where the old key is to be worthless as soon as can be without a refused call: everybody has looked at the folder
by then, and what was signed before has arrived."""
OVERLAP_S = 900.0
"""How long a key is still trusted after another one has taken over: hosts that get the files late sign with it."""

PUBLIC = "public"


class Jwk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One key as its file has it (RFC 8037). Times are seconds since the epoch."""

    kty: str = "OKP"
    crv: str = "Ed25519"
    alg: str = "Ed25519"
    use: str = "sig"
    x: str
    d: str = ""
    """The private part; absent from published keys."""
    kid: str
    created_at: float
    signs_from: float
    expires_at: float = 0.0
    """From then on nobody trusts it; 0: it is in use."""

    @property
    def public(self) -> Jwk:
        """Without the private part."""
        return msgspec.structs.replace(self, d="")

    def __repr__(self) -> str:  # never the private part, wherever it is printed
        return f"Jwk({self.kid})"


class Jwks(msgspec.Struct, frozen=True):
    """The published keys of one service (RFC 7517, § 5)."""

    keys: list[Jwk]


class SigningKey(msgspec.Struct, frozen=True):
    """What tokens are signed with now."""

    kid: str
    key: OKPKey
    until: float = math.inf
    """When another one takes over that is there already."""

    def __repr__(self) -> str:
        return f"SigningKey({self.kid})"


class PublicKey(msgspec.Struct, frozen=True):
    """What the tokens of one service are verified with."""

    service: str
    kid: str
    key: OKPKey
    expires_at: float = 0.0


class Keys:
    """The keys of a folder: the private ones of ``service`` (none where it is empty), the public ones of all.

    Reads them at once, and raises ConfigError for what is missing, readable by others, or no key.
    """

    def __init__(self, folder: Path, clock: Clock, *, service: str = "") -> None:
        self._clock, self._service = clock, service
        self._public_folder = folder / PUBLIC
        self._own_folder = folder / service if service else None
        self.changes = 0
        """Grows when the files were read again: what was derived from the keys before is to be made anew."""
        self._stamp = self._stamped()
        self._looked_at = clock.monotonic()
        self._own, self._public = self._read()

    def signing(self) -> SigningKey:
        """The key to sign with now. Raises ConfigError where the service has none."""
        self.look()
        now = self._clock.now()
        ready = [key for key in self._own if key.signs_from <= now]
        # A clock that is behind must not silence the service: the first key signs before its time.
        chosen = max(ready, key=_age) if ready else min(self._own, key=_age, default=None)
        if chosen is None:
            raise ConfigError(
                f"there is no private key of {self._service or 'any service'}.",
                where=str(self._own_folder or "identity"),
                remedy=f"Make one by: tenfold identity issue {self._service}".rstrip(),
            )
        until = min((key.signs_from for key in self._own if key.signs_from > now), default=math.inf)
        return SigningKey(chosen.kid, key_of(chosen), until)

    def public(self, kid: str) -> PublicKey | None:
        """The key of that id, while it is trusted; None for any other."""
        self.look()
        found = self._public.get(kid)
        if found is None:  # it may have been made just now
            self._look(MISS_S)
            found = self._public.get(kid)
        if found is not None and found.expires_at and found.expires_at <= self._clock.now():
            return None
        return found

    def look(self) -> None:
        """Heed changed files, every ``LOOK_S`` at most. Whoever goes on using what a key has made asks for this."""
        self._look(LOOK_S)

    def _look(self, every_s: float) -> None:
        now = self._clock.monotonic()
        if now - self._looked_at < every_s:
            return
        self._looked_at = now
        stamp = self._stamped()
        if stamp == self._stamp:
            return
        self._stamp = stamp  # also of files that are wrong: they are reported once, not every two seconds
        try:
            self._own, self._public = self._read()
            self.changes += 1
        except ConfigError as error:
            log.warning("the keys have changed and cannot be used; those from before still are. %s", error)

    def _stamped(self) -> files.Stamp:
        folders = [self._public_folder, *([self._own_folder] if self._own_folder else [])]
        return files.stamp(*folders)

    def _read(self) -> tuple[list[Jwk], Mapping[str, PublicKey]]:
        own = private_keys(self._own_folder) if self._own_folder else []
        return own, _index(public_keys(self._public_folder))


def private_keys(folder: Path) -> list[Jwk]:
    """The private keys of one service, oldest first. Raises ConfigError for one that others may read."""
    found = [_decoded(path, files.read_private(path), Jwk) for path in sorted(folder.glob("*.jwk"))]
    for key in found:
        if not key.d:
            raise ConfigError("it has no private part.", where=str(folder / f"{key.kid}.jwk"))
    return sorted(found, key=_age)


def public_keys(folder: Path) -> dict[str, list[Jwk]]:
    """By service: its published keys, oldest first."""
    return {
        path.stem: sorted(_decoded(path, files.read_public(path), Jwks).keys, key=_age)
        for path in sorted(folder.glob("*.jwks"))
    }


def key_of(jwk: Jwk) -> OKPKey:
    """As the library takes it, which checks that the parts belong together. Raises ConfigError."""
    from joserfc.jwk import OKPKey

    parts = {"kty": jwk.kty, "crv": "Ed25519", "x": jwk.x, "kid": jwk.kid} | ({"d": jwk.d} if jwk.d else {})
    where = f"key {jwk.kid[:16]}"
    try:
        key = OKPKey.import_key({name: str(value) for name, value in parts.items()})
        raw: Any = key.raw_value
        found = kid_of((raw.public_key() if jwk.d else raw).public_bytes_raw())
    except Exception:  # whatever the library makes of it; what it says may hold some of the key
        raise ConfigError("it is no Ed25519 key.", where=where) from None
    if jwk.crv != "Ed25519" or found != jwk.kid:
        raise ConfigError("its id is not that of its public part.", where=where)
    return key


def kid_of(public: bytes) -> str:
    """The id of a key: it follows from the public part, so that nobody can give one key the id of another."""
    return hashlib.sha256(b"tenfold identity " + public).hexdigest()[:32]


def _index(services: Mapping[str, list[Jwk]]) -> dict[str, PublicKey]:
    index: dict[str, PublicKey] = {}
    for service, keys in services.items():
        for jwk in keys:
            if jwk.kid in index:
                raise ConfigError(
                    f"{service} and {index[jwk.kid].service} have the same key {jwk.kid[:16]}.",
                    where="identity",
                    remedy=f"Run: tenfold identity rotate {service}, and remove that key from its file.",
                )
            index[jwk.kid] = PublicKey(service, jwk.kid, key_of(jwk.public), jwk.expires_at)
    return index


def _age(key: Jwk) -> tuple[float, float, str]:
    return (key.signs_from, key.created_at, key.kid)


def _decoded(path: Path, content: bytes, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=type_)
    except msgspec.DecodeError:
        raise ConfigError("it does not hold a key.", where=str(path)) from None
