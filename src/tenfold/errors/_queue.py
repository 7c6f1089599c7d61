"""What jobs, flows and deliveries of events raise."""

from __future__ import annotations

from collections.abc import Mapping

from tenfold.errors._start import TenfoldError


class QueueError(TenfoldError):
    """A job, event delivery or schedule tick could not be handled."""


class LeaseLost(QueueError):
    """The lease ran out and another worker holds the message now; nothing of this run was committed."""


class JobCancelled(QueueError):
    """The job that is running was cancelled."""


class JobFailed(QueueError):
    """The result was awaited of a job that is dead; the message carries its last error."""


class FlowError(QueueError):
    """A flow cannot go on, and running it again would not help: unless the flow handles it, it is dead. Retrying the
    dead flow tries again what failed, and repeats nothing that is recorded. ``step`` is the recorded name."""

    def __init__(self, message: str, *, step: str = "") -> None:
        self.step = step
        super().__init__(message)


class StepFailed(FlowError):
    """The attempts of a step are used up. ``kind`` is the class name of its last error, ``reason`` its text."""

    def __init__(self, message: str, *, step: str, kind: str, reason: str) -> None:
        self.kind, self.reason = kind, reason
        super().__init__(message, step=step)


class WaitTimedOut(FlowError, TimeoutError):
    """The signal or event that a flow waited for did not come in time."""


class CallsFailed(FlowError, JobFailed):
    """Jobs that a flow waited for died or were cancelled. ``failures`` maps their positions to their errors."""

    def __init__(self, message: str, *, step: str, failures: Mapping[int, str]) -> None:
        self.failures = dict(failures)
        super().__init__(message, step=step)


class FlowChanged(FlowError):
    """The code that is running does not follow the steps that are recorded."""


class RetryLater(QueueError):
    """Raise it in a job or subscriber to be run again after ``delay_s`` seconds, whatever the policy says."""

    def __init__(self, delay_s: float, reason: str = "") -> None:
        self.delay_s = delay_s
        super().__init__(reason or f"asked to be run again in {delay_s:g} s")


class WrongArguments(QueueError):
    """The arguments of a job, or the body of an event, do not fit the declared types."""


class UndecodableEvent(WrongArguments):
    """The data of an event is not what its version says, or an upcaster failed: running it again cannot help."""


class UnknownVersion(WrongArguments):
    """An event of a version that the running code cannot read; another deploy can."""


class UnknownHandler(QueueError):
    """A message for a job or subscriber that the code does not have (any more)."""
