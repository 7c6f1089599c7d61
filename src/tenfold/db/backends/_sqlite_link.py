"""One connection to the file: its cursor, its time limit, and its thread.

A link is used by one party at a time: on the event loop for what is fast, else in its own thread. Time is
limited by SQLite's progress handler, which looks at ``limit`` every so many virtual machine steps.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import apsw

from tenfold._core.clock import Clock
from tenfold._core.threads import contained
from tenfold.db.backends._waiting import settled
from tenfold.db.contract import Args, Rows
from tenfold.db.plan import Plan
from tenfold.errors import DatabaseUnavailable

R = TypeVar("R")

NEVER = float("inf")
_STATEMENTS_CACHED = 500
_PAGE_CACHE_KIB = 8 * 1024


class Counters:
    """What a backend counts, as plain ints; written by the event loop only."""

    def __init__(self) -> None:
        self.transactions = 0
        """Kept by their caller; acknowledged when their group's COMMIT was."""
        self.rolled_back = 0
        self.groups = 0
        """COMMITs."""
        self.groups_failed = 0
        self.inline = 0
        """Statements on the event loop."""
        self.threaded = 0
        """Statements in a thread."""
        self.demotions = 0
        """Statements that turned out too slow for the event loop."""
        self.waits = 0
        """Times that a transaction had to queue for the writer, or a read for a connection."""
        self.begins_busy = 0
        """Times that another process held the file."""

    def as_dict(self) -> dict[str, int | float]:
        return dict(vars(self))


class Lane:
    """A thread that runs functions one after another. A daemon, so it can never keep the process alive."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._todo: queue.SimpleQueue[tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]] | None]
        self._todo = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def submit(self, fn: Callable[..., R], *args: Any) -> asyncio.Future[R]:
        """Run ``fn(*args)`` in the thread; the future belongs to the running loop. It fails with
        DatabaseUnavailable after :meth:`stop`."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        # Another thread stops: what was put behind its sign would never run, and who waits for it would wait for ever.
        with self._lock:
            if self._stopped:
                future.set_exception(DatabaseUnavailable("the database was closed."))
                return future
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._todo.put((future, fn, args))
        return future

    def stop(self) -> None:
        """End the thread after what it was given so far. For good."""
        with self._lock:
            self._stopped = True
            self._todo.put(None)
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while (job := self._todo.get()) is not None:
            future, fn, args = job
            try:
                result, error = contained(fn, *args), None
            except BaseException as raised:  # it belongs to whoever awaits the future
                result, error = None, raised
            _hand_over(future, result, error)
            del job, future, fn, args, result, error  # keep nothing alive while waiting


