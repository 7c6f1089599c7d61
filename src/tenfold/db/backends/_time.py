"""How long work on a database may take: until the context's deadline, or the configured time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold._core.clock import Clock
from tenfold._core.context import current, peek
from tenfold.errors import StatementTimeout

if TYPE_CHECKING:
    from tenfold.db.plan import Plan

_SHARE = 0.9
"""Of the time that is left, so much is spent on waiting: there is some left for saying so."""


class Time:
    """The limits of one backend."""

    def __init__(self, clock: Clock, statement_timeout_s: float, lock_timeout_s: float) -> None:
        self.clock = clock
        self.statement_timeout_s = statement_timeout_s
        self.lock_timeout_s = lock_timeout_s

    def statement_s(self) -> float:
        """Seconds for a statement that starts now; not above 0 when it is too late for it."""
        context = peek()
        if context is None or context.deadline is None:
            return self.statement_timeout_s
        return context.deadline - self.clock.monotonic()

    def budget_s(self, plan: Plan) -> float:
        """The same; raises StatementTimeout when it is too late. Ask after all waiting, right before the statement."""
        context = peek()
        if context is None or context.deadline is None:
            return self.statement_timeout_s
        left_s = context.deadline - self.clock.monotonic()
        if left_s <= 0:
            raise too_late(plan)
        return left_s

    def lock_s(self) -> float:
        """Seconds to wait for a connection or the writer."""
        return min(self.lock_timeout_s, max(self.statement_s(), 0.0))

    def patience_s(self, most_s: float) -> float:
        """At most ``most_s`` seconds of waiting, and less where the deadline asks for an answer before."""
        deadline = current().deadline
        if deadline is None:
            return most_s
        return min(most_s, max((deadline - self.clock.monotonic()) * _SHARE, 0.0))

    def spent(self, began: float, left_s: float) -> bool:
        """Whether waiting since ``began`` has taken what the deadline had left for it: it, and nothing else, ended it."""
        return self.clock.monotonic() - began >= left_s * _SHARE


def too_late(plan: Plan) -> StatementTimeout:
    """The deadline had passed before anything was sent."""
    return StatementTimeout(
        f"the deadline passed before the statement could start. The statement: {plan.describe()}"
    )
