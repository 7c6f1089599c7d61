"""The kinds of problem documents that an API answers with, as a tree of types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tenfold import errors
from tenfold.clients import naming
from tenfold.clients.model import ProblemKind
from tenfold.errors import Problem
from tenfold.http.openapi import Described

_URN = "urn:tenfold:problem:"
_ALWAYS = frozenset({500})
"""Statuses that no document lists and every client meets."""


def declared(each: Described) -> Iterator[type[Problem]]:
    """The problems that an operation declares."""
    return (error for error in each.operation.policies.errors if issubclass(error, Problem))


def kinds(shown: Iterable[Described], document: Mapping[str, Any]) -> dict[str, ProblemKind]:
    """By their kind, bases first: what the operations declare, and what the framework answers with their statuses."""
    shown = list(shown)
    statuses = _ALWAYS | {
        int(status)
        for path in document["paths"].values()
        for member in path.values()
        for status in member["responses"]
    }
    own = [error for each in shown for error in declared(each)]
    ours = [kind for kind in _framework() if kind.status in statuses]
    found: dict[str, ProblemKind] = {}
    for error in [*ours, *own]:
        for kind in reversed(_lineage(error)):
            if kind.kind not in found:
                found[kind.kind] = _described(kind, found)
    return found


def _framework() -> list[type[Problem]]:
    named = (getattr(errors, name) for name in sorted(vars(errors)))
    found = [kind for kind in named if isinstance(kind, type) and issubclass(kind, Problem)]
    return [kind for kind in found if kind is not Problem]


def _lineage(error: type[Problem]) -> list[type[Problem]]:
    """The class and its bases below Problem, nearest first, one for each kind."""
    found: dict[str, type[Problem]] = {}
    for kind in error.__mro__:
        if issubclass(kind, Problem) and kind is not Problem:
            found[kind.kind] = kind  # of two classes with one kind, the base names it
    return list(found.values())


def _described(kind: type[Problem], found: Mapping[str, ProblemKind]) -> ProblemKind:
    bases = [each for each in _lineage(kind)[1:] if each.kind in found]
    doc = kind.__doc__ if "__doc__" in vars(kind) and kind.__doc__ else ""
    return ProblemKind(
        name=naming.unique(kind.__name__, [each.name for each in found.values()]),
        urn=_URN + kind.kind,
        status=kind.status,
        base=found[bases[0].kind].name if bases else "",
        about=" ".join(doc.partition("\n\n")[0].split()) or f"{kind.title}.",
    )
