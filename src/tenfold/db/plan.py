"""From a SQLAlchemy statement to what the driver needs: SQL, a function that makes the arguments, the columns.

Compiling costs a hundred microseconds or more, so it happens once. A prebuilt statement finds its plan by
identity; one that is built per call by SQLAlchemy's cache key, with its literals taken from the statement at
hand. The arguments come from one generated expression, such as ``(p['id'], x[0], c2(p['at']))``.
"""

from __future__ import annotations

import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple, cast

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.dml import Insert, Update, UpdateBase

from tenfold.db.blueprint import UNFIT, Blueprint, Misfit, Params, check_names, defaults_of, processed
from tenfold.db.contract import Args
from tenfold.db.decode import Column, Decoder, decoder
from tenfold.db.pace import Pace
from tenfold.errors import StatementError, TransactionMisuse

PLANS_MAX = 1000
"""Compiled statements kept; the least recently used one goes first."""
_EXPANSIONS_MAX = 50
NEVER = sys.maxsize
"""Of :attr:`Plan.look_at`: of no number of executions."""


class Plan(Pace):
    """One SQL string, as the driver gets it."""

    __slots__ = (
        "__weakref__", "_known", "cache", "columns", "compiled", "count", "counting", "decoders", "learned", "look_at", "many_is_one_each",
        "max_s", "numbered", "returns", "sql", "table", "textual", "total_s", "writes",
    )  # fmt: skip

    def __init__(self, sql: str, columns: Sequence[Column], statement: Any, *, named: bool = True) -> None:
        super().__init__()
        self.sql = sql
        self.columns: tuple[Column, ...] | None = tuple(columns) if named else None
        """None until the first execution tells (textual SQL)."""
        self._known = columns
        self.textual = not named
        """Written by hand: what it gives, and whether it writes, is known to the engine only."""
        self.learned = False
        """The engine has told what it gives (:meth:`learn`)."""
        self.decoders: dict[Any, Decoder] = {}
        self.table: sa.Table | None = None
        """The table that the statement changes, for messages."""
        self.writes = isinstance(statement, UpdateBase)
        if self.writes and isinstance(statement.table, sa.Table):
            self.table = statement.table
        self.many_is_one_each = _inserts_one_row(statement)
        """Each execution changes exactly one row, so nobody has to count."""
        self.returns = self.writes and bool(columns)
        """Gives one row back for each row that it changes."""
        self.counting: Plan | None = None
        """The same with ``RETURNING 1``, made by backends that count rows so."""
        self.numbered: dict[int, Plan] = {}
        """The same for many executions at once, by the most rows of each; made by backends that send them together."""
        self.compiled: weakref.ref[Any] | None = None
        """As SQLAlchemy keeps it. Weak, or a plan would keep its statement, and so itself, for ever."""
        self.cache: PlanCache | None = None
        """Where it is kept; None for a plan of a backend's own."""
        self.count, self.total_s, self.max_s = 0, 0.0, 0.0
        """Executions that were timed, seconds in them, and the longest."""
        self.look_at = 1
        """Whoever watches wants to know of as many executions, or more, in one piece of work."""

    @property
    def statement(self) -> Any:
        """What it was compiled from: the first statement of its shape, or None when that is gone."""
        compiled = None if self.compiled is None else self.compiled()
        return None if compiled is None else compiled.statement

    @property
    def framework(self) -> bool:
        """It is a statement of ours, about tables of ours."""
        return "tenfold_" in self.sql

    def ran(self, took_s: float, args: Args) -> None:
        """Count an execution."""
        self.count += 1
        self.total_s += took_s
        if took_s > self.max_s:
            self.max_s = took_s
            cache = self.cache
            if cache is not None and took_s > cache.slow_s and cache.on_slow is not None:
                cache.on_slow(self, args, took_s)

    def learn(self, given: Sequence[tuple[str, type | None]]) -> None:
        """Names of the columns, and types that differ from what was declared: a sum of integers may come as a
        Decimal, which is then converted to what the statement says. Before the first decoder is made."""
        self.learned = True
        if self.columns is None:
            self.learn_columns([name for name, _ in given])
        assert self.columns is not None
        self.columns = tuple(
            _as_declared(column, real) for column, (_, real) in zip(self.columns, given, strict=False)
        )

    def learn_columns(self, names: Sequence[str]) -> None:
        """The names that the engine gives to the columns of textual SQL."""
        known = {column.name: column for column in self._known}
        self.columns = tuple(known.get(name) or Column(name) for name in names)

    def decoder(self, type_: Any) -> Decoder:
        """The function from this plan's rows to ``type_``. Raises RowMismatch."""
        found = self.decoders.get(type_)
        if found is None:
            found = self.decoders[type_] = decoder(type_, self.columns or ())
        return found

    def describe(self) -> str:
        """The SQL, shortened for messages."""
        flat = " ".join(self.sql.split())
        return flat if len(flat) <= 200 else flat[:197] + "…"


