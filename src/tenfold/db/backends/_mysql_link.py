"""One connection to the server: prepared statements, cursors, a time limit for each statement.

Everything with a value in it is prepared by the server and executed over the binary protocol, so no value is ever
escaped into SQL, and neither a character set nor ``NO_BACKSLASH_ESCAPES`` can turn one into code. Only statements
without values, such as COMMIT, are sent as text; several in one string are refused by the server.

A statement that runs out of time is killed by :class:`Killer` from another connection. When that does not help,
because the server does not answer at all, the connection is closed.
"""

from __future__ import annotations

import asyncio
import inspect
import struct
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from asyncmy.connection import Connection
from asyncmy.constants.CLIENT import FOUND_ROWS, MULTI_STATEMENTS

from tenfold.db.backends import _mysql_errors as errors
from tenfold.db.backends._mysql_dialect import COLLATION, SQL_MODE
from tenfold.db.backends._mysql_errors import VendorError, translate
from tenfold.db.backends._pool import Link as PoolLink
from tenfold.db.contract import Args, Rows
from tenfold.db.plan import Plan
from tenfold.errors import DatabaseError, DatabaseUnavailable, StatementError, StatementTimeout

if TYPE_CHECKING:
    from tenfold.db.backends._mysql_returning import ReturningPlan

T = TypeVar("T")

STATEMENTS_MAX = 100
"""Prepared statements of one connection. The server's default limit for all connections is 16,382."""
LIMIT_SLACK_S = 5.0
GRACE_S = 0.25
"""How long a killed statement may take to end before its connection is closed."""
BULK_ROWS = 1_000
BULK_BYTES = 4 * 1024 * 1024
"""Of one round trip of :meth:`Link.run_many`, at most; the server's default max_allowed_packet is 16 MiB."""

PARAMETERS_MAX = 60_000
"""Of one statement; the protocol allows 65,535."""
_GOODBYE_S = 1.0
_COM_STMT_FETCH = 0x1C
_CURSOR_READ_ONLY = 1
_CURSOR_EXISTS = 0x40
_LAST_ROW_SENT = 0x80
_END = 0xFE

_NO_SUCH_THREAD = 1094

