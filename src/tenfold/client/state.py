"""What a client has while its app runs; its calls share it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold.client.hosts import Hosts
from tenfold.client.places import Places
from tenfold.errors import DependencyUnavailable
from tenfold.guard.retry_budget import RetryBudget

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tenfold._core.clock import Clock
    from tenfold.client.contract import Transport
    from tenfold.client.metrics import Metrics
    from tenfold.client.options import Options
    from tenfold.client.retrying import Router
    from tenfold.guard.addresses import Network, Place


class State:
    """Made at start. ``change`` puts other options into force."""

    def __init__(
        self,
        name: str,
        options: Options,
        clock: Clock,
        *,
        transport: Transport,
        metrics: Metrics,
        span_id: Callable[[], str],
        caller: str,
        base: Place | None,
        headers: dict[str, str],
        allowed: Sequence[Network],
        plain_http: bool,
    ) -> None:
        self.name, self.options, self.clock = name, options, clock
        self.transport, self.metrics, self.span_id = transport, metrics, span_id
        self.caller = caller
        self.base = base
        """Where paths begin; None for a client of any host."""
        self.headers = headers
        """What goes to the base with every call, the token for one; never anywhere else."""
        self.allowed, self.plain_http = allowed, plain_http
        self.sleep: Callable[[float], Awaitable[None]] = clock.sleep
        """Waits before second tries."""
        self.router: Router | None = None
        """Chooses among places, where the other side has several."""
        self.forget()

    def forget(self) -> None:
        """Begin anew, with nothing learned and nothing under way."""
        options = self.options
        self.hosts = Hosts(options, self.clock)
        self.places = Places(options.concurrency, per_host=options.per_host, waiting_max=options.waiting_max)
        self.budget = RetryBudget(options.retry_share)
        self.hedges = RetryBudget(options.hedge_share)
        self.hedges.saved = 0.0

    def change(self, options: Options) -> None:
        """What is under way goes on as it began."""
        self.options = options
        self.hosts.change(options)
        self.places.most, self.places.per_host = options.concurrency, options.per_host
        self.places.waiting_max = options.waiting_max
        self.places.admit()
        self.budget.share, self.hedges.share = options.retry_share, options.hedge_share

    def may_hedge(self) -> bool:
        """Pay for a second request, from the hedges' budget and that of all second tries."""
        return self.hedges.has_some and self.budget.take() and self.hedges.take()

    def unavailable(
        self, message: str, reason: str, retry_after_s: float, limit: str = ""
    ) -> DependencyUnavailable:
        """The error of this client for what cannot be reached."""
        return DependencyUnavailable(
            f"{self.name}: {message}",
            dependency=self.name,
            reason=reason,
            retry_after_s=retry_after_s,
            limit=limit,
        )

    def request(self, method: str, path: str) -> str:
        """How messages name a call."""
        return f"{self.name}: {method} {path}"
