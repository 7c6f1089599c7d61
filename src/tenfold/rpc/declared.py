"""Calls that a service has not declared, refused where they are made: before anything is validated or sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from tenfold._core.context import peek
from tenfold.errors import DeclarationError

if TYPE_CHECKING:
    from tenfold.security.identity.edges import Edges
    from tenfold.security.identity.refusals import Refusals

Caller = Callable[..., Awaitable[Any]]


class DeclaredCalls:
    """Puts the list of edges in front of calls. ``edges`` and who notes what they refuse are those of the app."""

    def __init__(self, edges: Edges, refusals: Refusals) -> None:
        self._edges, self._refusals = edges, refusals

    def within(self, operation: str, caller: Caller) -> Caller:
        """``caller`` for an operation of this process: services that declare calls may make no others."""
        return self._judged(operation, caller, self._edges.refused_inside(operation))

    def beyond(self, operation: str, caller: Caller) -> Caller:
        """``caller`` for an operation of another process: only services that declare it may call it."""
        return self._judged(operation, caller, self._edges.refused_beyond(operation))

    def _judged(self, operation: str, caller: Caller, refused: frozenset[str]) -> Caller:
        if not refused:
            return caller

        def call(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            # No coroutine of its own: this stands on the way of every call.
            context = peek()
            if context is not None and context.service in refused:
                raise self._refuse(context.service, operation)
            return caller(*args, **kwargs)

        return call

    def _refuse(self, caller: str, operation: str) -> DeclarationError:
        error = self._edges.undeclared(caller, operation)
        self._refusals.note(caller, operation, "edge", error.what)
        return error