_PLAIN = frozenset({type(None), bool, int, float, str, bytes, Decimal})
_STORABLE = (date, time, timedelta, int, float, str, bytes, bytearray, Decimal)


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how to connect."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    ssl: Any = None
    statement_timeout_s: float = 30.0
    lock_timeout_s: float = 10.0
    connect_timeout_s: float = 5.0

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def session(self, *, mariadb: bool, access: str = "READ ONLY") -> tuple[str, ...]:
        """What every connection is told first. Reading is the default, so that no reader can write."""
        return (
            f"SET NAMES utf8mb4 COLLATE {COLLATION[mariadb]}",
            self.limit(self.statement_timeout_s, mariadb=mariadb),
            f"SET SESSION sql_mode = '{SQL_MODE}', time_zone = '+00:00', autocommit = 1, "
            f"innodb_lock_wait_timeout = {max(1, round(self.lock_timeout_s))}, "
            f"lock_wait_timeout = {max(1, round(self.lock_timeout_s))}, wait_timeout = 28800",
            f"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, {access}",
        )

    @staticmethod
    def limit(seconds: float, *, mariadb: bool) -> str:
        """Let the server itself stop what runs for longer, in case that we are not there any more to do so. MySQL
        limits reading only."""
        if mariadb:
            return f"SET SESSION max_statement_time = {seconds + LIMIT_SLACK_S:.3f}"
        return f"SET SESSION max_execution_time = {round((seconds + LIMIT_SLACK_S) * 1000)}"


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
        """Connect and prepare the session. Raises the driver's errors, OSError or TimeoutError."""
        conn: Any = Connection(
            host=target.host, port=target.port, user=target.user, password=target.password,
            database=target.database or None, charset="utf8mb4", client_flag=FOUND_ROWS, autocommit=None,
            connect_timeout=target.connect_timeout_s, ssl=target.ssl, program_name="tenfold",
        )  # fmt: skip
        conn._client_flag &= ~MULTI_STATEMENTS  # the driver always asks for what we never want
        try:
            async with asyncio.timeout(target.connect_timeout_s):
                await conn.connect()
                link = cls(conn, target, killer)
                for statement in target.session(mariadb=link.mariadb):
                    await conn.query(statement)
        except BaseException:
            conn.close()
            raise
        return link

    # ── statements ──

    async def fetch(self, plan: Plan, args: Args, budget_s: float) -> Rows:
        """All rows of one statement."""
        result = await self._guarded(self._execute(plan, args), budget_s, plan)
        if plan.columns is None:
            plan.learn_columns([column[0] for column in result.description or ()])
        return list(result.rows or ())

    async def run(self, plan: Plan, args: Args, budget_s: float) -> int:
        """Rows that one statement matched (UPDATE), inserted or deleted."""
        result = await self._guarded(self._execute(plan, args), budget_s, plan)
        return _changed(result, plan)

    async def run_many(self, plan: Plan, many: Sequence[Args], budget_s: float) -> int:
        """One statement per element; in one round trip per :data:`BULK_ROWS` where the server can."""
        return await self._guarded(self._run_many(plan, many), budget_s, plan)

    async def returning(self, plan: ReturningPlan, params: Mapping[str, Any], budget_s: float) -> Rows:
        """The rows of a RETURNING that the server does not have."""
        return await self._guarded(plan.perform(params, self._execute), budget_s, plan)

    async def load(self, plan: Plan, columns: Sequence[str], many: Sequence[Args], budget_s: float) -> int:
        """Insert many rows, in few round trips whatever their values are."""
        return await self._guarded(self._load(plan, columns, many), budget_s, plan)

    async def perform(self, sql: str, args: Args, budget_s: float) -> Any:
        """Any statement; the driver's result."""
        return await self._guarded(self._execute(Plan(sql, (), None), args), budget_s, None)

    async def raw(self, call: Callable[[Any], Any], budget_s: float) -> Any:
        """``call(connection)``, awaited when it has to be."""
        return await self._guarded(_awaited(call, self.conn), budget_s, None)

    async def command(self, sql: str, budget_s: float) -> Any:
        """A statement without values, as text."""
        return await self._guarded(self._text(sql), budget_s, None)

    async def cursor(self, plan: Plan, args: Args, chunk: int, budget_s: Callable[[], float]) -> Pieces:
        """The rows in pieces, from a cursor that the server keeps: other statements may run in between."""
        pieces = Pieces(self, plan, args, chunk, budget_s)
        await self._guarded(pieces.open(), budget_s(), plan)
        return pieces

    async def _execute(self, plan: Plan, args: Args) -> Any:
        if not _PLAIN.issuperset(map(type, args)):
            _check(args)
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
        for piece in _pieces(many):
            done = await self._in_bulk(plan, piece)
            if done is None:
                done = sum([_changed(await self._execute(plan, args), plan) for args in piece])
            changed += done
        return changed

    async def _load(self, plan: Plan, columns: Sequence[str], many: Sequence[Args]) -> int:
        loaded = 0
        for piece in _pieces(many):
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
            _check(args)
        statement = self._statements.get(plan.sql) or await self._prepare(plan.sql)
        try:
            return int((await statement.execute_bulk(many)).affected_rows)
        except ValueError:  # a column of several types, or of NULLs only; nothing was sent
            return None

    # ── time, cancellation, failures ──

    async def _guarded(self, work: Coroutine[Any, Any, T], budget_s: float, plan: Plan | None) -> T:
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
        except asyncio.CancelledError:
            self.doubtful = True
            raise
        except DatabaseError:
            raise
        except Exception as error:
            raise self._failed(error, plan) from error
        else:
            self.used = True
            return done
        finally:
            self._busy = False
            alarm.cancel()
            work.close()

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
            self._killer.kill(self, query_only=True)
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
        await self._killer.kill(self, query_only=False)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self.conn.ensure_closed()
        except (OSError, VendorError, TimeoutError):
            self.conn.close()


class Pieces:
    """The rows of one statement, fetched as they are asked for."""

    def __init__(self, link: Link, plan: Plan, args: Args, chunk: int, budget_s: Callable[[], float]) -> None:
        self._link, self._plan, self._args, self._chunk = link, plan, args, chunk
        self._budget_s = budget_s
        self._statement: Any = None
        self._ready: list[Any] = []
        """Rows that came at once, because the statement has no cursor."""
        self._more = False

    async def open(self) -> None:
        """Execute. The statement is prepared anew: it can have one cursor only."""
        conn = self._link.conn
        _check(self._args)
        statement = self._statement = await conn.prepare(self._plan.sql)
        statement._execute_header = struct.pack("<IBI", statement._statement_id, _CURSOR_READ_ONLY, 1)
        result = await statement.execute(self._args)
        if self._plan.columns is None:
            self._plan.learn_columns([column[0] for column in result.description or ()])
        self._ready = list(result.rows or ())
        self._more = bool(result.server_status & _CURSOR_EXISTS)

    async def next(self) -> Rows:
        """The next rows; empty at the end."""
        if self._ready:
            rows, self._ready = self._ready[: self._chunk], self._ready[self._chunk :]
            return rows
        if not self._more:
            return []
        return await self._link._guarded(self._fetch(), self._budget_s(), self._plan)

    async def _fetch(self) -> Rows:
        conn, statement = self._link.conn, self._statement
        await conn._execute_command(_COM_STMT_FETCH, struct.pack("<II", statement._statement_id, self._chunk))
        specs = statement._meta[4]
        rows: Rows = []
        while True:
            packet = await conn.read_packet()
            data: bytes = packet.get_all_data()
            if data[0] == _END:
                self._more = not _status(data, short=not conn._deprecate_eof) & _LAST_ROW_SENT
                return rows
            rows.append(packet.read_binary_row(specs))

    async def close(self) -> None:
        """Let the server forget the rows that were not fetched."""
        self._more = False
        if self._statement is not None and not self._link.doubtful:
            await self._statement.close()