def _as_declared(column: Column, real: type | None) -> Column:
    if real is None or column.processor is not None:
        return column
    declared = column.python_type
    if declared is None:
        return column._replace(python_type=real)
    if declared is real or declared not in (int, float):
        return column
    return column._replace(processor=lambda value: None if value is None else declared(value))


class Prepared(NamedTuple):
    """A statement with a given set of parameter names, ready to run."""

    plan: Plan
    bind: Callable[[Params, Args], Args]
    literals: Args
    processors: Mapping[str, Callable[[Any], Any]]
    """By parameter: what makes the driver's value of the caller's."""


class PlanCache:
    """The plans of one backend. Used from the event loop only."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._dialect = dialect
        self.latest: dict[int, Prepared] = {}
        """By ``id(statement)``; an entry goes when its statement does, so an id is never taken for another's."""
        self._watch: dict[int, weakref.ref[Any]] = {}
        self._variants: dict[int, dict[tuple[str, ...], Prepared]] = {}
        self._compiled: MutableMapping[Any, Any] = _Recent(PLANS_MAX)
        self._plans: weakref.WeakSet[Plan] = weakref.WeakSet()
        self.timer: Callable[[], float] | None = None
        """Executions are timed by it where it is set: a monotonic clock, in seconds."""
        self.slow_s = float("inf")
        self.on_slow: Callable[[Plan, Args, float], None] | None = None
        """Called for executions that took longer than ``slow_s``, and than all before them."""

    def known(self) -> list[Plan]:
        """Every plan that is kept."""
        return list(self._plans)

    def bind(self, statement: Any, params: Params) -> tuple[Plan, Args]:
        """The plan and the arguments for one execution. Raises StatementError."""
        prepared = self.latest.get(id(statement))
        if prepared is not None:
            try:
                return prepared.plan, prepared.bind(params, prepared.literals)
            except (*UNFIT, Misfit):
                pass  # another set of names than last time, or a mistake that is explained below
        names = tuple(sorted(params))
        prepared = self._variants.get(id(statement), {}).get(names)
        if prepared is None:
            return self._prepare(statement, names, params)
        self.latest[id(statement)] = prepared
        return _bound(prepared, params)

    def bind_unseen(self, statement: Any, params: Params) -> tuple[Plan, Args]:
        """As :meth:`bind`, for the second and later parameters of one execution: who watches has seen the first."""
        return PlanCache.bind(self, statement, params)

    def _prepare(self, statement: Any, names: tuple[str, ...], params: Params) -> tuple[Plan, Args]:
        compiled, extracted = self._compile(statement, names)
        if compiled.is_ddl:
            return Plan(compiled.string, (), statement), ()
        check_names(compiled, params)
        if compiled.post_compile_params:
            return self._expand(compiled, extracted, params)
        blueprint: Blueprint | None = getattr(compiled, "tenfold_blueprints", {}).get(names)
        if blueprint is None:
            blueprint = self._blueprint(compiled, statement, names)
        literals = blueprint.literals(compiled, extracted)
        prepared = Prepared(blueprint.plan, blueprint.bind, literals, blueprint.processors)
        if not blueprint.volatile:
            self._remember(statement, names, prepared)
        return _bound(prepared, params)

    def _compile(self, statement: Any, names: tuple[str, ...]) -> tuple[Any, Any]:
        dml = isinstance(statement, Insert | Update)
        compile_ = getattr(statement, "_compile_w_cache", None)
        if compile_ is None:
            raise StatementError(
                f"{type(statement).__name__} is not a statement. Use sqlalchemy.select, insert, update, delete "
                "or text; a plain string has to be wrapped in sqlalchemy.text()."
            )
        try:
            compiled, extracted, *_ = compile_(
                self._dialect,
                compiled_cache=self._compiled,
                column_keys=list(names) if dml else [],
                # Without RETURNING nobody asks for the new key, and SQLAlchemy need not add it.
                for_executemany=isinstance(statement, Insert) and not cast("Any", statement)._returning,
            )
        except SQLAlchemyError as error:
            raise StatementError(f"the statement cannot be compiled: {error}") from error
        return compiled, extracted

    def _blueprint(self, compiled: Any, statement: Any, names: tuple[str, ...]) -> Blueprint:
        by_names: dict[tuple[str, ...], Blueprint] = compiled.__dict__.setdefault("tenfold_blueprints", {})
        known = next(iter(by_names.values()), None)
        plan = known.plan if known else self._plan(compiled.string, compiled, statement)
        blueprint = by_names[names] = Blueprint(plan, compiled, names)
        return blueprint

    def _plan(self, sql: str, compiled: Any, statement: Any) -> Plan:
        columns = [self._column(entry) for entry in compiled._result_columns if entry.keyname]
        textual = isinstance(compiled.statement, sa.TextClause) or not compiled._ordered_columns
        plan = Plan(sql, columns, statement, named=not textual)
        plan.cache, plan.compiled = self, weakref.ref(compiled)
        self._plans.add(plan)
        return plan

    def _column(self, entry: Any) -> Column:
        try:
            python_type = entry.type.python_type
        except NotImplementedError:
            python_type = None
        key = next((getattr(o, "key", None) for o in entry.objects if isinstance(o, sa.Column)), None)
        name = key if key and entry.keyname == getattr(entry.objects[0], "name", None) else entry.keyname
        return Column(name, entry.type._cached_result_processor(self._dialect, None), python_type)

    def _expand(self, compiled: Any, extracted: Any, params: Params) -> tuple[Plan, Args]:
        """``IN`` over a list: the SQL depends on the number of values, so each number has its own plan."""
        values = compiled.construct_params(params, extracted_parameters=extracted, escape_names=False)
        for name, make in defaults_of(compiled).items():
            values[name] = make(values)
        state = compiled._process_parameters_for_postcompile(values)
        plans: MutableMapping[str, Plan] = compiled.__dict__.setdefault(
            "tenfold_expansions", _Recent(_EXPANSIONS_MAX)
        )
        plan = plans.get(state.statement)
        if plan is None:
            plan = plans[state.statement] = self._plan(state.statement, compiled, compiled.statement)
        values.update(state.additional_parameters)
        processors = {**compiled._bind_processors, **state.processors}
        return plan, tuple(processed(n, values[n], processors.get(n)) for n in state.positiontup or ())

    def _remember(self, statement: Any, names: tuple[str, ...], prepared: Prepared) -> None:
        key = id(statement)
        if key not in self._watch:

            def forget(_: Any) -> None:
                self.latest.pop(key, None)
                self._variants.pop(key, None)
                self._watch.pop(key, None)

            self._watch[key] = weakref.ref(statement, forget)
        self.latest[key] = prepared
        self._variants.setdefault(key, {})[names] = prepared


