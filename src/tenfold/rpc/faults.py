"""Errors on the wire: raised in one process, raised again in another as what they are.

Problems and Tenfold's own errors travel with their class, message and attributes. A class that the reader does not
have (of a newer version, or of code that is not imported there) arrives as the nearest base that it has, with the same
status. Everything else has become an InternalError before it gets here. A fault is built without running anything of
its class, and no class is imported for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from tenfold.errors import FieldError, IntegrityError, InvalidInput, Problem, TenfoldError
from tenfold.rpc.kinds import known, names_of

if TYPE_CHECKING:
    from tenfold.rpc.wire import Wire

_TUPLES: tuple[tuple[type[TenfoldError], str, Any], ...] = (
    (InvalidInput, "errors", tuple[FieldError, ...]),
    (IntegrityError, "columns", tuple[str, ...]),
)
"""Attributes of ours that are no plain values on the wire."""


class Fault(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An error, as it travels."""

    error: list[str] = []
    """Its class and those it inherits from, the nearest first."""
    status: int
    title: str = ""
    kind: str = ""
    """Title and kind are those of a problem."""
    detail: str = ""
    state: dict[str, Any] = {}
    """Its attributes; None for what cannot travel."""


def fault_of(error: TenfoldError, wire: Wire) -> bytes:
    """The fault for an error."""
    state = {name: value for name, value in vars(error).items() if not name.startswith("_")}
    fault = Fault(
        error=names_of(type(error), TenfoldError), status=error.status, detail=_clean(str(error)), state=state
    )
    if isinstance(error, Problem):
        fault.title, fault.kind = error.title, error.kind
    try:
        return wire.encode(fault)
    except Exception:
        fault.state = {name: _portable(value, wire) for name, value in state.items()}
        return wire.encode(fault)


def error_of(fault: Fault) -> TenfoldError:
    """The error that a fault tells of. Raises msgspec.ValidationError for attributes that no error of its class has."""
    kind = known(fault.error, TenfoldError)
    if kind.status != fault.status:  # of a class that is not known here
        kind = _like(kind, fault)
    error = kind.__new__(kind)
    error.args = (fault.detail,)
    vars(error).update(_shaped(kind, fault))
    return error


def _like(kind: type[TenfoldError], fault: Fault) -> type[TenfoldError]:
    own: dict[str, Any] = {"status": fault.status}
    if issubclass(kind, Problem):
        own |= {"title": fault.title or kind.title, "kind": fault.kind or kind.kind}
    return cast("type[TenfoldError]", type(kind.__name__, (kind,), own))


class _ProblemState(msgspec.Struct):
    """What every problem has."""

    detail: str = ""
    headers: dict[str, str] = {}
    extra: dict[str, Any] = {}


def _shaped(kind: type[TenfoldError], fault: Fault) -> dict[str, Any]:
    state = {name: value for name, value in fault.state.items() if not name.startswith("_")}
    if issubclass(kind, Problem):
        problem = msgspec.convert(state, _ProblemState)
        state |= {"detail": problem.detail or fault.detail, "headers": problem.headers}
        state["extra"] = _with_tuples(kind, problem.extra)
    return _with_tuples(kind, state)


def _with_tuples(kind: type[TenfoldError], values: dict[str, Any]) -> dict[str, Any]:
    for owner, name, type_ in _TUPLES:
        if name in values and issubclass(kind, owner):
            values[name] = msgspec.convert(values[name], type_)
    return values


def _portable(value: Any, wire: Wire) -> Any:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, dict):
        return {str(name): _portable(each, wire) for name, each in value.items()}
    try:
        wire.encode(value)
    except Exception:
        return None
    return value


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