class Killer:
    """Stops statements from a connection of its own, made when first needed."""

    def __init__(self) -> None:
        self._conns: dict[Target, Any] = {}
        self._todo: list[tuple[Target, str]] = []
        self._task: asyncio.Task[None] | None = None
        self.kills = 0

    def kill(self, link: Link, *, query_only: bool) -> asyncio.Task[None]:
        """Stop what ``link`` runs; with all that it holds unless ``query_only``. The task never fails; it ends when
        the server has been told, or cannot be."""
        self.kills += 1
        self._todo.append((link.target, f"KILL {'QUERY' if query_only else 'CONNECTION'} {link.id}"))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work(), name="tenfold-mysql-killer")
        return self._task

    async def _work(self) -> None:
        while self._todo:
            target, command = self._todo.pop(0)
            try:
                async with asyncio.timeout(target.connect_timeout_s):
                    await self._send(target, command)
            except (OSError, VendorError, TimeoutError):
                # A server that cannot be told finds out from the connection, which is closed from our side too.
                self._forget(target)

    async def _send(self, target: Target, command: str) -> None:
        for attempt in (1, 2):
            try:
                conn = self._conns.get(target)
                if conn is None:
                    conn = self._conns[target] = (await Link.open(target, self)).conn
                await conn.query(command)
                return
            except VendorError as error:
                if errors.number(error) == _NO_SUCH_THREAD:  # it has ended by itself
                    return
                self._forget(target)
                if attempt == 2 or not errors.is_lost(error):
                    raise

    def _forget(self, target: Target) -> None:
        conn = self._conns.pop(target, None)
        if conn is not None:
            conn.close()

    async def close(self) -> None:
        """Finish what there is to kill, then disconnect."""
        if self._task is not None:
            await asyncio.wait([self._task])
        for target in list(self._conns):
            self._forget(target)


def version_of(said: str) -> tuple[tuple[int, ...], bool]:
    """``5.5.5-10.11.6-MariaDB-…`` → ``(10, 11, 6), True``; ``8.0.36`` → ``(8, 0, 36), False``."""
    mariadb = "mariadb" in said.lower()
    said = said.removeprefix("5.5.5-") if mariadb else said
    numbers = said.partition("-")[0].split(".")
    return tuple(int(part) for part in numbers if part.isdigit()), mariadb


async def _awaited(call: Callable[[Any], Any], conn: Any) -> Any:
    done = call(conn)
    return await done if inspect.isawaitable(done) else done


def _changed(result: Any, plan: Plan) -> int:
    return int(result.affected_rows) if plan.writes or result.description is None else 0


def _status(data: bytes, *, short: bool) -> int:
    """The status flags of the packet that ends the rows: an EOF packet, or an OK packet in newer protocols."""
    if short:
        return int.from_bytes(data[3:5], "little")
    position = 1
    for _ in range(2):  # affected rows and last id, each of a length that its first byte tells
        position += {0xFC: 3, 0xFD: 4, 0xFE: 9}.get(data[position], 1)
    return int.from_bytes(data[position : position + 2], "little")


def _pieces(many: Sequence[Args]) -> Iterator[Sequence[Args]]:
    """``many`` in pieces that fit into one packet."""
    start, size = 0, 0
    for i, args in enumerate(many):
        size += sum(len(value) if isinstance(value, str | bytes) else 9 for value in args)
        if i + 1 - start >= BULK_ROWS or size >= BULK_BYTES:
            yield many[start : i + 1]
            start, size = i + 1, 0
    if start < len(many):
        yield many[start:]


def _check(args: Args) -> None:
    """The driver would turn what it does not know into text, and forget time zones."""
    for value in args:
        if type(value) in _PLAIN or isinstance(value, _STORABLE):
            if isinstance(value, datetime) and value.tzinfo is not None:
                raise StatementError(
                    f"{value!r} has a time zone, and nothing says what to do with it. Give the parameter its type: "
                    "sa.bindparam(…, type_=sa.DateTime(timezone=True))."
                )
            continue
        raise StatementError(f"a parameter of type {type(value).__name__} cannot be stored: {value!r:.100}.")


def _no_time(plan: Plan | None) -> StatementTimeout:
    statement = f" The statement: {plan.describe()}" if plan is not None else ""
    return StatementTimeout(f"the statement ran past its deadline and was stopped.{statement}")
