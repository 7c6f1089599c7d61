"""Which value of each policy holds for an operation, and who said so. Pure: declarations in, values out.

A policy may be declared on the operation, on its service and on the app; the nearest one holds. Limits are the
exception: those of all three hold together, because a limit of the app that an operation's own would lift protects
nothing. Below the app stand the settings; above the operation what was changed at run time.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from typing_extensions import TypedDict

from tenfold._core.context import Priority
from tenfold._core.text import nearest
from tenfold.errors import DeclarationError
from tenfold.guard.rates import Limit, as_limit
from tenfold.telemetry.objectives import Objective, as_objective

if TYPE_CHECKING:
    from tenfold.http.operation import Operation

PriorityName = Literal["critical", "default", "sheddable", "background"]


class _Unset:
    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Any = _Unset()
"""Nothing was said, as opposed to None, which lifts what would be inherited."""

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""These have no effect to repeat (RFC 9110 § 9.2.1), so an inherited ``idempotent`` says nothing of them."""

OPERATION, OVERRIDE, DEFAULT = "operation", "override", "default"
"""Who said it, where that is no service, app or setting."""


@dataclasses.dataclass(slots=True)
class Shared:
    """Policies that may stand on operations, services and the app alike."""

    limit: Any = UNSET
    """How often it may be asked for: ``"20/minute per principal"`` or a ``Limit``. Those of operation, service and app
    hold together; None on an operation lifts them all."""
    timeout_s: float | None = None
    """Deadline in seconds; default ``http.timeout_s``."""
    priority: Priority = UNSET
    """How late it is shed under overload: ``critical`` (never, while anything else is served), ``default``,
    ``sheddable``, ``background``."""
    concurrency: int | None = UNSET
    """So many of each operation run at a time in a process; the next one gets 503. None: as many as come."""
    idempotent: Any = UNSET
    """Honour ``Idempotency-Key``: the same key gives one effect and the same reply. ``"required"``: refuse requests
    without one. Inherited by operations that have effects only."""
    body_max_bytes: int | None = None
    """Default ``http.body_max_bytes``, for multipart ``http.upload_max_bytes``."""
    slo: Any = UNSET
    """Service level objective of each operation: ``"99.9% under 300ms"`` or an ``Objective``. It is counted, and alerting
    rules come from it; nothing is refused for it. None: without one."""


class SharedOptions(TypedDict, total=False):
    """The policies of :class:`Shared` as they are written: ``Service("orders", timeout_s=5, priority="critical")``."""

    limit: str | Limit | None
    timeout_s: float | None
    priority: Priority | PriorityName
    concurrency: int | None
    idempotent: bool | Literal["required"]
    body_max_bytes: int | None
    slo: str | Objective | None


NAMES = tuple(field.name for field in dataclasses.fields(Shared))
NEAREST = tuple(name for name in NAMES if name != "limit")
"""Those of which the nearest holds."""


class Sourced(NamedTuple):
    """A value, and who said so: ``operation``, ``service orders``, ``app``, ``setting http.timeout_s``, ``override`` or
    ``default``."""

    value: Any
    source: str


Layers = Sequence[tuple[str, Shared]]
"""Who said what, the nearest first."""


def checked(name: str, value: Any, where: str) -> Any:
    """``value`` as the policy ``name`` takes it; UNSET is left as it is. Raises DeclarationError."""
    if value is UNSET or (value is None and name not in ("priority", "idempotent")):
        return value
    return _CHECKS[name](value, where)


def check(shared: Shared, where: str, names: Sequence[str] = NAMES) -> None:
    """Every policy in its form. Raises DeclarationError that names ``where`` it was declared."""
    for name in names:
        setattr(shared, name, checked(name, getattr(shared, name), where))


def sourced(operation: Operation[..., Any], layers: Layers) -> dict[str, Sourced]:
    """Every shared policy but the limit with who said it. What nobody said is the ``default``: None for what a
    setting decides."""
    layers = (*_own(operation, layers),)
    found = {name: _nearest(name, layers) for name in NEAREST}
    if operation.method in IDEMPOTENT_METHODS and found["idempotent"].source not in (OPERATION, OVERRIDE):
        found["idempotent"] = Sourced(False, DEFAULT)
    return found


def effective(operation: Operation[..., Any], layers: Layers) -> Operation[..., Any]:
    """The operation as it is to be compiled: nothing is inherited any more. ``layers`` are those around it, and any
    named ``override``, which go before its own."""
    found: dict[str, Any] = {name: one.value for name, one in sourced(operation, layers).items()}
    for source, shared in layers:
        if source == OVERRIDE and shared.limit is not UNSET:
            found["limit"] = shared.limit
    made = copy.copy(operation)
    made.policies = dataclasses.replace(operation.policies, **found)
    return made


def _own(operation: Operation[..., Any], layers: Layers) -> Layers:
    above = [layer for layer in layers if layer[0] == OVERRIDE]
    below = [layer for layer in layers if layer[0] != OVERRIDE]
    return (*above, (OPERATION, operation.policies), *below)


def _nearest(name: str, layers: Layers) -> Sourced:
    unsaid = (UNSET, None) if name in ("timeout_s", "body_max_bytes") else (UNSET,)
    for source, shared in layers:
        value = getattr(shared, name)
        if not any(value is each for each in unsaid):
            return Sourced(value, source)
    return Sourced(_DEFAULTS[name], DEFAULT)


_DEFAULTS: Mapping[str, Any] = {
    "timeout_s": None,
    "priority": Priority.DEFAULT,
    "concurrency": None,
    "idempotent": False,
    "body_max_bytes": None,
    "slo": None,
}


# ── the form of each ──


def _priority(value: Any, where: str) -> Priority:
    if isinstance(value, Priority):
        return value
    known = [one.name.lower() for one in Priority]
    if isinstance(value, str) and value in known:
        return Priority[value.upper()]
    raise DeclarationError(
        f"its priority {value!r} is none of {', '.join(known)}.{nearest(str(value), known)}", where=where
    )


def _seconds(value: Any, where: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
        return value
    raise DeclarationError(
        f"its timeout_s is {value!r}.", where=where, remedy="Write seconds above 0, such as 2.5."
    )


def _count(name: str, remedy: str) -> Any:
    def check_(value: Any, where: str) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        raise DeclarationError(f"its {name} is {value!r}.", where=where, remedy=remedy)

    return check_


def _idempotent(value: Any, where: str) -> Any:
    if isinstance(value, bool) or value == "required":
        return value
    raise DeclarationError(
        f"its idempotent is {value!r}.", where=where, remedy='Write True, False or "required".'
    )


def _limit(value: Any, where: str) -> Any:
    try:
        return as_limit(value)
    except DeclarationError as error:
        raise DeclarationError(error.what, where=f"{where}, {error.where}", remedy=error.remedy) from None


def _objective(value: Any, where: str) -> Objective:
    try:
        return as_objective(value)
    except DeclarationError as error:
        raise DeclarationError(error.what, where=f"{where}, {error.where}", remedy=error.remedy) from None


_CHECKS: Mapping[str, Any] = {
    "limit": _limit,
    "timeout_s": _seconds,
    "priority": _priority,
    "concurrency": _count("concurrency", "Write how many may run at a time, from 1; None for no bound."),
    "idempotent": _idempotent,
    "body_max_bytes": _count("body_max_bytes", "Write bytes, from 1."),
    "slo": _objective,
}