class _Recent(OrderedDict[Any, Any]):
    """A mapping that forgets what was least recently used."""

    def __init__(self, entries_max: int) -> None:
        super().__init__()
        self._entries_max = entries_max

    def get(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            return default
        self.move_to_end(key)
        return self[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        if len(self) > self._entries_max:
            self.popitem(last=False)


def _bound(prepared: Prepared, params: Params) -> tuple[Plan, Args]:
    """The slow way, on which a value that its type cannot take is told apart from a default that failed."""
    try:
        return prepared.plan, prepared.bind(params, prepared.literals)
    except UNFIT:
        for name, process in prepared.processors.items():
            processed(name, params[name], process)
        raise


def _inserts_one_row(statement: Any) -> bool:
    if not isinstance(statement, Insert):
        return False
    inner = cast("Any", statement)
    return not (
        inner._post_values_clause is not None
        or inner._prefixes
        or inner.select is not None
        or inner._multi_values
    )


def refuse_writes(plan: Plan) -> None:
    """A reader reads. Raises TransactionMisuse for INSERT, UPDATE and DELETE."""
    if plan.writes:
        raise TransactionMisuse(
            "the statement writes, but it was given to a reader. Use `async with db.tx() as tx`. The statement: "
            f"{plan.describe()}"
        )
