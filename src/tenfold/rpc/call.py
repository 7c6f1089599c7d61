"""What every call between services has, wherever its callee runs: a deadline, and how it ended is counted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from tenfold.errors import DeadlineExceeded, TenfoldError
from tenfold.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenfold._core.context import Context
    from tenfold.http.operation import Operation
    from tenfold.http.wiring import Wiring
    from tenfold.telemetry.metrics import Registry


class CallMetrics:
    """How many calls there were, how they ended, and how long they took."""

    def __init__(self, registry: Registry) -> None:
        about = "Calls between services, by operation and outcome (ok, refused: the caller's fault, failed)."
        self.ended = registry.counter(names.CALLS, about, (names.OPERATION, names.OUTCOME))
        about = "Time of calls between services, in seconds."
        self.duration = registry.histogram(names.CALL_DURATION, about, (names.OPERATION,))


class OperationCall(ABC):
    """The callable behind ``await operation(…)``. ``send`` turns what is written in a call into what travels."""

    def __init__(
        self,
        operation: Operation[..., Any],
        wiring: Wiring,
        metrics: CallMetrics,
        send: Callable[[tuple[Any, ...], dict[str, Any]], bytes],
    ) -> None:
        self._name = operation.name
        self._wiring = wiring
        self._monotonic = wiring.clock.monotonic
        self._send = send
        self._ok, self._refused, self._failed = (
            metrics.ended.labels(self._name, outcome) for outcome in ("ok", "refused", "failed")
        )
        self._duration = metrics.duration.labels(self._name)
        self._timeout_s = 0.0
        self.heed(operation)

    def heed(self, operation: Operation[..., Any]) -> None:
        """Go by the policies of ``operation``, from the next call on."""
        self._timeout_s = operation.policies.timeout_s or self._wiring.settings.timeout_s

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        started = self._monotonic()
        ended = self._failed
        try:
            result = await self._travel(self._send(args, kwargs), started)
            ended = self._ok
            return result
        except TenfoldError as error:
            if error.status < 500:
                ended = self._refused
            raise
        finally:
            ended.inc()
            self._duration.observe(self._monotonic() - started)

    @abstractmethod
    async def _travel(self, sent: bytes, now: float) -> Any:
        """There and back."""

    def _ends(self, caller: Context, now: float) -> float:
        """When it has to be over: the nearer of the caller's deadline and the operation's time."""
        deadline = now + self._timeout_s
        if caller.deadline is not None and caller.deadline < deadline:
            deadline = caller.deadline
            if deadline <= now:
                raise DeadlineExceeded(f"No time was left to call {self._name}.")
        return deadline
