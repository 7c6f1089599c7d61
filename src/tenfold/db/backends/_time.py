"""How long work on a database may take: until the context's deadline, or the configured time."""

from __future__ import annotations

from tenfold._core.clock import Clock
from tenfold._core.context import current

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
        deadline = current().deadline
        if deadline is None:
            return self.statement_timeout_s
        return deadline - self.clock.monotonic()

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
