"""One connection to the server: prepared statements, cursors, a time limit for each statement.

Everything with a value in it is prepared by the server and executed over the binary protocol, so no value is ever
escaped into SQL, and neither a character set nor ``NO_BACKSLASH_ESCAPES`` can turn one into code. Only statements
without values, such as COMMIT, are sent as text; several in one string are refused by the server.

A statement that runs out of time is killed by the :class:`Killer` from another connection. When that does not help,
because the server does not answer at all, the connection is closed.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from tenfold.db.backends import _mysql_errors as errors
from tenfold.db.backends._link import Link as PoolLink
from tenfold.db.backends._mysql_cursor import Pieces
from tenfold.db.backends._mysql_errors import VendorError, translate
from tenfold.db.backends._mysql_target import Target, connect, version_of
from tenfold.db.backends._mysql_values import (
    BULK_ROWS,
    PARAMETERS_MAX,
    PLAIN,
    check,
    in_pieces,
    refuse_ends,
)
from tenfold.db.backends._session_state import leaves_state
from tenfold.db.contract import Args, Rows
from tenfold.db.plan import Plan
from tenfold.errors import DatabaseError, DatabaseUnavailable, StatementError, StatementTimeout

if TYPE_CHECKING:
    from tenfold.db.backends._mysql_killer import Killer
    from tenfold.db.backends._mysql_returning import ReturningPlan

T = TypeVar("T")

STATEMENTS_MAX = 100
"""Prepared statements of one connection. The server's default limit for all connections is 16,382."""
GRACE_S = 0.25
"""How long a killed statement may take to end before its connection is closed."""
_GOODBYE_S = 1.0


class _Late(StatementTimeout):
    """An answer came, but after the server had been told to stop."""

    def __init__(self, plan: Plan | None, done: Any) -> None:
        super().__init__(str(_no_time(plan)))
        self.done = done


