"""One asyncpg connection: statements prepared once, and no round trip that is not a statement's own.

The statement goes to asyncpg's protocol object (``bind_execute``): the public methods add three coroutines and a
look-up by SQL text, which is half of the cost of a small statement. What begins a transaction or a savepoint is not
waited for: it is written in front of the next statement's messages, without a Sync in between, and answered with it;
so is a COMMIT behind the last (:mod:`tenfold.db.backends._postgresql_line`).
"""

from __future__ import annotations

import asyncio
import contextlib
import decimal
from collections.abc import Awaitable, Sequence
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from asyncpg.exceptions import InternalClientError, PostgresError  # type: ignore[import-untyped]

from tenfold.db.backends import _postgresql_errors as errors
from tenfold.db.backends._postgresql_driver import PgLink, Prefix, left_until, until_in
from tenfold.db.backends._postgresql_errors import Report
from tenfold.db.backends._postgresql_line import Line, LineLoop, bound, statements
from tenfold.db.backends._postgresql_url import Address
from tenfold.db.backends._session_state import leaves_state
from tenfold.db.backends._waiting import Through
from tenfold.db.contract import Args, Rows
from tenfold.db.plan import Plan
from tenfold.errors import (
    ConfigError,
    DatabaseError,
    DatabaseUnavailable,
    StatementError,
    StatementTimeout,
    ValueRefused,
)

PREPARED_MAX = 500
"""Statements that one connection keeps prepared; each costs the server some kilobytes."""
_COMMIT = statements(("COMMIT",))
_NUMBERED = "SELECT each.*, ${number}::integer FROM (\n{sql}\n) AS each {most}"
_DISCARD_S = 1.0
_BROKEN = (OSError, TimeoutError, asyncpg.InterfaceError, InternalClientError)
"""What asyncpg raises when a connection ends while it is being made."""
_PYTHON_TYPES = {"numeric": decimal.Decimal}
"""Server types whose values are of another type than what was declared may make one expect."""


