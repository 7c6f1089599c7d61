"""One effect and one reply per Idempotency-Key.

A client that does not know whether its request arrived sends it again with the same ``Idempotency-Key``. The
guard lets exactly one run through, keeps its reply in the transaction of its effect, and answers the others
from that reply.

    guard = IdempotencyGuard(store, clock)
    outcome = await guard.begin(key, scope, fingerprint(...), lease_s=30)
    if isinstance(outcome, Replay):
        return outcome.reply
    try:
        reply = ...                                # the handler; its db.tx() joins the claim's transaction
    except BaseException:
        await outcome.abandon()                    # no effect, the key is free again
        raise
    await outcome.finish(reply)                    # effect and reply commit together; then send the bytes

What happens when the process dies: before the commit nothing has happened, and the key is free when the lease
ends; after the commit a repetition gets the stored reply. There is no state in between.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass

import msgspec

from tenfold._core.clock import Clock
from tenfold.errors import BadRequest, DatabaseError, IdempotencyMismatch, InternalError, RequestInProgress

REPLAYED = (b"idempotency-replayed", b"true")
KEY_MAX_CHARS = 255
KEEP_S = 86_400.0
REPLY_MAX_BYTES = 4_194_304
PRUNE_EVERY_S = 60.0
PRUNE_BATCH = 500

log = logging.getLogger("tenfold.guard")

# A repetition of these may succeed: the caller logs in, waits, or the state of things changes. They are not
# kept, so that the same key can be tried again.
_TRANSIENT = frozenset({401, 403, 408, 409, 425, 429})


class StoredReply(msgspec.Struct, frozen=True, array_like=True):
    """A whole reply, as it went to the client."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class KeyRecord(msgspec.Struct, frozen=True):
    """What is known of one key. Times are seconds since the epoch, UTC."""

    fingerprint: str
    claim: str
    """Who may complete it: a new value for every run, so that a run whose lease ended cannot."""
    lease_until: float
    expires_at: float
    reply: StoredReply | None = None
    """None while the request runs."""


# ── decisions (pure) ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Free:
    """Nobody holds the key; ``over`` names the claim or finished record that has to be replaced, if any."""

    over: str | None = None


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


def decide(record: KeyRecord | None, fingerprint: str, now: float) -> Decision:
    """What to do with a request whose key has this record.

    The fingerprint is compared first: a key that was used for another request is refused even when that
    request crashed, because the client cannot know that it did.
    """
    if record is None:
        return Free()
    if record.expires_at <= now:
        return Free(over=record.claim)
    if record.fingerprint != fingerprint:
        return Mismatch()
    if record.reply is not None:
        return Replay(replayed(record.reply))
    if record.lease_until <= now:
        return Free(over=record.claim)
    return Busy(retry_after_s(record.lease_until - now))


def retry_after_s(lease_left_s: float) -> int:
    """Seconds to tell a duplicate: most requests end long before their lease, so soon, but not past it."""
    return max(1, min(2, int(lease_left_s)))


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


# ── contract ──────────────────────────────────────────────────────────────────────────────────────


class Attempt(ABC):
    """One run of a keyed request, from its claim to its outcome.

    Exactly one of the methods ends it; ``release`` may also follow a ``complete`` that raised.
    """

    @abstractmethod
    async def complete(self, reply: StoredReply, expires_at: float, *, effect: bool) -> bool:
        """Store the reply; with ``effect`` commit what the run wrote in the same transaction, else undo it.

        False when the claim was lost (its lease ended and another run took the key): then nothing of this
        run is kept, neither reply nor effect.
        """

    @abstractmethod
    async def release(self) -> None:
        """Undo what the run wrote and free the key, if the claim still holds it and no reply is stored."""


class IdempotencyStore(ABC):
    """Where keys live.

    - Order: none between keys. For one key, claims happen one after another; of concurrent ones exactly one
      wins.
    - Loss: as durable as the database the effects live in. A store that keeps keys elsewhere says so: its
      ``effect_atomic`` is False, and a crash between effect and reply can repeat the effect.
    - Consistency: a completed reply is found by every :meth:`find` that starts afterwards.
    - Time-out: the store's own; an error means that nothing is known to have changed, except in ``complete``,
      where it is that of the database's COMMIT.
    - Errors: those of the database (errors.DatabaseError).
    """

    effect_atomic: bool

    @abstractmethod
    async def find(self, scope: str, key: str) -> KeyRecord | None:
        """The record of a key, or None; also an expired one that was not pruned yet."""

    @abstractmethod
    async def claim(self, scope: str, key: str, record: KeyRecord, *, over: str | None) -> bool:
        """Write ``record`` if the key has no record (``over`` None) or still the one with that claim.

        Durable when it returns; False when somebody else was first.
        """

    @abstractmethod
    def attempt(self, scope: str, key: str, claim: str) -> Attempt:
        """Open the run of a claim that was won; transactions of the current Context join it from now on."""

    @abstractmethod
    async def prune(self, now: float, limit: int) -> int:
        """Delete at most ``limit`` records that expired before ``now``; how many were."""


# ── the guard ─────────────────────────────────────────────────────────────────────────────────────


