"""What clients show of themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from tenfold.telemetry import names
from tenfold.telemetry.metrics import Family, Sample

if TYPE_CHECKING:
    from tenfold.client.state import State
    from tenfold.telemetry.metrics import Counter, Histogram, Registry

STATES: Final[Mapping[str, int]] = {"closed": 0, "half-open": 1, "open": 2}


class Families:
    """The metrics of all clients of an app."""

    def __init__(self, registry: Registry) -> None:
        of_host = (names.CLIENT, names.HOST)
        self.ended = registry.counter(
            names.CLIENT_REQUESTS,
            "Requests out, tries and hedges included, by how they ended.",
            (*of_host, names.OUTCOME),
        )
        self.duration = registry.histogram(
            names.CLIENT_DURATION, "Time of requests out until their answer was read, in seconds.", of_host
        )
        self.retries = registry.counter(names.CLIENT_RETRIES, "Second and later tries of calls out.", of_host)
        self.hedges = registry.counter(
            names.CLIENT_HEDGES, "Reads that were sent once more because they were slow.", of_host
        )
        about = "Calls out that were refused here (breaker, places), and second tries that were not made (budget)."
        self.refused = registry.counter(names.CLIENT_REFUSED, about, (*of_host, names.REASON))
        self._states: dict[str, State] = {}
        registry.collector(self._collect, names.CLIENT_BREAKER)

    def of(self, client: str) -> Metrics:
        """Those of one client."""
        return Metrics(self, client)

    def follow(self, state: State) -> None:
        """Show the gauges of a client that runs."""
        self._states[state.name] = state

    def _collect(self) -> Iterable[Family]:
        states = self._states.values()
        breakers = [
            Sample(
                "", {names.CLIENT: s.name, names.HOST: h.name}, STATES[h.breaker.state(s.clock.monotonic())]
            )
            for s in states
            for h in s.hosts.all()
        ]
        yield Family(
            names.CLIENT_BREAKER, "gauge", "Circuit breakers: 0 closed, 1 half-open, 2 open.", breakers
        )
        yield self._gauge(names.CLIENT_IN_FLIGHT, "Calls out under way.", lambda s: s.places.in_flight)
        yield self._gauge(
            names.CLIENT_WAITING, "Calls out that wait for a place.", lambda s: s.places.waiting
        )
        yield self._gauge(
            names.CLIENT_BUDGET, "Second tries that could be made now.", lambda s: s.budget.saved
        )

    def _gauge(self, name: str, about: str, read: Callable[[State], float]) -> Family:
        samples = [Sample("", {names.CLIENT: each.name}, read(each)) for each in self._states.values()]
        return Family(name, "gauge", about, samples)


class Metrics:
    """The counters of one client, resolved once per host."""

    def __init__(self, families: Families, client: str) -> None:
        self._families, self._client = families, client
        self._ended: dict[tuple[str, str], Counter] = {}
        self._duration: dict[str, Histogram] = {}

    def ended(self, host: str, outcome: str, seconds: float) -> None:
        """A request ended."""
        counter = self._ended.get((host, outcome))
        if counter is None:
            counter = self._families.ended.labels(self._client, host, outcome)
            self._ended[host, outcome] = counter
            self._duration[host] = self._families.duration.labels(self._client, host)
        counter.inc()
        self._duration[host].observe(seconds)

    def retried(self, host: str) -> None:
        """A call is tried again."""
        self._families.retries.labels(self._client, host).inc()

    def hedged(self, host: str) -> None:
        """A request is sent once more."""
        self._families.hedges.labels(self._client, host).inc()

    def refused(self, host: str, reason: str) -> None:
        """A call, or a second try of it, was not made."""
        self._families.refused.labels(self._client, host, reason).inc()
