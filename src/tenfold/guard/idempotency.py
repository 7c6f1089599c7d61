"""One effect and one reply per Idempotency-Key.

A client that does not know whether its request arrived sends it again with the same ``Idempotency-Key``. The
guard lets exactly one run through, keeps its reply in the transaction of its effect, and answers the others
from that reply.

    guard = IdempotencyGuard(store, clock)
    outcome = await guard.begin(key, scope, fingerprint(...))
    if isinstance(outcome, Replay):
        return outcome.reply
    try:
        reply = ...                                # the handler; its db.tx() joins the claim's transaction
    except BaseException:
        await outcome.abandon()                    # no effect, the key is free again
        raise
    await outcome.finish(reply)                    # effect and reply commit together; then send the bytes

A claim is a lease of a few seconds that is renewed while its request runs. What happens when the process dies:
before the commit nothing has happened, and the key is free when the lease ends; after the commit a repetition gets
the stored reply. There is no state in between, in a store whose ``effect_atomic`` is True.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence

from tenfold._core.clock import Clock
from tenfold._core.context import owned
from tenfold._core.tasks import end_tasks
from tenfold.errors import (
    DatabaseError,
    IdempotencyMismatch,
    InternalError,
    RequestInProgress,
    StoreUnavailable,
)
from tenfold.guard.keys import (
    Busy,
    KeyRecord,
    Mismatch,
    Replay,
    StoredReply,
    checked_key,
    decide,
    fitting,
    kept,
)

KEEP_S = 86_400.0
LEASE_S = 6.0
"""How long a key stays taken when its process dies: three times what passes between two renewals."""
REPLY_MAX_BYTES = 4_194_304
PRUNE_EVERY_S = 60.0
PRUNE_BATCH = 500

log = logging.getLogger("tenfold.guard")

# ── contract ──────────────────────────────────────────────────────────────────────────────────────


class Attempt(ABC):
    """One run of a keyed request, from its claim to its outcome.

    Exactly one of the methods ends it; ``release`` may also follow a ``complete`` that raised.
    """

    @abstractmethod
    async def complete(self, reply: StoredReply, keep_s: float, *, effect: bool) -> bool:
        """Store the reply for ``keep_s`` seconds; with ``effect`` commit what the run wrote, in the same transaction
        where the store is ``effect_atomic``, else undo it.

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
      ``effect_atomic`` is False. Then the effect is committed first and the reply stored after it: a crash in
      between, or a store that loses its data, repeats the effect of a request that is sent again.
    - Consistency: a completed reply is found by every :meth:`find` that starts afterwards.
    - Time: the store's own clock, where several processes use it.
    - Time-out: the store's own; an error means that nothing is known to have changed, except in ``complete``,
      where it is that of the database's COMMIT.
    - Errors: those of the database (errors.DatabaseError), StoreUnavailable.
    """

    effect_atomic: bool

    @abstractmethod
    async def find(self, scope: str, key: str) -> KeyRecord | None:
        """The record of a key, or None; also an expired one that was not pruned yet."""

    @abstractmethod
    async def claim(self, scope: str, key: str, record: KeyRecord) -> bool:
        """Write ``record`` if :func:`decide` finds the key free for its fingerprint, judged in the same moment.

        Durable when it returns; False when somebody else was first.
        """

    @abstractmethod
    async def renew(self, claims: Sequence[tuple[str, str, str]], lease_s: float) -> None:
        """Let the leases of these runs (scope, key, claim) last ``lease_s`` seconds from now, where they still have
        the key; also one that has run out and was not taken."""

    @abstractmethod
    def attempt(self, scope: str, key: str, claim: str) -> Attempt:
        """Open the run of a claim that was won; transactions of the current Context join it from now on."""

    @abstractmethod
    async def prune(self, limit: int) -> int:
        """Delete at most ``limit`` records that have expired; how many were."""


# ── the guard ─────────────────────────────────────────────────────────────────────────────────────


Name = tuple[str, str, str]
"""Scope, key and claim of a run."""


class Claim:
    """The right to run the request. End it with :meth:`finish` or :meth:`abandon`, whatever happens."""

    __slots__ = ("_attempt", "_guard", "_name", "_open")

    def __init__(self, guard: IdempotencyGuard, name: Name, attempt: Attempt) -> None:
        self._guard = guard
        self._name = name
        self._attempt = attempt
        self._open = True
        guard.running[name] = None

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
        # The claim stays open when this raises: the caller's abandon() then frees the key, unless the commit
        # did happen after all.
        completed = await self._attempt.complete(reply, self._guard.keep_s, effect=effect)
        self._close()
        if not completed:
            raise _in_progress(1)

    async def abandon(self) -> None:
        """Undo the effect and free the key; does nothing on a claim that has ended."""
        if self._open:
            self._close()
            await self._attempt.release()

    def _close(self) -> None:
        self._open = False
        self._guard.running.pop(self._name, None)


class IdempotencyGuard:
    """Decides who runs, who waits and who gets the stored reply.

    ``keep_s`` is how long a reply answers repetitions (default 24 hours), ``lease_s`` how long a key stays taken when
    its process dies. It is a part with a lifecycle: between :meth:`start` and :meth:`stop` the leases of what runs are
    renewed, and expired keys are deleted once a minute, in small batches.
    """

    def __init__(
        self, store: IdempotencyStore, clock: Clock, *, keep_s: float = KEEP_S, lease_s: float = LEASE_S
    ) -> None:
        self.store = store
        self.clock = clock
        self.keep_s = keep_s
        self.lease_s = lease_s
        self.running: dict[Name, None] = {}
        """The claims that are open, in the order of their beginning."""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to renew and to delete; :meth:`begin` works without it, for runs that are shorter than a lease."""
        self._tasks = [
            asyncio.create_task(self._often(PRUNE_EVERY_S, self.prune), name="idempotency-pruner"),
            asyncio.create_task(self._often(self.lease_s / 3, self.renew), name="idempotency-renewer"),
        ]

    async def stop(self) -> None:
        """Stop renewing and deleting."""
        await end_tasks(*self._tasks)
        self._tasks.clear()

    async def prune(self) -> int:
        """Delete every expired key, in batches of 500 so that no transaction is long; how many there were."""
        total = 0
        while deleted := await self.store.prune(PRUNE_BATCH):
            total += deleted
            if deleted < PRUNE_BATCH:
                break
        return total

    async def renew(self) -> None:
        """Let the leases of all that runs begin again."""
        if self.running:
            with owned():
                await self.store.renew(sorted(self.running), self.lease_s)

    async def begin(self, key: str, scope: str, fingerprint: str) -> Replay | Claim:
        """The stored reply, or the claim to run the request.

        ``scope`` keeps the keys of different operations and callers apart (``operation`` and principal).

        Raises RequestInProgress (409, with Retry-After) while another run holds the key, IdempotencyMismatch
        (422) when the key was used with another request, BadRequest for an unusable key, StoreUnavailable or
        DatabaseUnavailable (503) when the store is away.
        """
        checked_key(key)
        scope = fitting(scope)
        while True:
            decision = decide(await self.store.find(scope, key), fingerprint)
            if isinstance(decision, Replay):
                return decision
            if isinstance(decision, Mismatch):
                raise IdempotencyMismatch(
                    "This Idempotency-Key was used before with another request (method, path, query or body "
                    "differ). Send a new key with a new request.",
                    limit="Idempotency-Key",
                )
            if isinstance(decision, Busy):
                raise _in_progress(decision.retry_after_s)
            claim = await self._claim(key, scope, fingerprint)
            if claim is not None:
                return claim
            # Somebody else was first: the record that decides has changed, so look again. Each round means
            # that another run got on, so this ends.

    async def _often(self, every_s: float, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            await self.clock.sleep(every_s)
            try:
                await work()
            except (DatabaseError, StoreUnavailable) as error:
                log.warning(
                    "idempotency keys: %s failed, the next try is in %g s: %s", work.__name__, every_s, error
                )

    async def _claim(self, key: str, scope: str, fingerprint: str) -> Claim | None:
        claim = self.clock.uuid()
        record = KeyRecord(fingerprint, claim, self.lease_s, self.keep_s)
        try:
            won = await self.store.claim(scope, key, record)
        except asyncio.CancelledError:
            # It may be durable already, with nobody left to run it: the next try must not wait for its lease.
            await asyncio.shield(self.store.attempt(scope, key, claim).release())
            raise
        if not won:
            return None
        return Claim(self, (scope, key, claim), self.store.attempt(scope, key, claim))


def _in_progress(retry_after_s: int) -> RequestInProgress:
    return RequestInProgress(
        "A request with this Idempotency-Key is being worked on; ask again for its reply.",
        headers={"Retry-After": str(retry_after_s)},
        limit="Idempotency-Key",
        value=1,
    )
