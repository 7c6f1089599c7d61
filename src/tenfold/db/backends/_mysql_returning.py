"""RETURNING where the server has none: UPDATE on MariaDB, and everything on MySQL.

The statement becomes several in the same transaction, which together are exact because the rows are locked first:
lock the rows that the condition finds and read their keys, change the rows of these keys, read what is asked for.
What cannot be done exactly so (no primary key, a changed key, other tables in the statement, inserting several rows)
is refused with the alternative named.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import Delete, Insert, Update

from tenfold.db.blueprint import Params
from tenfold.db.contract import Args, Rows
from tenfold.db.plan import Plan, PlanCache
from tenfold.errors import StatementError

_KEYS = "tenfold_keys"

Perform = Callable[[Plan, Args], Awaitable[Any]]
"""Executes one statement in the transaction and returns the driver's result."""


class Plans(PlanCache):
    """Finds the statements that the server cannot execute as they are."""

    def __init__(self, dialect: Any) -> None:
        super().__init__(dialect)
        self._mysql = dialect
        self._emulated: WeakKeyDictionary[Any, ReturningPlan] = WeakKeyDictionary()

    def _prepare(self, statement: Any, names: tuple[str, ...], params: Params) -> tuple[Plan, Args]:
        if not getattr(statement, "_returning", None) or self._native(statement):
            return super()._prepare(statement, names, params)
        plan = self._emulated.get(statement)
        if plan is None:
            plan = self._emulated[statement] = ReturningPlan(self, statement)
        return plan, (params,)

    def _native(self, statement: Any) -> bool:
        if isinstance(statement, Update):
            return False
        return bool(
            self._mysql.insert_returning if isinstance(statement, Insert) else self._mysql.delete_returning
        )


class ReturningPlan(Plan):
    """What one statement with RETURNING becomes. Its only argument are the parameters, by name."""

    __slots__ = ("_change", "_lock", "_names", "_plans", "_show", "_statement")

    def __init__(self, plans: PlanCache, statement: Any) -> None:
        table = _table_of(statement)
        keys = list(table.primary_key.columns)
        _check(statement, keys)
        chosen = _among(keys)
        bare = statement._generate()
        bare._returning = ()
        self._plans, self._statement, self._change = plans, statement, bare
        self._show = sa.select(*statement._returning).where(chosen)
        self._lock: Any = None
        if not isinstance(statement, Insert):
            conditions = statement._where_criteria
            self._lock = sa.select(*keys).where(*conditions).with_for_update()
            bare._where_criteria = (chosen,)
        self._names = {id(part): _parameters(part) for part in (self._lock, self._show) if part is not None}
        shown, _ = plans.bind(self._show, {_KEYS: _nothing(keys), **dict.fromkeys(self._of(self._show))})
        super().__init__(shown.sql, (), statement)
        self.columns = shown.columns
        self.sql = str(statement)

    async def perform(self, params: Params, execute: Perform) -> Rows:
        """The rows, after the change (UPDATE, INSERT) or before it (DELETE)."""
        if isinstance(self._statement, Insert):
            done = await execute(*self._plans.bind(self._change, params))
            return await self._shown([self._inserted(params, done.insert_id)], params, execute)
        found = await execute(*self._plans.bind(self._lock, self._given(self._lock, params)))
        keys = list(found.rows or ())
        if not keys:
            return []
        if isinstance(self._statement, Delete):
            rows = await self._shown(keys, params, execute)
            await self._changed(keys, params, execute)
            return rows
        await self._changed(keys, params, execute)
        return await self._shown(keys, params, execute)

    async def _changed(self, keys: Sequence[Any], params: Params, execute: Perform) -> None:
        only_elsewhere = (self._of(self._lock) | self._of(self._show)) - _parameters(self._change)
        given = {name: value for name, value in params.items() if name not in only_elsewhere}
        await execute(*self._plans.bind(self._change, {**given, _KEYS: _flat(keys)}))

    async def _shown(self, keys: Sequence[Any], params: Params, execute: Perform) -> Rows:
        given = self._given(self._show, params)
        done = await execute(*self._plans.bind(self._show, {**given, _KEYS: _flat(keys)}))
        return list(done.rows or ())

    def _inserted(self, params: Params, made: int) -> tuple[Any, ...]:
        keys = list(_table_of(self._statement).primary_key.columns)
        return tuple(params.get(key.key, made) for key in keys)

    def _of(self, part: Any) -> frozenset[str]:
        return self._names.get(id(part), frozenset()) - {_KEYS}

    def _given(self, part: Any, params: Params) -> Mapping[str, Any]:
        names = self._of(part)
        return {name: value for name, value in params.items() if name in names}


def _table_of(statement: Any) -> sa.Table:
    if not isinstance(statement.table, sa.Table):
        _refuse("it changes something that is not a table")
    return statement.table


def _check(statement: Any, keys: Sequence[sa.Column[Any]]) -> None:
    table = statement.table
    if not keys:
        _refuse(f"the table {table.name} has no primary key by which the rows could be found again")
    froms = {
        found
        for part in (*getattr(statement, "_where_criteria", ()), *statement._returning)
        for found in visitors.iterate(part)
        if isinstance(found, sa.Table)
    }
    if froms - {table}:
        _refuse("it involves other tables")
    if isinstance(statement, Update):
        changed = {getattr(column, "key", column) for column in statement._values or {}}
        if changed & {key.key for key in keys}:
            _refuse("it changes the primary key")
    if isinstance(statement, Insert):
        if (
            statement.select is not None
            or statement._multi_values
            or statement._post_values_clause is not None
        ):
            _refuse("it may insert any number of rows")
        given = {getattr(column, "key", column) for column in statement._values or {}}
        if len(keys) > 1 or keys[0].key in given or keys[0].default is not None:
            _refuse("the key of the new row cannot be known")


def _refuse(why: str) -> NoReturn:
    raise StatementError(
        f"this database has no RETURNING for such a statement, and it cannot be done in steps, because {why}. Select "
        "the rows with with_for_update() first, then change them, in one transaction."
    )


def _among(keys: Sequence[sa.Column[Any]]) -> sa.ColumnElement[bool]:
    values: sa.BindParameter[Any] = sa.bindparam(_KEYS, expanding=True)
    if len(keys) == 1:
        return keys[0].in_(values)
    return sa.tuple_(*keys).in_(values)


def _flat(keys: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [key[0] if len(key) == 1 else tuple(key) for key in keys]


def _nothing(keys: Sequence[sa.Column[Any]]) -> list[Any]:
    return [None if len(keys) == 1 else (None,) * len(keys)]


def _parameters(part: Any) -> frozenset[str]:
    """The names of the parameters in a statement."""
    return frozenset(
        found.key
        for found in visitors.iterate(part)
        if isinstance(found, sa.BindParameter) and not found.unique
    )
