"""The one writer of a file, and group commit.

Transactions run one after another as savepoints of one ``BEGIN IMMEDIATE … COMMIT``. One that ends while others
are ready does not commit at once: it waits for a COMMIT that makes the whole group durable with one sync of the
disk, and is acknowledged only after it. A transaction that fails undoes its own savepoint and nothing else. The
COMMIT runs in the writer's thread; meanwhile the next transactions queue up, in turns between tenants, those of one
tenant first come first served.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import apsw

from tenfold._core.context import current
from tenfold._core.failpoints import FailpointError, failpoints
from tenfold._core.fairness import FairLine, WeightOf
from tenfold.db.backends._sqlite_errors import deferred_foreign_keys, translate
from tenfold.db.backends._sqlite_line import POLL_S, Line, begin_in_turn
from tenfold.db.backends._sqlite_link import Counters, Link
from tenfold.db.backends._turns import share
from tenfold.db.backends._waiting import settled
from tenfold.errors import DatabaseError, DatabaseUnavailable, OutcomeUnknown, SerializationFailure

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.backends._time import Time

GROUP_MAX = 256
"""Transactions that share one COMMIT at most."""
GROUP_AGE_MAX_S = 0.005
"""No transaction joins a group whose first one began longer ago."""


class Waiter(NamedTuple):
    """A transaction in line for the writer."""

    share: str
    turn: asyncio.Future[None]
    until: float
    """On the loop's clock."""


class Group:
    """The transactions that ended and wait for their COMMIT."""

    __slots__ = ("began", "done", "error", "members")

    def __init__(self, began: float, done: asyncio.Future[None]) -> None:
        self.began = began
        self.members: list[asyncio.Future[None]] = []
        self.error: Exception | None = None
        """Why nothing of it was written."""
        self.done = done
        """Ends, never with an error, when the outcome is known."""

    def resolve(self, error: Exception | None) -> None:
        """Tell every member how it ended."""
        self.error = error
        for member in self.members:
            if member.done():
                continue  # cancelled; it waits for ``done``
            if error is None:
                member.set_result(None)
            else:
                member.set_exception(error)
        self.done.set_result(None)