class AsyncpgLink(PgLink):
    """See the module."""

    outlasting = Through  # asyncpg's own timer ends a statement, and no cancellation

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._protocol = connection._protocol
        self._line: Line = connection._transport
        self._prepared: dict[Plan, Any] = {}
        self._names = 0

    # ── statements ──

    def fetch(
        self, plan: Plan, args: Args, limit: int, timeout_s: float, prefix: Prefix = ()
    ) -> Awaitable[Rows]:
        state = self._prepared.get(plan)
        if state is not None and not prefix:
            # asyncpg's own coroutine: one of ours around it would cost as much as decoding the row
            rows: Awaitable[Rows] = self._protocol.bind_execute(
                state._state, args, "", limit, False, timeout_s
            )
            return rows
        return self._fetch(plan, args, limit, timeout_s, prefix)

    async def _fetch(self, plan: Plan, args: Args, limit: int, timeout_s: float, prefix: Prefix) -> Rows:
        state = self._prepared.get(plan)
        if state is None:
            state, prefix, timeout_s = await self._prepare(plan, timeout_s, prefix)
        rows: Rows = (await self._execute(state, args, limit, timeout_s, prefix))[0]
        return rows

    async def fetch_each(
        self, plan: Plan, many: Sequence[Args], limit: int, timeout_s: float, prefix: Prefix = ()
    ) -> list[Rows]:
        together = numbered(plan, len(many[0]), limit)
        if together is None:
            return await super().fetch_each(plan, many, limit, timeout_s, prefix)
        if prefix:
            timeout_s = await self.run_ahead(prefix, timeout_s)
        state = self._prepared.get(together)
        if state is None:
            state, _, timeout_s = await self._prepare(together, timeout_s, ())
        if not plan.learned:
            plan.learn(_given(state)[:-1])
        several = [(*args, number) for number, args in enumerate(many)]
        rows = await self._protocol.bind_execute_many(state._state, several, "", timeout_s, True)
        found: list[Rows] = [[] for _ in many]
        for row in rows:
            found[row[-1]].append(row[:-1])
        return found

    @property
    def takes_behind(self) -> bool:
        return self._line.takes_behind

    async def fetch_last(
        self, plan: Plan, args: Args, limit: int, timeout_s: float, prefix: Prefix = (), behind: bytes = b""
    ) -> tuple[Rows, str]:
        state = self._prepared.get(plan)
        if state is None:
            state, prefix, timeout_s = await self._prepare(plan, timeout_s, prefix)
        rows, status, _ = await self._execute(state, args, limit, timeout_s, prefix, _COMMIT, behind)
        return rows, status.decode()

    async def run(self, plan: Plan, args: Args, timeout_s: float, prefix: Prefix = ()) -> int:
        state = self._prepared.get(plan)
        if state is None:
            state, prefix, timeout_s = await self._prepare(plan, timeout_s, prefix)
        return _changed((await self._execute(state, args, 0, timeout_s, prefix))[1])

    async def result(
        self, plan: Plan, args: Args, timeout_s: float, prefix: Prefix = ()
    ) -> tuple[Rows, int, Sequence[str]]:
        state = self._prepared.get(plan)
        if state is None:
            state, prefix, timeout_s = await self._prepare(plan, timeout_s, prefix)
        rows, status, _ = await self._execute(state, args, 0, timeout_s, prefix)
        return rows, _changed(status), [attribute.name for attribute in state.get_attributes()]

    async def run_many(self, plan: Plan, many: Sequence[Args], timeout_s: float, prefix: Prefix = ()) -> int:
        if prefix:
            timeout_s = await self.run_ahead(prefix, timeout_s)
        state = self._prepared.get(plan)
        if state is None:
            state, _, timeout_s = await self._prepare(plan, timeout_s, ())
        rows = await self._protocol.bind_execute_many(state._state, many, "", timeout_s, plan.returns)
        return len(rows) if plan.returns else len(many)

    async def load(
        self, plan: Plan, columns: Sequence[str], many: Sequence[Args], timeout_s: float, prefix: Prefix = ()
    ) -> int:
        if prefix:
            timeout_s = await self.run_ahead(prefix, timeout_s)
        assert plan.table is not None
        await self.connection.copy_records_to_table(
            plan.table.name, records=many, columns=columns, schema_name=plan.table.schema, timeout=timeout_s
        )
        return len(many)

    async def command(self, sql: str, timeout_s: float) -> str:
        tag: str = await self._protocol.query(sql, timeout_s)
        return tag

    # ── portals, for streams ──

    async def open_portal(
        self, name: str, plan: Plan, args: Args, timeout_s: float, prefix: Prefix = ()
    ) -> Any:
        if prefix:
            timeout_s = await self.run_ahead(prefix, timeout_s)
        state = self._prepared.get(plan)
        if state is None:
            state, _, timeout_s = await self._prepare(plan, timeout_s, ())
        await self._protocol.bind(state._state, args, name, timeout_s)
        return state

    async def piece(self, name: str, portal: Any, count: int, timeout_s: float) -> Rows:
        rows: Rows = await self._protocol.execute(portal._state, name, count, False, timeout_s)
        return rows

    async def close_portal(self, name: str, timeout_s: float) -> None:
        await self._protocol.close_portal(name, timeout_s)

    # ── inside ──

    async def _prepare(self, plan: Plan, timeout_s: float, prefix: Prefix) -> tuple[Any, Prefix, float]:
        """The statement, what is still to be sent in front of it, and the seconds that are left for it."""
        if prefix:  # now: preparing takes a snapshot, after which the isolation level cannot be set any more
            timeout_s = await self.run_ahead(prefix, timeout_s)
        until = until_in(timeout_s)
        if plan.textual and leaves_state(plan.sql):
            self.stained = True
        if len(self._prepared) >= PREPARED_MAX:
            self._prepared.pop(next(iter(self._prepared)))
        self._names += 1  # without a name of ours, asyncpg would send the text with every execution
        state = await self.connection.prepare(plan.sql, name=f"tenfold_{self._names}", timeout=timeout_s)
        self._prepared[plan] = state
        if not plan.learned:
            plan.learn(_given(state))
        return state, (), left_until(until)

    async def _execute(
        self,
        state: Any,
        args: Args,
        limit: int,
        timeout_s: float,
        prefix: Prefix,
        tail: bytes = b"",
        behind: bytes = b"",
    ) -> Any:
        if prefix and not self._is_prepared(prefix):
            timeout_s = await self.run_ahead(prefix, timeout_s)
            prefix = ()
        if prefix or tail:
            self._line.put_around(self._head(prefix) if prefix else b"", tail, behind)
        try:
            return await self._protocol.bind_execute(state._state, args, "", limit, True, timeout_s)
        except (PostgresError, asyncpg.InterfaceError, ValueError, TypeError) as error:
            if getattr(error, "severity", None) is None and not self.closed:
                # The arguments could not be encoded, so what stands around them was not sent either. A savepoint has
                # to be there all the same, and what asyncpg sent to prepare waits for a Sync.
                self._line.forget()
                if prefix:
                    await self.run_ahead(prefix, timeout_s)
                else:
                    await self.close_portal("", timeout_s)
            raise
        finally:
            if self._line.loaded:
                self._line.forget()

    def _is_prepared(self, prefix: Prefix) -> bool:
        return all(isinstance(part, str) or part.plan in self._prepared for part in prefix)

    def _head(self, prefix: Prefix) -> bytes:
        """What is written in front of a statement: texts first, as :data:`Prefix` has them."""
        texts = tuple(part for part in prefix if isinstance(part, str))
        bound_ = [
            bound(self._prepared[part.plan].get_name(), part.args)
            for part in prefix
            if not isinstance(part, str)
        ]
        return statements(texts) + b"".join(bound_)

    # ── failures and the end ──

    def failed(self, error: Exception, plan: Plan | None, *, read_only: bool = False) -> DatabaseError:
        if isinstance(error, DatabaseError):
            return error
        if isinstance(error, TimeoutError):
            self.doubtful = True  # asyncpg has sent a cancel request, which may come late
            said = f" The statement: {plan.describe()}" if plan is not None else ""
            return StatementTimeout(f"the statement ran past its deadline and was stopped.{said}")
        report = report_of(error)
        if report is not None:
            self.doubtful |= errors.lost(report.state) or errors.demoted(report)
            if errors.stale_plan(report):
                self._prepared.clear()
            return errors.translate(report, plan, read_only=read_only)
        if isinstance(error, OSError | asyncpg.PostgresConnectionError | InternalClientError) or self.closed:
            self.doubtful = True
            return errors.broken(error)
        said = f" The statement: {plan.describe()}" if plan is not None else ""
        if isinstance(error.__cause__, OverflowError | UnicodeEncodeError):
            return ValueRefused(f"the parameters do not fit: {error.__cause__}.{said}")
        if not isinstance(
            error, asyncpg.InterfaceError | PostgresError
        ):  # for parameters it has errors of its own
            return errors.unreadable(error, plan)
        return StatementError(f"the parameters do not fit: {error}.{said}")

    @property
    def closed(self) -> bool:
        # asyncpg's own method, without the call: it is asked for every statement
        return bool(self.connection._aborted or not self._protocol.is_connected())

    @property
    def reported_name(self) -> str:
        return str(self.connection.get_settings().application_name)

    @property
    def in_transaction(self) -> bool:
        return not self.closed and bool(self._protocol.is_in_transaction())

    async def discard(self) -> None:
        # asyncpg first waits until its cancel request is out, or sends one for what still runs.
        await self.close()

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await self.connection.close(timeout=_DISCARD_S)


