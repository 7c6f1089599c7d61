"""What every call between services has, wherever its callee runs: a deadline, and how it ended is counted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from tenfold._core.context import peek
from tenfold.errors import DeadlineExceeded, TenfoldError
from tenfold.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenfold._core.context import Context
    from tenfold.http.operation import Operation
    from tenfold.http.wiring import Wiring
    from tenfold.telemetry.metrics import Counter, Histogram, Registry


class CallMetrics:
    """How many calls there were, how they ended, and how long they took."""

    def __init__(self, registry: Registry) -> None:
        about = (
            "Calls between services, by operation, outcome (ok, refused: the caller's fault, failed) and the service"
            " that called."
        )
        self._ended = registry.counter(names.CALLS, about, (names.OPERATION, names.OUTCOME, names.CALLER))
        about = "Time of calls between services, in seconds."
        self._duration = registry.histogram(names.CALL_DURATION, about, (names.OPERATION, names.CALLER))

    def of(self, operation: str, caller: str) -> Edge:
        """The numbers of one service's calls of one operation."""
        ok, refused, failed = (
            self._ended.labels(operation, how, caller) for how in ("ok", "refused", "failed")
        )
        return Edge(ok, refused, failed, self._duration.labels(operation, caller))


class Edge(NamedTuple):
    """The numbers of an operation as one service calls it."""

    ok: Counter
    refused: Counter
    failed: Counter
    duration: Histogram


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
        self._metrics = metrics
        self._edges: dict[str, Edge] = {}
        """By caller. As many as there are services."""
        self._timeout_s = 0.0
        self.heed(operation)

    def heed(self, operation: Operation[..., Any]) -> None:
        """Go by the policies of ``operation``, from the next call on."""
        self._timeout_s = operation.policies.timeout_s or self._wiring.settings.timeout_s

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        started = self._monotonic()
        context = peek()
        caller = "" if context is None else context.service
        edge = self._edges.get(caller) or self._edge(caller)
        ended = edge.failed
        try:
            result = await self._travel(self._send(args, kwargs), started)
            ended = edge.ok
            return result
        except TenfoldError as error:
            if error.status < 500:
                ended = edge.refused
            raise
        finally:
            ended.inc()
            edge.duration.observe(self._monotonic() - started)

    def _edge(self, caller: str) -> Edge:
        made = self._edges[caller] = self._metrics.of(self._name, caller)
        return made

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