class Writer:
    """The connection that writes. It is *held* by one transaction at a time, or by its own COMMIT."""

    def __init__(
        self, link: Link, line: Line, time: Time, counters: Counters, weight_of: WeightOf | None = None
    ) -> None:
        self.link = link
        self.line = line
        self.counters = counters
        self.time = time
        self.clock: Clock = time.clock
        self.group: Group | None = None
        """The open SQL transaction, if there is one."""
        self.held = False
        self.holder = ""
        """Who holds it, for messages."""
        self.sandboxed = False
        self._waiters: FairLine[Waiter] = FairLine(weight_of)
        self._alarm: asyncio.TimerHandle | None = None
        self._idle_soon = False

    # ── taking and leaving ──

    def take_now(self) -> bool:
        """Hold the writer with a fresh savepoint, if that needs no waiting."""
        if self.held or self._waiters.size:
            return False  # nobody overtakes those who wait
        self.held = True
        try:
            if self.group is None and not self._begin_now():
                self.held = False
                return False
            self.link.cursor.execute("SAVEPOINT tx")
        except BaseException:
            self._let_go()
            raise
        return True

    async def take(self, *, alone: bool) -> None:
        """The same with waiting. ``alone``: commit first what waits for its COMMIT, because this will take long.

        Raises DatabaseUnavailable after the lock time-out.
        """
        if self.held or self._waiters.size:
            self.counters.waits += 1
            await self._wait()
        else:
            self.held = True
        try:
            if alone and self.group is not None and self.group.members and not self.sandboxed:
                await self._finish(self.group)
            if self.group is None and not self._begin_now():
                await self._begin_in_thread()
            self.link.cursor.execute("SAVEPOINT tx")
        except BaseException:
            self._let_go()
            raise

    def leave(self, *, keep: bool) -> asyncio.Future[None] | None:
        """End the holder's savepoint. When kept: a future that ends with the group's COMMIT, or its failure.

        Raises ForeignKeyViolation when a deferred constraint is not met; the savepoint is undone then.
        """
        execute = self.link.cursor.execute
        member: asyncio.Future[None] | None = None
        unmet = keep and self.link.conn.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0]
        try:
            if self.group is None:
                raise _lost()
            if unmet or not keep:
                execute("ROLLBACK TO tx")
                self.counters.rolled_back += 1
            execute("RELEASE tx")
            if keep and not unmet:
                member = asyncio.get_running_loop().create_future()
                self.group.members.append(member)
                self.counters.transactions += 1
        finally:
            self._let_go()
        if unmet:
            raise deferred_foreign_keys()
        return member

    def lost(self) -> bool:
        """After an error: did SQLite undo the whole group by itself (it does for a full disk and interrupted
        writes)? Its members are told then."""
        if self.group is None or self.link.conn.in_transaction:
            return self.group is None
        group, self.group = self.group, None
        self.counters.groups_failed += 1
        group.resolve(
            SerializationFailure(
                "the transaction was rolled back together with a neighbour of its commit group that failed. Nothing "
                "was written; it may be tried again."
            )
        )
        return True

    def abandon(self) -> None:
        """Let go of a writer whose SQL transaction is lost."""
        self._let_go()

    # ── begin and commit ──

    def _begin_now(self) -> bool:
        """Begin inline; False when another process holds the file, or is next for it."""
        if not self.line.is_empty():
            self.counters.begins_busy += 1
            return False
        try:
            self.link.cursor.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            self.counters.begins_busy += 1
            return False
        except apsw.Error as error:
            raise translate(error) from error
        self._begun()
        return True

    async def _begin_in_thread(self) -> None:
        stop = threading.Event()
        until = self.clock.monotonic() + self.time.lock_s()
        try:
            await self.link.call(
                begin_in_turn, self.link.conn, self.line, stop, until, self.clock.monotonic, cancel=stop.set
            )
        except asyncio.CancelledError:
            if self.link.conn.in_transaction:
                self._begun()  # it got the lock just then: an empty group, closed by whoever comes next
            raise
        except apsw.Error as error:
            raise translate(error) from error
        self._begun()

    def _begun(self) -> None:
        self.group = Group(self.clock.monotonic(), asyncio.get_running_loop().create_future())
        if failpoints.on:
            failpoints.visit("db.begin.after")

    def _let_go(self) -> None:
        """Nobody holds the writer: commit, hand it to the next in line, or wait for who is ready to come."""
        self.held, self.holder = False, ""
        group = self.group
        if group is not None and not self.sandboxed and self._is_full(group):
            self._commit(group)
            return
        while self._waiters.size:
            turn = self._waiters.pop().turn
            if not turn.done():
                self.held = True
                turn.set_result(None)
                return
        if group is not None and not self._idle_soon:
            # Tasks that are ready now get to run first, so that their transactions share this COMMIT.
            self._idle_soon = True
            asyncio.get_running_loop().call_soon(self._when_idle)

    def _is_full(self, group: Group) -> bool:
        return bool(group.members) and (
            len(group.members) >= GROUP_MAX or self.clock.monotonic() - group.began > GROUP_AGE_MAX_S
        )

    def _when_idle(self) -> None:
        self._idle_soon = False
        if self.group is not None and not self.held:
            self._commit(self.group)

    def _commit(self, group: Group) -> None:
        """Start the COMMIT; the writer is held by it until its outcome is known."""
        if self.sandboxed:
            self.group = Group(group.began, asyncio.get_running_loop().create_future())
            group.resolve(None)
            return
        if not group.members:
            self._end_empty(group)
            return
        self.held, self.holder = True, "a COMMIT"
        self.link.lane.submit(_commit, self.link).add_done_callback(partial(self._committed, group))

    def _end_empty(self, group: Group) -> None:
        self.group = None
        if self.link.conn.in_transaction:  # an error may have ended it already
            self.link.cursor.execute("ROLLBACK")
        group.resolve(None)

    def _committed(self, group: Group, outcome: asyncio.Future[None]) -> None:
        self._resolve(group, outcome.exception())
        self._let_go()

    def _resolve(self, group: Group, error: BaseException | None) -> None:
        self.group = None
        self.counters.groups += 1
        if failpoints.on and error is None:
            try:
                failpoints.visit("db.acknowledge.before")
            except FailpointError as raised:
                error = raised
        if error is not None:
            self.counters.groups_failed += 1
        group.resolve(None if error is None else _commit_error(error))

    async def _finish(self, group: Group) -> None:
        """Commit while holding the writer."""
        future = self.link.lane.submit(_commit, self.link)
        cancelled = await settled(future)
        self._resolve(group, future.exception())
        if cancelled:
            raise asyncio.CancelledError

    # ── waiting ──

    async def _wait(self) -> None:
        """Until it is this task's turn. Raises DatabaseUnavailable after the lock time-out."""
        loop = asyncio.get_running_loop()
        # The loop's own time: a manual clock that stands still would leave a deadlock to wait for ever.
        waiter = Waiter(share(current()), loop.create_future(), loop.time() + self.time.lock_s())
        turn = waiter.turn
        self._waiters.push(waiter.share, waiter)
        self._set_alarm()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiters.discard(waiter.share, waiter)
            elif turn.exception() is None:
                self._let_go()  # it was handed over at the same moment
            raise

    def _set_alarm(self) -> None:
        if self._alarm is None and self._waiters.size:
            next_at = min(waiter.until for waiter in self._waiters)
            self._alarm = asyncio.get_running_loop().call_at(next_at + 0.001, self._expire)

    def _expire(self) -> None:
        self._alarm = None
        now = asyncio.get_running_loop().time()
        for waiter in [waiter for waiter in self._waiters if waiter.until <= now]:
            self._waiters.discard(waiter.share, waiter)
            if not waiter.turn.done():
                waiter.turn.set_exception(self._taken())
        self._set_alarm()

    def _taken(self) -> DatabaseUnavailable:
        who = f" It is held by {self.holder}." if self.holder else ""
        return DatabaseUnavailable(
            f"the writer of the database was not free for {self.time.lock_timeout_s:g} s, or until the deadline.{who} "
            "Keep transactions short, and await nothing slow inside them."
        )

    @property
    def waiting(self) -> int:
        """Transactions in line."""
        return self._waiters.size

    # ── sandbox and stop ──

    async def enter_sandbox(self) -> None:
        """From now on every COMMIT is only said, until :meth:`leave_sandbox`."""
        await self.take(alone=True)
        self.sandboxed = True
        self.leave(keep=True)

    async def leave_sandbox(self) -> None:
        """Undo everything since :meth:`enter_sandbox`."""
        await self.take(alone=False)
        group, self.group = self.group, None
        self.sandboxed = False
        self.link.cursor.execute("ROLLBACK")
        if group is not None:
            group.resolve(None)
        self._let_go()

    async def drain(self) -> None:
        """Wait for the transactions that are open or in line, and for their COMMIT."""
        while self.held or self._waiters.size or self.group is not None:
            if self.group is not None and not self.held and not self._waiters.size:
                await asyncio.sleep(0)
                continue
            done = self.group.done if self.group is not None else None
            await (asyncio.wait([done]) if done is not None else asyncio.sleep(POLL_S))


def _commit(link: Link) -> None:
    """In the thread: the sync of the disk happens here."""
    try:
        if failpoints.on:
            failpoints.visit("db.commit.before")
        link.cursor.execute("COMMIT")
    except BaseException:
        if link.conn.in_transaction:
            link.cursor.execute("ROLLBACK")
        raise
    if failpoints.on:
        failpoints.visit("db.commit.after")


def _commit_error(error: BaseException) -> DatabaseError:
    if isinstance(error, apsw.IOError):
        # The frames may have reached the disk although its sync failed.
        return OutcomeUnknown(
            f"the disk failed at COMMIT ({error}): the transaction may or may not have happened."
        )
    if isinstance(error, apsw.Error):
        return translate(error)
    return OutcomeUnknown(f"COMMIT was broken off ({error!r}): the transaction may or may not have happened.")


def _lost() -> SerializationFailure:
    return SerializationFailure(
        "the transaction was rolled back whole by an earlier error; it may be tried again."
    )
