"""Which service may call which operation of which other: what was declared, and nothing else.

An edge is declared where the caller is: ``Service("orders", calls=[catalog, "inventory.hold"])``. All edges of an app
are known from its code alone, so every process has the same list, whichever services it serves, and a call is judged
on both sides: where it is made, before anything is sent, and where it arrives, by the name that the token proves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from msgspec import Struct

from tenfold._core.text import nearest
from tenfold.errors import CallRefused, DeclarationError


class Called(Protocol):
    """As much of an operation as is needed here."""

    name: str
    service: str


class Declares(Protocol):
    """As much of a service."""

    @property
    def name(self) -> str: ...

    @property
    def operations(self) -> Sequence[Any]: ...

    @property
    def calls(self) -> Sequence[Any] | None: ...


class HasServices(Protocol):
    """As much of an app."""

    @property
    def everywhere(self) -> Sequence[Declares]: ...


class Edge(Struct, frozen=True, order=True):
    """``caller`` may call ``operation`` of ``callee``; ``operation`` is a full name: ``catalog.find_products``."""

    caller: str
    callee: str
    operation: str

    def __str__(self) -> str:
        return f"{self.caller} → {self.operation}"


def declared_edges(app: HasServices) -> frozenset[Edge]:
    """Every edge that the services of an app declare. Raises DeclarationError for what there is not."""
    services = {service.name: service for service in app.everywhere}
    return frozenset(edge for service in services.values() for edge in _edges_of(service, services))


class Edges:
    """The edges of one app. Deny by default: what is not among them is refused.

    A service that declares nothing (``calls`` left out) may call within its own process, where nothing keeps it from
    importing what it likes anyway, and nobody beyond it.
    """

    def __init__(self, app: HasServices, open_to_all: Iterable[str] = ()) -> None:
        self.declared = declared_edges(app)
        self._open = frozenset(open_to_all)
        """Operations that every service of the app may call: what the framework itself asks of them."""
        self._pairs = frozenset((edge.caller, edge.operation) for edge in self.declared)
        self.silent = frozenset(service.name for service in app.everywhere if service.calls is None)
        """Services that say nothing of whom they call."""
        self._names = frozenset(service.name for service in app.everywhere)

    def allowed(self, caller: str, operation: str) -> bool:
        """Whether ``caller`` may call ``operation``, wherever that runs. A service may call its own."""
        if (caller, operation) in self._pairs or caller == operation.partition(".")[0]:
            return True
        return operation in self._open and caller in self._names

    def check(self, caller: str, operation: str) -> None:
        """Where a call arrives. Raises :class:`~tenfold.errors.CallRefused` for an edge that nobody declared."""
        if not self.allowed(caller, operation):
            said = self.undeclared(caller, operation)
            raise CallRefused(str(said), caller=caller, operation=operation, reason="edge")

    def refused_inside(self, operation: str) -> frozenset[str]:
        """Who may not call ``operation`` within one process: services that declare calls, and not this one."""
        return self.refused_beyond(operation) - self.silent

    def refused_beyond(self, operation: str) -> frozenset[str]:
        """Who may not call ``operation`` from another process: all that do not declare it."""
        return frozenset(name for name in self._names if not self.allowed(name, operation))

    def undeclared(self, caller: str, operation: str) -> DeclarationError:
        """What is wrong with an edge that nobody declared, and what to write."""
        what = f"it calls {operation}, which it does not declare."
        if caller in self.silent:
            what = f"it calls {operation} in another process, and declares no calls."
        return DeclarationError(
            what,
            where=f"service {caller}",
            remedy=f'If it is meant to, write: Service("{caller}", calls=["{operation}", …]).',
        )


def _edges_of(service: Declares, services: dict[str, Any]) -> Iterator[Edge]:
    for wanted in service.calls or ():
        for operation in _operations(service.name, wanted, services):
            if operation.service != service.name:
                yield Edge(service.name, operation.service, operation.name)


def _operations(caller: str, wanted: Any, services: dict[str, Any]) -> Iterable[Called]:
    """What an entry of ``calls`` stands for: a service, an operation, or the name of either."""
    name = wanted if isinstance(wanted, str) else getattr(wanted, "name", "")
    if name in services:
        return list(services[name].operations)
    every = {operation.name: operation for each in services.values() for operation in each.operations}
    if name in every:
        return [every[name]]
    raise DeclarationError(
        f"it calls {name or wanted!r}, and the app has neither a service nor an operation of that name.",
        where=f"service {caller}",
        remedy=nearest(name, [*services, *every]).strip(),
    )