class Claim:
    """The right to run the request. End it with :meth:`finish` or :meth:`abandon`, whatever happens."""

    __slots__ = ("_attempt", "_guard", "_open")

    def __init__(self, guard: IdempotencyGuard, attempt: Attempt) -> None:
        self._guard = guard
        self._attempt = attempt
        self._open = True

    async def finish(self, reply: StoredReply, *, effect: bool = True) -> None:
        """Commit the effect and the reply together; when it returns, the reply may be sent.

        ``effect=False`` is for a reply that stands for an error the handler raised: what it wrote is undone,
        the reply is kept. A reply whose status is not kept (see :func:`kept`) undoes the effect and frees
        the key.

        Raises RequestInProgress when the lease had ended and another run holds the key now; nothing of this
        run was kept. Raises InternalError for a reply above 4 MiB, likewise keeping nothing.
        """
        if not kept(reply.status):
            await self.abandon()
            return
        if len(reply.body) > REPLY_MAX_BYTES:
            await self.abandon()
            raise InternalError(
                f"The reply has {len(reply.body):,} bytes; a reply to a request with an Idempotency-Key is "
                f"stored and may have {REPLY_MAX_BYTES:,}. The request had no effect."
            )
        expires_at = self._guard.clock.now() + self._guard.keep_s
        # The claim stays open when this raises: the caller's abandon() then frees the key, unless the commit
        # did happen after all.
        completed = await self._attempt.complete(reply, expires_at, effect=effect)
        self._open = False
        if not completed:
            raise _in_progress(1)

    async def abandon(self) -> None:
        """Undo the effect and free the key; does nothing on a claim that has ended."""
        if self._open:
            self._open = False
            await self._attempt.release()


class IdempotencyGuard:
    """Decides who runs, who waits and who gets the stored reply.

    ``keep_s`` is how long a reply answers repetitions (default 24 hours). It is a part with a lifecycle:
    between :meth:`start` and :meth:`stop` expired keys are deleted once a minute, in small batches.
    """

    def __init__(self, store: IdempotencyStore, clock: Clock, *, keep_s: float = KEEP_S) -> None:
        self.store = store
        self.clock = clock
        self.keep_s = keep_s
        self._pruner: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to delete expired keys; :meth:`begin` works without it."""
        self._pruner = asyncio.create_task(self._keep_pruning(), name="idempotency-pruner")

    async def stop(self) -> None:
        """Stop deleting."""
        if self._pruner is not None:
            self._pruner.cancel()
            await asyncio.gather(self._pruner, return_exceptions=True)
            self._pruner = None

    async def prune(self) -> int:
        """Delete every expired key, in batches of 500 so that no transaction is long; how many there were."""
        total = 0
        while deleted := await self.store.prune(self.clock.now(), PRUNE_BATCH):
            total += deleted
            if deleted < PRUNE_BATCH:
                break
        return total

    async def begin(self, key: str, scope: str, fingerprint: str, *, lease_s: float = 30.0) -> Replay | Claim:
        """The stored reply, or the claim to run the request.

        ``scope`` keeps the keys of different operations and callers apart (``operation`` and principal).
        ``lease_s`` is how long the key stays taken if this process dies; give the operation's deadline.

        Raises RequestInProgress (409, with Retry-After) while another run holds the key, IdempotencyMismatch
        (422) when the key was used with another request, BadRequest for an unusable key.
        """
        checked_key(key)
        while True:
            decision = decide(await self.store.find(scope, key), fingerprint, self.clock.now())
            if isinstance(decision, Replay):
                return decision
            if isinstance(decision, Mismatch):
                raise IdempotencyMismatch(
                    "This Idempotency-Key was used before with another request (method, path, query or body "
                    "differ). Send a new key with a new request."
                )
            if isinstance(decision, Busy):
                raise _in_progress(decision.retry_after_s)
            claim = await self._claim(key, scope, fingerprint, lease_s, decision.over)
            if claim is not None:
                return claim
            # Somebody else was first: the record that decides has changed, so look again. Each round means
            # that another run got on, so this ends.

    async def _keep_pruning(self) -> None:
        while True:
            await self.clock.sleep(PRUNE_EVERY_S)
            try:
                await self.prune()
            except DatabaseError as error:
                log.warning(
                    "expired idempotency keys were not deleted, the next try is in a minute: %s", error
                )

    async def _claim(
        self, key: str, scope: str, fingerprint: str, lease_s: float, over: str | None
    ) -> Claim | None:
        now, claim = self.clock.now(), self.clock.uuid()
        record = KeyRecord(fingerprint, claim, now + lease_s, now + self.keep_s)
        try:
            won = await self.store.claim(scope, key, record, over=over)
        except asyncio.CancelledError:
            # It may be durable already, with nobody left to run it: the next try must not wait for its lease.
            await asyncio.shield(self.store.attempt(scope, key, claim).release())
            raise
        if not won:
            return None
        return Claim(self, self.store.attempt(scope, key, claim))


def _in_progress(retry_after_s: int) -> RequestInProgress:
    return RequestInProgress(
        "A request with this Idempotency-Key is being worked on; ask again for its reply.",
        headers={"Retry-After": str(retry_after_s)},
    )
