"""Parameters that the framework fills: by type, from the authenticator, or from the container."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenfold._core.container import Plan, dependency_of, hints_of
from tenfold._core.context import Context
from tenfold.errors import DeclarationError
from tenfold.http.params import marker_of
from tenfold.http.request import Request
from tenfold.http.types import strip_annotated, without_none
from tenfold.security.principal import Principal

if TYPE_CHECKING:
    from tenfold._core.container import Container
    from tenfold.http.operation import Operation
    from tenfold.http.wiring import Wiring


@dataclass(frozen=True, slots=True)
class PrincipalParam:
    """A parameter that gets the caller."""

    name: str
    type: type[Principal]
    optional: bool


@dataclass(frozen=True, slots=True)
class Injection:
    """How the parameters that the request does not fill are filled."""

    direct: dict[str, Any]
    """Name → ``Request``, ``Context``, ``Tx`` or ``Reader``."""
    principals: tuple[PrincipalParam, ...]
    plan: Plan
    """The rest: what the container makes."""
    given: frozenset[Any]
    """Types that the plan may ask for."""
    names: frozenset[str]
    database_values: tuple[tuple[type[Any], str], ...] = ()
    """``Tx`` and ``Reader``, with the variable of the generated code that holds each."""

    def wants(self, type_: Any) -> bool:
        """Whether the handler takes ``type_``, or the container may hand it to a dependency."""
        return type_ in self.direct.values() or (bool(self.plan) and self.plan.uses(type_))

    @property
    def wants_principal(self) -> bool:
        return bool(self.principals) or (bool(self.plan) and self.plan.uses(Principal))


def injection_of(operation: Operation[..., Any], wiring: Wiring, path_names: tuple[str, ...]) -> Injection:
    """Raises DeclarationError for a Tx without a database, and what ``Container.plan`` raises."""
    from tenfold.db.database import Reader, Tx

    injection = planned(operation, wiring.container, path_names)
    if operation.service not in wiring.databases:
        for type_ in (Tx, Reader):
            if injection.wants(type_):
                raise DeclarationError(
                    f"it takes a {type_.__name__}, but the service {operation.service!r} has no database.",
                    where=operation.where,
                    remedy="Declare one: db = service.database(metadata).",
                )
    return injection


def planned(operation: Operation[..., Any], container: Container, path_names: tuple[str, ...]) -> Injection:
    """The same for an operation that need not be able to run here. Raises what ``Container.plan`` raises."""
    from tenfold.db.database import Reader, Tx

    framework = frozenset({Request, Context, Tx, Reader, Principal})
    direct: dict[str, Any] = {}
    principals: list[PrincipalParam] = []
    skip: set[str] = set()
    for name, hint in _hints(operation):
        bare = strip_annotated(hint)
        if marker_of(hint) is not None or (name in path_names and dependency_of(hint) is None):
            skip.add(name)
        elif dependency_of(hint) is None and bare in framework - {Principal}:
            direct[name] = bare
        elif dependency_of(hint) is None and (found := _principal(name, hint)) is not None:
            principals.append(found)
    handled = skip | direct.keys() | {p.name for p in principals}
    plan = container.plan(operation.fn, framework, handled)
    return Injection(
        direct=direct,
        principals=tuple(principals),
        plan=plan,
        given=framework,
        names=frozenset({*direct, *(p.name for p in principals), *plan.wanted}),
        database_values=((Tx, "tx"), (Reader, "reader")),
    )


def _hints(operation: Operation[..., Any]) -> list[tuple[str, Any]]:
    hints = hints_of(operation.fn)
    return [(name, hints.get(name, Any)) for name in inspect.signature(operation.fn).parameters]


def _principal(name: str, hint: Any) -> PrincipalParam | None:
    found = without_none(hint)
    if len(found) != 1 or not (isinstance(found[0], type) and issubclass(found[0], Principal)):
        return None
    return PrincipalParam(name, found[0], optional=found[0] is not strip_annotated(hint))
