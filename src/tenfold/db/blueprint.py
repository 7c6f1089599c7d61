"""How the arguments of a statement are made: one generated expression for all statements of one shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from tenfold._core.text import nearest
from tenfold.errors import StatementError

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler

    from tenfold.db.contract import Args
    from tenfold.db.plan import Plan

Params = Mapping[str, Any]

UNFIT = (TypeError, ValueError, AttributeError, LookupError)
"""What a type raises for a value that it cannot take."""


class Misfit(Exception):
    """The parameters differ in name from those that the generated expression was made for."""


class Blueprint:
    """What all statements with one cache key and one set of parameter names share."""

    __slots__ = ("_literal_names", "_processors", "bind", "plan", "processors", "volatile")

    def __init__(self, plan: Plan, compiled: Any, names: tuple[str, ...]) -> None:
        self.plan = plan
        self.volatile = False
        """A value comes from a function that is called per execution (``bindparam(callable_=…)``)."""
        self._processors: Mapping[str, Any] = compiled._bind_processors
        self._literal_names: list[str] = []
        self.processors: dict[str, Callable[[Any], Any]] = {}
        self.bind = self._generate(compiled, frozenset(names))

    def literals(self, compiled: Any, extracted: Any) -> Args:
        """The processed values that are part of the statement at hand."""
        if not self._literal_names:
            return ()
        values = _values(compiled, extracted)
        return tuple(processed(n, values[n], self._processors.get(n)) for n in self._literal_names)

    def _generate(self, compiled: Any, given: frozenset[str]) -> Callable[[Params, Args], Args]:
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        defaults = defaults_of(compiled)
        scope: dict[str, Any] = {"misfit": _misfit}
        parts: list[str] = []
        for i, name in enumerate(compiled.positiontup or ()):
            bind = binds[name]
            if name in defaults:
                scope[f"d{i}"], part = defaults[name], f"d{i}(p)"
            elif bind.key in given or name in given or bind.required:
                key = bind.key if bind.key in given or bind.required else name
                part = f"p[{key!r}]"
                if (process := self._processors.get(name)) is not None:
                    self.processors[key] = process
            else:
                self.volatile |= bind.callable is not None
                parts.append(f"x[{len(self._literal_names)}]")
                self._literal_names.append(name)
                continue
            if (process := self._processors.get(name)) is not None:
                scope[f"c{i}"], part = process, f"c{i}({part})"
            parts.append(part)
        tuple_ = f"({', '.join(parts)}{',' if parts else ''})"
        # Names come from the statement and enter as their repr; everything else is ours.
        source = f"lambda p, x: {tuple_} if len(p) == {len(given)} else misfit()"
        made: Callable[[Params, Args], Args] = eval(source, scope)  # noqa: S307
        return made


def _misfit() -> Args:
    raise Misfit


def processed(name: str, value: Any, process: Callable[[Any], Any] | None) -> Any:
    if process is None:
        return value
    try:
        return process(value)
    except UNFIT as error:
        raise StatementError(
            f"the value for {name!r} is of type {type(value).__name__}, or of a form, that its column does not take."
        ) from error


def _values(compiled: Any, extracted: Any) -> Mapping[str, Any]:
    return cast(
        "Mapping[str, Any]",
        compiled.construct_params(None, extracted_parameters=extracted, escape_names=False, _check=False),
    )


def defaults_of(compiled: SQLCompiler) -> dict[str, Callable[[Params], Any]]:
    """Bind names whose value the column's Python-side ``default`` or ``onupdate`` makes."""
    inner = cast("Any", compiled)
    if not inner.insert_prefetch and not inner.update_prefetch:
        return {}
    name_of: Callable[[Any], str] = inner._within_exec_param_key_getter
    made = {name_of(column): default_of(column.default) for column in inner.insert_prefetch}
    return made | {name_of(column): default_of(column.onupdate) for column in inner.update_prefetch}


def default_of(default: Any) -> Callable[[Params], Any]:
    """What makes a column's Python-side default from the other parameters of its row."""
    if default is None:
        return lambda _: None
    if default.is_scalar:
        value = default.arg
        return lambda _: value
    call = default.arg  # SQLAlchemy has wrapped it: it takes the execution context
    return lambda params: call(_DefaultContext(params))


class _DefaultContext:
    """What a context-sensitive default may ask: the other parameters of the row."""

    __slots__ = ("current_parameters",)

    def __init__(self, params: Params) -> None:
        self.current_parameters = params

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> Params:
        return self.current_parameters


def check_names(compiled: Any, params: Params) -> None:
    known = {bind.key for bind in compiled.bind_names if not bind.unique} | set(compiled.bind_names.values())
    required = {bind.key for bind in compiled.bind_names if bind.required}
    missing = sorted(required - params.keys())
    unknown = sorted(params.keys() - known)
    if not missing and not unknown:
        return
    said = [
        f"no value is given for {', '.join(map(repr, missing))}" if missing else "",
        f"it has no parameter {', '.join(map(repr, unknown))}" if unknown else "",
    ]
    hint = nearest(unknown[0], missing or known) if unknown else ""
    flat = " ".join(compiled.string.split())[:200]
    raise StatementError(
        f"the parameters do not fit: {'; '.join(filter(None, said))}.{hint} The statement: {flat}"
    )