def _hand_over(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    try:
        future.get_loop().call_soon_threadsafe(_settle, future, result, error)
    except RuntimeError:
        pass  # the loop is closed: nobody waits any more


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class Link:
    """A connection. Methods without ``async`` run in the caller's thread."""

    def __init__(self, path: Path, clock: Clock, *, writer: bool, steps: int, name: str) -> None:
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if writer else 0)
        self.conn = apsw.Connection(str(path), flags=flags, statementcachesize=_STATEMENTS_CACHED)
        self.cursor = self.conn.cursor()
        self.lane = Lane(name)
        self.lock = asyncio.Lock()
        """Held while a statement of a snapshot runs in the thread."""
        self.limit = NEVER
        """Monotonic time at which a running statement is stopped."""
        self._stop = False
        self._now = clock.monotonic
        self.conn.set_progress_handler(self._over, steps)
        self.configure(writer=writer)

    def configure(self, *, writer: bool) -> None:
        """Settings that hold per connection."""
        for pragma in (
            "foreign_keys=ON",
            f"cache_size=-{_PAGE_CACHE_KIB}",
            "temp_store=MEMORY",
            "trusted_schema=OFF",
            # As on other databases; and so that a row that OR REPLACE removes is seen by DELETE triggers.
            "recursive_triggers=ON",
            f"query_only={'OFF' if writer else 'ON'}",
        ):
            self.do(f"PRAGMA {pragma}")

    def do(self, sql: str) -> Rows:
        """Run a statement of our own."""
        return self.cursor.execute(sql).fetchall()

    def fetch(self, plan: Plan, args: Args, limit: int, budget_s: float) -> tuple[Rows, float]:
        """The rows and how long it took; stops with InterruptError after ``budget_s``."""
        now = self._now
        started = now()
        self.limit = started + budget_s
        try:
            cursor = (
                self.cursor.execute(plan.sql, args)
                if plan.columns is not None
                else self._discover(plan, args)
            )
            if not limit:
                rows: Rows = cursor.fetchall()
            elif limit > 2:
                rows = list(islice(cursor, limit))
                if len(rows) == limit:
                    self.drop_cursor()
            elif (first := cursor.fetchone()) is None:
                rows = []
            elif (second := cursor.fetchone()) is None:
                rows = [first]
            else:
                rows = [first, second]
                self.drop_cursor()
            return rows, now() - started
        finally:
            self.limit = NEVER

    def run(self, plan: Plan, args: Args, budget_s: float) -> tuple[int, float]:
        """How many rows changed, and how long it took."""
        now = self._now
        started = now()
        self.limit = started + budget_s
        try:
            if plan.writes:
                self.cursor.execute(plan.sql, args).fetchall()
                return self.conn.changes(), now() - started
            before = (
                self.conn.total_changes()
            )  # textual SQL may change nothing, and leave ``changes`` as it was
            self.cursor.execute(plan.sql, args).fetchall()
            changed = self.conn.changes() if self.conn.total_changes() != before else 0
            return changed, now() - started
        finally:
            self.limit = NEVER

    def run_many(self, plan: Plan, many: Sequence[Args], budget_s: float) -> tuple[int, float]:
        """The same for many executions of one statement."""
        started = self._now()
        self.limit = started + budget_s
        try:
            if plan.many_is_one_each and plan.columns == ():
                self.cursor.executemany(plan.sql, many)
                return len(many), self._now() - started
            changed, execute, changes = 0, self.cursor.execute, self.conn.changes
            for args in many:
                execute(plan.sql, args).fetchall()
                changed += changes()
            return changed, self._now() - started
        finally:
            self.limit = NEVER

    def piece(self, cursor: apsw.Cursor, size: int, budget_s: float) -> Rows:
        """The next rows of an open cursor; fewer than ``size`` when it is at its end."""
        self.limit = self._now() + budget_s
        rows: Rows = []
        try:
            while len(rows) < size and (row := cursor.fetchone()) is not None:
                rows.append(row)
            return rows
        finally:
            self.limit = NEVER

    def open_cursor(self, plan: Plan, args: Args, budget_s: float) -> apsw.Cursor:
        """A cursor of its own, for a stream."""
        self.limit = self._now() + budget_s
        try:
            return _discover(self.conn.cursor(), plan, args)
        finally:
            self.limit = NEVER

    def drop_cursor(self) -> None:
        """Reset a statement that still has rows."""
        self.cursor.close(True)
        self.cursor = self.conn.cursor()

    async def call(self, fn: Callable[..., R], *args: Any, cancel: Callable[[], None] | None = None) -> R:
        """``fn(*args)`` in the thread. When cancelled, it calls ``cancel`` (see :meth:`halt`) and waits until the
        thread has let go of the connection."""
        future = self.lane.submit(fn, *args)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if cancel is not None:
                cancel()
            await settled(future)
            self._stop = False
            raise

    def halt(self) -> None:
        """Stop the statement that runs in the thread; it raises InterruptError there."""
        self._stop = True

    def close(self) -> None:
        """End the thread, then the connection."""
        self.lane.stop()
        self.conn.close(True)

    def _discover(self, plan: Plan, args: Args) -> apsw.Cursor:
        return _discover(self.cursor, plan, args)

    def _over(self) -> bool:
        return self._stop or self._now() > self.limit


def _discover(cursor: apsw.Cursor, plan: Plan, args: Args) -> apsw.Cursor:
    """Execute; learn the names of the columns of textual SQL on the way."""
    if plan.columns is not None:
        return cursor.execute(plan.sql, args)

    def learn(running: apsw.Cursor, _sql: str, _args: Any) -> bool:
        plan.learn_columns([name for name, *_ in running.get_description()])
        return True

    cursor.exec_trace = learn  # the only moment at which a result without rows has a description
    try:
        return cursor.execute(plan.sql, args)
    finally:
        cursor.exec_trace = None


def note_long(plan: Plan, took_s: float, counters: Counters) -> None:
    """A statement took longer than :data:`~tenfold.db.pace.ALARM_S` on the event loop."""
    if plan.ran_long(took_s):
        counters.demotions += 1
