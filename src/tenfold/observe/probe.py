"""What ``tenfold probe`` finds out, by asking one operations listener."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import msgspec

from tenfold.observe.nagios import Datum, Range, State, Verdict, worst
from tenfold.observe.reading import Reading, read, traffic
from tenfold.telemetry import names
from tenfold.telemetry.health import Readiness
from tenfold.telemetry.ops_client import Answer, ask

GONE: Final = "It cannot be reached at {url}: {error}."


class Asked(Exception):
    """It could not be asked; ``verdict`` says why."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(str(verdict))
        self.verdict = verdict


class Probe:
    """Probes of one listener. Each returns a verdict and raises :class:`Asked` where there is no answer to judge."""

    def __init__(
        self, url: str, token: str, *, timeout_s: float, warning: Range | None, critical: Range | None
    ) -> None:
        self._url, self._token = url.rstrip("/"), token
        self._timeout_s = timeout_s
        self._warning, self._critical = warning, critical

    def ready(self) -> Verdict:
        """Whether the instance is ready, and how long each of its checks took."""
        answer = self._ask("/health/ready")
        try:
            said = msgspec.json.decode(answer.body, type=Readiness)
        except msgspec.DecodeError:
            raise Asked(
                Verdict(State.UNKNOWN, f"{self._url} is no operations listener of Tenfold.")
            ) from None
        data = [self._datum(check.name, check.took_ms / 1000, "s") for check in said.checks]
        slow = worst([each.state for each in data])
        state = State.CRITICAL if not said.ready else slow
        sentence = said.sentence if slow == State.OK or not said.ready else "Ready, but a check is slow."
        return Verdict(state, sentence, data, [f"{check.name}: {check.sentence}" for check in said.checks])

    def queue(self) -> Verdict:
        """How long the oldest due message has waited; by default a warning after 60 s, critical after 300 s."""
        page = self._page()
        late = page.most(names.QUEUE_OLDEST)
        dead = page.total(names.QUEUE_MESSAGES, {"state": "dead"})
        waits = self._datum("oldest", late, "s", _upto(60), _upto(300))
        data = [waits, *(_count(state, page) for state in ("ready", "running", "dead"))]
        return Verdict(
            waits.state, f"The oldest due message has waited for {late:.1f} s; {dead:.0f} are dead.", data
        )

    def traffic(self, seconds: float, operation: str) -> Verdict:
        """Requests, errors and latency in so many seconds; ranges are for the 99th percentile, in seconds."""
        before = self._page()
        time.sleep(seconds)
        did = traffic(before, self._page(), operation)
        p99 = self._datum("p99", did.p99_s or 0.0, "s")
        data = [
            Datum("requests", did.requests_per_s),
            Datum("errors", did.errors_per_s),
            Datum("p50", did.p50_s or 0.0, "s"),
            p99,
        ]
        of = f" of {operation}" if operation else ""
        shown = "none" if did.p99_s is None else f"{did.p99_s * 1000:.1f} ms"
        sentence = f"{did.requests_per_s:.1f} requests/s{of}, {did.errors_per_s:.1f} failed/s, p99 {shown}."
        return Verdict(p99.state, sentence, data)

    def alerts(self) -> Verdict:
        """Alerts in the box: critical while a page fires, a warning while a ticket does."""
        page = self._page()
        if not page.of(names.ALERTS):
            return Verdict(
                State.UNKNOWN, "This instance watches no alerts: it keeps no telemetry (telemetry.store)."
            )
        firing = {
            severity: page.total(names.ALERTS, {"state": "firing", "severity": severity})
            for severity in ("page", "ticket")
        }
        state = State.CRITICAL if firing["page"] else State.WARNING if firing["ticket"] else State.OK
        data = [Datum(f"{severity}s", value) for severity, value in firing.items()]
        return Verdict(state, f"{firing['page']:.0f} pages and {firing['ticket']:.0f} tickets fire.", data)

    def metric(self, name: str, labels: Mapping[str, str]) -> Verdict:
        """Any number of the page /metrics; of several with these labels, the one that is worst counts."""
        found = self._page().of(name, labels)
        if not found:
            return Verdict(State.UNKNOWN, f"There is no metric {name} with these labels.")
        data = [
            self._datum(
                "_".join([name, *(v for k, v in each.labels.items() if k not in labels)]),
                each.value,
                least=None,
            )
            for each in found[:50]
        ]
        decisive = max(data, key=lambda each: (worst([each.state]) != State.OK, each.state, each.value))
        return Verdict(worst([each.state for each in data]), f"{decisive.label} is {decisive.value:g}.", data)

    def _datum(
        self,
        label: str,
        value: float,
        unit: str = "",
        warning: Range | None = None,
        critical: Range | None = None,
        least: float | None = 0.0,
    ) -> Datum:
        """With the ranges of the command line, or these."""
        return Datum(label, value, unit, self._warning or warning, self._critical or critical, least)

    def page(self) -> str:
        """All metrics, in Prometheus' text format."""
        return self._ask("/metrics").body.decode(errors="replace")

    def _page(self) -> Reading:
        return read(self.page(), time.monotonic())

    def _ask(self, path: str) -> Answer:
        try:
            answer = ask(self._url + path, self._token, timeout_s=self._timeout_s)
        except (OSError, ValueError) as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else error
            raise Asked(Verdict(State.CRITICAL, GONE.format(url=self._url, error=why))) from None
        if answer.status == 401:
            raise Asked(
                Verdict(State.UNKNOWN, "It asks for the token of its operations listener: TENFOLD_OPS_TOKEN.")
            )
        if answer.status >= 400 and not (path == "/health/ready" and answer.status == 503):
            raise Asked(Verdict(State.UNKNOWN, f"{self._url}{path} answered {answer.status}."))
        return answer


def _count(state: str, page: Reading) -> Datum:
    return Datum(state, page.total(names.QUEUE_MESSAGES, {"state": state}))


def _upto(most: float) -> Range:
    return Range(0.0, most, False, f"{most:g}")