def report_of(error: BaseException) -> Report | None:
    """What the server said; None for what it did not say."""
    if not isinstance(error, PostgresError) or getattr(error, "severity", None) is None:
        return None
    said: Any = error
    return Report(
        state=said.sqlstate, message=str(said.message or said), detail=said.detail or "", table=said.table_name or "",
        column=said.column_name or "", constraint=said.constraint_name or "",
        source=said.server_source_function or "",
    )  # fmt: skip


async def connect(
    address: Address, timeout_s: float, *, primary: bool, session: dict[str, str]
) -> AsyncpgLink:
    """A connection; with ``primary``, of several hosts to the one that takes writes. Raises ConfigError for what
    only a changed configuration mends, DatabaseUnavailable otherwise."""
    try:
        open_: Any = asyncpg.connect  # its hints say int where it takes a float
        connection = await open_(
            address.dsn, timeout=timeout_s, statement_cache_size=0, server_settings=session, loop=LineLoop(),
            target_session_attrs="primary" if primary and address.several else "any",
        )  # fmt: skip
    except PostgresError as error:
        report = report_of(error)
        if report is None:
            raise errors.unreachable(address.hosts, error) from error
        raise errors.refusal(report, user=address.user, database=address.database) from error
    except (asyncpg.ClientConfigurationError, ValueError) as error:
        raise ConfigError(f"it cannot be used: {error}.", where=errors.SETTING) from error
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise DatabaseUnavailable(
            f"none of the servers at {address.hosts} takes writes now: a fail-over goes on, or all are standbys."
        ) from error
    except _BROKEN as error:
        raise errors.unreachable(address.hosts, error) from error
    version = connection.get_server_version()
    if version.major < errors.SERVER_MIN:
        await connection.close(timeout=_DISCARD_S)
        raise errors.too_old(f"{version.major}.{version.minor}")
    if version.major >= 14:
        # A statement ends when its client is gone, also one that was killed and could not cancel it.
        try:
            await connection.execute("SET client_connection_check_interval = 1000", timeout=timeout_s)
        except (PostgresError, *_BROKEN) as error:
            connection.terminate()
            raise errors.unreachable(address.hosts, error) from error
    connection._loop = asyncio.get_running_loop()  # it looks for its task there
    return AsyncpgLink(connection)


def _given(state: Any) -> list[tuple[str, type | None]]:
    """What a prepared statement says of its columns, as :meth:`Plan.learn` takes it."""
    return [(column.name, _PYTHON_TYPES.get(column.type.name)) for column in state.get_attributes()]


def numbered(plan: Plan, parameters: int, limit: int) -> Plan | None:
    """The same with one more parameter, an integer, that each row ends with: of many executions whose rows come as one
    list it tells which row is whose. None for what writes, and for SQL written by hand."""
    if plan.writes or plan.textual:
        return None
    found = plan.numbered.get(limit)
    if found is None:
        most = f"LIMIT {limit}" if limit else ""
        sql = _NUMBERED.format(number=parameters + 1, sql=plan.sql, most=most)
        found = plan.numbered[limit] = Plan(sql, (), None)
    return found


def _changed(status: bytes | None) -> int:
    """``INSERT 0 2`` → 2; what only reads or defines changes nothing."""
    verb, _, count = (status or b"").rpartition(b" ")
    return int(count) if verb in (b"INSERT 0", b"UPDATE", b"DELETE", b"MERGE") else 0
