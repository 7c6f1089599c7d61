"""Which statements may run on the event loop: those known to be fast.

A statement begins in a thread. After :data:`PROBATION_RUNS` runs there with a cost below :data:`INLINE_MAX_S` it
runs inline, where a hop to a thread (about 70 µs) would cost many times its own 4 µs. One that turns out slow is
demoted at once, and has to prove itself for twice as long after each time that it had to be aborted.
"""

from __future__ import annotations

INLINE_MAX_S = 0.0003
"""A statement that costs more runs in a thread."""
ALARM_S = 0.001
"""An inline run that takes longer counts against the statement."""
PROBATION_RUNS = 3
_PROBATION_MAX = 4096
_WEIGHT = 0.2


class Pace:
    """The measured cost of one statement per execution, and the lane that follows from it."""

    __slots__ = ("cost_s", "inline", "probation", "runs")

    def __init__(self) -> None:
        self.inline = False
        self.cost_s = float("inf")
        self.runs = 0
        self.probation = PROBATION_RUNS

    def ran_in_thread(self, took_s: float, executions: int = 1) -> None:
        """Count a run; promotes the statement when it has proved fast."""
        self._learn(took_s / max(executions, 1))
        self.runs += 1
        if self.runs >= self.probation and self.cost_s < INLINE_MAX_S:
            self.inline = True

    def ran_long(self, took_s: float) -> bool:
        """An inline run took longer than :data:`ALARM_S`. True when the statement is demoted for it."""
        self._learn(took_s)
        if self.cost_s < INLINE_MAX_S:
            return False  # one slow run among many fast ones: the machine was busy
        self.inline, self.runs = False, 0
        return True

    def aborted(self) -> None:
        """An inline run had to be stopped: back to the thread, on a longer probation."""
        self.inline, self.runs = False, 0
        self.probation = min(self.probation * 2, _PROBATION_MAX)

    def _learn(self, took_s: float) -> None:
        if self.runs < PROBATION_RUNS and not self.inline:
            # A preempted thread measures far too much, never too little: the least of the first runs is right.
            self.cost_s = min(self.cost_s, took_s)
            return
        # Clamped, so that one preemption is forgiven and a slow statement is found out in a few runs.
        sample = min(took_s, 5 * max(self.cost_s, 0.00005))
        self.cost_s += (sample - self.cost_s) * _WEIGHT
