"""Making and changing the keys of services in a folder: what ``tenfold identity`` does.

Every step leaves a folder that works. A new key is published before it is there to sign with, and the end of the old
one is written last: whoever stops in between has two keys that are trusted, and begins again.
"""

from __future__ import annotations

import base64
import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tenfold.security.identity import files
from tenfold.security.identity.keys import (
    OVERLAP_S,
    PUBLIC,
    SPREAD_S,
    Jwk,
    Jwks,
    kid_of,
    private_keys,
    public_keys,
)


def new_key(now: float, *, spread_s: float = 0.0) -> Jwk:
    """A key pair from the system's randomness, which signs ``spread_s`` seconds from now on."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    return Jwk(
        x=_text(public),
        d=_text(private.private_bytes_raw()),
        kid=kid_of(public),
        created_at=now,
        signs_from=now + spread_s,
    )


def issue(folder: Path, service: str, now: float) -> Jwk | None:
    """The first key of a service; None, and nothing happens, where it has one."""
    with _alone(folder):
        if (folder / service).is_dir() and private_keys(folder / service):
            return None
        return _add(folder, service, new_key(now))


def rotate(
    folder: Path, service: str, now: float, *, spread_s: float = SPREAD_S, overlap_s: float = OVERLAP_S
) -> Jwk:
    """A new key, which signs ``spread_s`` seconds from now; the ones before are trusted ``overlap_s`` longer.

    Everybody knows the new key before anybody signs with it, and the old ones end once nothing that they have signed is on
    its way: no call is refused meanwhile. For a key that somebody has got hold of, see ``NOW_SPREAD_S`` and
    ``NOW_OVERLAP_S``. Keys whose end has come are removed, and those that would sign after the new one.
    """
    with _alone(folder):
        key = _add(folder, service, new_key(now, spread_s=spread_s))
        ends_at = key.signs_from + overlap_s
        kept = [_ending(old, key.kid, ends_at) for old in _published(folder, service)]
        _publish(folder, service, [old for old in kept if not 0 < old.expires_at <= now])
        trusted = {
            old.kid
            for old in kept
            if not 0 < old.expires_at <= now and (old.kid == key.kid or old.signs_from < key.signs_from)
        }
        for path in (folder / service).glob("*.jwk"):
            if path.stem not in trusted:
                path.unlink()
    return key


def _add(folder: Path, service: str, key: Jwk) -> Jwk:
    files.make_folder(folder / service, private=True)
    _publish(folder, service, [*_published(folder, service), key.public])
    files.write(folder / service / f"{key.kid}.jwk", msgspec.json.encode(key), private=True)
    return key


def _ending(old: Jwk, newest: str, at: float) -> Jwk:
    """With its end; one that ends already ends no later for it."""
    if old.kid == newest:
        return old
    return msgspec.structs.replace(old, expires_at=min(old.expires_at or at, at))


def _published(folder: Path, service: str) -> list[Jwk]:
    return public_keys(folder / PUBLIC).get(service, [])


def _publish(folder: Path, service: str, keys: list[Jwk]) -> None:
    files.make_folder(folder / PUBLIC, private=False)
    content = msgspec.json.format(msgspec.json.encode(Jwks(keys)))
    files.write(folder / PUBLIC / f"{service}.jwks", content, private=False)


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """One process changes the folder at a time; the lock ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
