"""What the generated code is connected to: the parts of the running app that the HTTP layer needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from tenfold._core.clock import Clock
from tenfold._core.container import Container
from tenfold._core.sections import HttpSettings
from tenfold.guard.admission import Admission, admission_of
from tenfold.guard.bulkhead import Bulkhead
from tenfold.guard.fairness import Callers
from tenfold.guard.probe import other_threads_cpu_s

if TYPE_CHECKING:
    from tenfold._core.fairness import WeightOf
    from tenfold.cache.response import ResponseStore
    from tenfold.guard.limiter import RateLimiter
    from tenfold.guard.rates import Limit
    from tenfold.http.causal import Tokens
    from tenfold.http.deadline import Sweeper
    from tenfold.http.middleware import Edge
    from tenfold.http.policies import Layers
    from tenfold.http.reply import Answer
    from tenfold.http.request import Request
    from tenfold.http.threads import HandlerThreads
    from tenfold.telemetry.access import AccessLog
    from tenfold.telemetry.objectives import Objective
    from tenfold.telemetry.recording import Allowance, Recorder


class Trace(Protocol):
    """What a request knows of its trace."""

    @property
    def trace_id(self) -> str: ...

    @property
    def span_id(self) -> str: ...

    @property
    def sampled(self) -> bool: ...


class Tracing(Protocol):
    """Joins the caller's trace or starts one; spans exist only where sampled (``telemetry.trace.Tracer``)."""

    at: int
    """The first number of a request for which :meth:`pick` has to be asked."""

    @property
    def samples(self) -> bool:
        """Whether a trace that starts here may be sampled."""
        ...

    @property
    def origin(self) -> str:
        """First half (16 digits) of the ids of unsampled traces that start in this process."""
        ...

    @property
    def recorder(self) -> Recorder | None:
        """Who takes recordings, and says how much may be recorded; None: only what is sampled has spans."""
        ...

    def pick(self, number: int, /) -> Trace | None:
        """A new trace, if that of the request with this number is sampled."""
        ...

    def begin(self, traceparent: str | None = None, /) -> Trace: ...

    def root(self, name: str, kind: str = "server", **attributes: Any) -> AbstractContextManager[Any]: ...


class Stats(Protocol):
    """The numbers of one operation (``telemetry.operations.OperationStats``)."""

    in_flight: int
    statuses: list[int]
    """By the first digit."""
    buckets: list[int]
    """By the position in ``telemetry.metrics.SECONDS``."""
    sum_s: float
    objective: Objective | None
    bad: int
    """Requests that the objective does not count as good."""
    slow_s: float
    """A request that takes longer is kept one by one."""

    @property
    def keeping(self) -> Keeping | None:
        """Who keeps requests one by one; None: nobody does."""
        ...

    def record(self, status: int, seconds: float, /) -> None: ...


class Keeping(Protocol):
    """Keeps requests of one operation (``telemetry.store.requests.Keeper``)."""

    @property
    def sample(self) -> Allowance:
        """How many of those that go well."""
        ...

    def keep(self, request: Request, answer: Answer, seconds: float, fair: bool, /) -> None:
        """``fair``: it is in the sample; else it has failed or was slow."""
        ...


class Telemetry(Protocol):
    """What the HTTP layer tells about its work. Every part is optional: None costs nothing."""

    @property
    def tracer(self) -> Tracing | None:
        """Traces; None: requests carry no trace id."""
        ...

    @property
    def access(self) -> AccessLog | None:
        """Takes every finished request; None: nobody does."""
        ...

    def stats(self, operation: str, method: str, route: str) -> Stats: ...


@dataclass(slots=True)
class Wiring:
    """One per HttpApp."""

    settings: HttpSettings
    container: Container
    clock: Clock
    sweeper: Sweeper
    threads: HandlerThreads
    authenticator: Any = None
    telemetry: Telemetry | None = None
    databases: Mapping[str, Any] = field(default_factory=dict)
    """By service: what ``Tx`` and ``Reader`` parameters come from."""
    idempotency: Callable[[str], Any] | None = None
    """The guard for the operations of a service."""
    limiter: RateLimiter | None = None
    """Counts the requests of operations with a limit."""
    limits: Mapping[str, list[tuple[str, Limit]]] = field(default_factory=dict)
    """By service: the limits that all its operations have, each with the name of who declared it."""
    inherited: Mapping[str, Layers] = field(default_factory=dict)
    """By service: who else may say which policies its operations have, the nearest first."""
    bulkheads: dict[str, Bulkhead] = field(default_factory=dict)
    """By operation, of those that ever had a bound: a change of the bound does not forget who is in."""
    response_cache: ResponseStore | None = None
    """Where whole responses are kept."""
    causal: Tokens | None = None
    """Carries the causal token, where replicas are read from."""
    edge: Edge | None = None
    """CORS, compression and the headers of every reply."""
    calls_out: bool = False
    """Whether the app has clients: then it matters who tries again."""
    weight_of: WeightOf | None = None
    """The weights of tenants, between which requests that wait take turns."""
    callers: Callers = field(default_factory=Callers)
    """Whose credentials those of late were."""
    boot: str = ""
    """Distinguishes the request ids of this process."""
    request_ids: Iterator[int] = field(default_factory=lambda: count(1))
    admission: Admission | None = field(init=False)
    """Bounds the requests in progress; None without a bound."""

    def __post_init__(self) -> None:
        settings = self.settings
        self.admission = None
        if settings.concurrency_max:
            self.admission = admission_of(
                settings.concurrency,
                self.clock,
                most=settings.concurrency_max,
                waiting_max=settings.waiting_max,
                weight_of=self.weight_of,
                others_s=other_threads_cpu_s,
            )

    def bulkhead(self, operation: str, most: int) -> Bulkhead:
        """The one of this operation, for requests and for calls from other services."""
        found = self.bulkheads.setdefault(operation, Bulkhead(operation, most))
        found.most = most
        return found
