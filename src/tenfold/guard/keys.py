"""What is known of an Idempotency-Key, and what follows from it. Pure."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import msgspec

from tenfold.errors import BadRequest

REPLAYED = (b"idempotency-replayed", b"true")
KEY_MAX_CHARS = 255
SCOPE_MAX_CHARS = 200

# A repetition of these may succeed: the caller logs in, waits, or the state of things changes. They are not
# kept, so that the same key can be tried again.
_TRANSIENT = frozenset({401, 403, 408, 409, 425, 429})


class StoredReply(msgspec.Struct, frozen=True, array_like=True):
    """A whole reply, as it went to the client."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class KeyRecord(msgspec.Struct, frozen=True):
    """What is known of one key, and how long that holds: seconds from when the store was asked, on its own clock."""

    fingerprint: str
    claim: str
    """Who may complete it: a new value for every run, so that a run whose lease ended cannot."""
    lease_s: float
    """0 and below: the run that has it is given up."""
    keep_s: float
    """0 and below: the record has expired."""
    reply: StoredReply | None = None
    """None while the request runs."""


@dataclass(frozen=True, slots=True)
class Free:
    """Nobody holds the key."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The request was answered before; ``reply`` is that answer, marked with ``Idempotency-Replayed``."""

    reply: StoredReply


@dataclass(frozen=True, slots=True)
class Busy:
    """The request is running; ask again after ``retry_after_s``."""

    retry_after_s: int


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The key belongs to another request."""


Decision = Free | Replay | Busy | Mismatch


def decide(record: KeyRecord | None, fingerprint: str) -> Decision:
    """What to do with a request whose key has this record.

    The fingerprint is compared first: a key that was used for another request is refused even when that
    request crashed, because the client cannot know that it did.
    """
    if record is None or record.keep_s <= 0:
        return Free()
    if record.fingerprint != fingerprint:
        return Mismatch()
    if record.reply is not None:
        return Replay(replayed(record.reply))
    if record.lease_s <= 0:
        return Free()
    # Most requests end long before their lease: come back soon, but not past it.
    return Busy(retry_after_s=max(1, min(2, math.floor(record.lease_s))))


def kept(status: int) -> bool:
    """Whether a reply is stored for repetitions; one that is not frees the key and undoes the effect.

    2xx, 3xx and those 4xx that would be the same again are; failures of ours (5xx) and refusals that time or
    the caller mends (401, 403, 408, 409, 425, 429) are not.
    """
    return status < 500 and status not in _TRANSIENT


def replayed(reply: StoredReply) -> StoredReply:
    """The stored reply with the header that says so."""
    return StoredReply(reply.status, (*reply.headers, REPLAYED), reply.body)


def fingerprint(method: str, path: str, query: bytes, body: bytes) -> str:
    """What makes two requests the same one: 128 bits of BLAKE2b over method, path, query and body."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (method.encode(), path.encode(), query, body):
        digest.update(b"%d:" % len(part))  # the length keeps ("a", "bc") and ("ab", "c") apart
        digest.update(part)
    return digest.hexdigest()


def fitting(scope: str) -> str:
    """``scope``, or what stands for it alone when it is longer than a store takes, or has other than visible text."""
    if len(scope) <= SCOPE_MAX_CHARS and scope.isprintable() and scope == scope.strip():
        return scope
    digest = hashlib.blake2b(scope.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return f"#{digest}"


def checked_key(value: str) -> str:
    """The header's value if it is a usable key.

    Raises BadRequest for one that is empty, longer than 255 characters, or not of visible ASCII characters.
    """
    if not value or len(value) > KEY_MAX_CHARS:
        raise BadRequest(
            f"The header Idempotency-Key has {len(value):,} characters; it must have 1 to {KEY_MAX_CHARS}."
        )
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise BadRequest(
            "The header Idempotency-Key may contain visible ASCII characters only (no spaces); a UUID will do."
        )
    return value