class Link(PoolLink):
    """See the module's docstring. One statement at a time; :meth:`open` makes one."""

    def __init__(self, conn: Any, target: Target, killer: Killer) -> None:
        self.conn = conn
        self.target = target
        self.id: int = conn.thread_id()
        self.version, self.mariadb = version_of(conn.get_server_info())
        self.used = False
        """It has answered before, so the server may have gone away since."""
        self.read_only = False
        """The server has refused a write as a whole: others there will be refused too."""
        self._killer = killer
        self._statements: OrderedDict[str, Any] = OrderedDict()
        self._expired = False
        self._busy = False
        self._limit_s = target.statement_timeout_s
        """What the server was told, without the slack."""

    @classmethod
    async def open(cls, target: Target, killer: Killer) -> Link:
        """Connect. Raises the driver's errors, OSError or TimeoutError."""
        return cls(await connect(target), target, killer)

    # ── statements ──

    async def fetch(self, plan: Plan, args: Args, budget_s: float) -> Rows:
        """All rows of one statement."""
        result = await self.guarded(self._execute(plan, args), budget_s, plan)
        if plan.columns is None:
            plan.learn_columns([column[0] for column in result.description or ()])
        return list(result.rows or ())

    async def run(self, plan: Plan, args: Args, budget_s: float) -> int:
        """Rows that one statement matched (UPDATE), inserted or deleted."""
        result = await self.guarded(self._execute(plan, args), budget_s, plan)
        return _changed(result, plan)

    async def run_many(self, plan: Plan, many: Sequence[Args], budget_s: float) -> int:
        """One statement per element; in one round trip per :data:`BULK_ROWS` where the server can."""
        return await self.guarded(self._run_many(plan, many), budget_s, plan)

    async def returning(self, plan: ReturningPlan, params: Mapping[str, Any], budget_s: float) -> Rows:
        """The rows of a RETURNING that the server does not have."""
        return await self.guarded(plan.perform(params, self._execute), budget_s, plan)

    async def load(self, plan: Plan, columns: Sequence[str], many: Sequence[Args], budget_s: float) -> int:
        """Insert many rows, in few round trips whatever their values are."""
        return await self.guarded(self._load(plan, columns, many), budget_s, plan)

    async def perform(self, sql: str, args: Args, budget_s: float) -> Any:
        """Any statement; the driver's result."""
        return await self.guarded(self._execute(Plan(sql, (), None), args), budget_s, None)

    async def raw(self, call: Callable[[Any], Any], budget_s: float) -> Any:
        """``call(connection)``, awaited when it has to be."""
        return await self.guarded(_awaited(call, self.conn), budget_s, None)

    async def command(self, sql: str, budget_s: float) -> Any:
        """A statement without values that happens whole or not at all, as text."""
        try:
            return await self.guarded(self._text(sql), budget_s, None)
        except _Late as late:
            return late.done

    async def cursor(self, plan: Plan, args: Args, chunk: int, budget_s: Callable[[], float]) -> Pieces:
        """The rows in pieces, from a cursor that the server keeps: other statements may run in between."""
        pieces = Pieces(self, plan, args, chunk, budget_s)
        await self.guarded(pieces.open(), budget_s(), plan)
        return pieces

    async def _execute(self, plan: Plan, args: Args) -> Any:
        if not PLAIN.issuperset(map(type, args)):
            check(args)
        statement = self._statements.get(plan.sql)
        if statement is None:
            statement = await self._prepare(plan.sql)
            if statement is None:
                if args:
                    raise StatementError(
                        "the server cannot prepare this statement, so it may have no parameters. The statement: "
                        + plan.describe()
                    )
                return await self._text(plan.sql)
        else:
            self._statements.move_to_end(plan.sql)
        return await statement.execute(args)

    async def _prepare(self, sql: str) -> Any:
        """A prepared statement that is kept; None where the server prepares no such statements."""
        refuse_ends(sql)
        if leaves_state(sql):
            self.stained = True
        while len(self._statements) >= STATEMENTS_MAX:
            await self._statements.popitem(last=False)[1].close()
        try:
            statement = await self.conn.prepare(sql)
        except VendorError as error:
            code = errors.number(error)
            if code == errors.NO_PREPARING:
                return None
            if code != errors.TOO_MANY_PREPARED or not self._statements:
                raise
            await self.forget_statements()
            statement = await self.conn.prepare(sql)
        self._statements[sql] = statement
        return statement

    async def forget_statements(self) -> None:
        """Give the server's places for prepared statements back."""
        while self._statements:
            await self._statements.popitem()[1].close()

    async def _text(self, sql: str) -> Any:
        await self.conn.query(sql)
        return self.conn._result

    async def _run_many(self, plan: Plan, many: Sequence[Args]) -> int:
        changed = 0
        for piece in in_pieces(many):
            done = await self._in_bulk(plan, piece)
            if done is None:
                done = sum([_changed(await self._execute(plan, args), plan) for args in piece])
            changed += done
        return changed

    async def _load(self, plan: Plan, columns: Sequence[str], many: Sequence[Args]) -> int:
        loaded = 0
        for piece in in_pieces(many):
            done = await self._in_bulk(plan, piece)
            loaded += await self._insert_rows(plan, len(columns), piece) if done is None else done
        return loaded

    async def _insert_rows(self, plan: Plan, width: int, many: Sequence[Args]) -> int:
        head, _, row = plan.sql.rpartition(" VALUES ")
        step = max(1, min(BULK_ROWS, PARAMETERS_MAX // max(width, 1)))
        inserted = 0
        for start in range(0, len(many), step):
            piece = many[start : start + step]
            sql = f"{head} VALUES {', '.join([row] * len(piece))}"
            done = await self._execute(Plan(sql, (), None), tuple(chain.from_iterable(piece)))
            inserted += int(done.affected_rows)
        return inserted

    async def _in_bulk(self, plan: Plan, many: Sequence[Args]) -> int | None:
        """All in one round trip; None where the server, or the mixture of the values, does not allow it."""
        if len(many) == 1 or not (plan.writes and self.conn._bulk_supported):
            return None
        for args in many:
            check(args)
        statement = self._statements.get(plan.sql) or await self._prepare(plan.sql)
        try:
            return int((await statement.execute_bulk(many)).affected_rows)
        except ValueError:  # a column of several types, or of NULLs only; nothing was sent
            return None

    # ── time, cancellation, failures ──

    async def guarded(self, work: Coroutine[Any, Any, T], budget_s: float, plan: Plan | None) -> T:
        """``work``, stopped when its time is over; the driver's errors as ours."""
        if budget_s <= 0 or self.doubtful:
            work.close()
            raise _no_time(plan) if budget_s <= 0 else DatabaseUnavailable("the connection is closed.")
        self._expired, self._busy = False, True
        alarm = asyncio.get_running_loop().call_later(budget_s, self._expire)
        try:
            if budget_s > self._limit_s:
                await self.conn.query(self.target.limit(budget_s, mariadb=self.mariadb))
                self._limit_s = budget_s
            done = await work
            self.used = True
        except asyncio.CancelledError:
            self.doubtful = True
            raise
        except DatabaseError:
            raise
        except Exception as error:
            raise self._failed(error, plan) from error
        finally:
            self._busy = False
            alarm.cancel()
            work.close()
        if self._expired:
            # Some functions, such as sleep() and benchmark(), return something when they are killed. And the server
            # may still be about to kill, whatever is sent next.
            self.doubtful = True
            raise _Late(plan, done)
        return done

    def _failed(self, error: Exception, plan: Plan | None) -> DatabaseError:
        expired = self._expired and (errors.is_lost(error) or errors.number(error) in errors.KILLED)
        if not isinstance(error, VendorError | TypeError | ValueError | OverflowError) or errors.is_lost(
            error
        ):
            self.doubtful = True
        if errors.number(error) in errors.READ_ONLY_SERVER:
            self.read_only = True
        return _no_time(plan) if expired else translate(error, plan)

    def _expire(self) -> None:
        if self._busy:
            self._expired = True
            self._killer.kill(self.target, self.id, query_only=True)
            asyncio.get_running_loop().call_later(GRACE_S, self._give_up)

    def _give_up(self) -> None:
        if self._busy and self._expired:
            self.doubtful = True
            self.conn.close()

    # ── its end ──

    @property
    def closed(self) -> bool:
        # One in doubt has to be discarded, whatever has become of its socket: the server may be at work for it.
        return not self.doubtful and (not self.conn.connected or bool(self.conn._stream_broken))

    async def discard(self) -> None:
        # The server notices a closed connection only between statements.
        self.conn.close()
        await self._killer.kill(self.target, self.id, query_only=False)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self.conn.ensure_closed()
        except (OSError, VendorError, TimeoutError):
            self.conn.close()


async def _awaited(call: Callable[[Any], Any], conn: Any) -> Any:
    done = call(conn)
    return await done if inspect.isawaitable(done) else done


def _changed(result: Any, plan: Plan) -> int:
    return int(result.affected_rows) if plan.writes or result.description is None else 0


def _no_time(plan: Plan | None) -> StatementTimeout:
    statement = f" The statement: {plan.describe()}" if plan is not None else ""
    return StatementTimeout(f"the statement ran past its deadline and was stopped.{statement}")
