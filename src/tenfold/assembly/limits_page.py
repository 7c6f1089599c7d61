"""``/limits`` at the operations listener: what this process lets in, what it refuses, and what is changed."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from tenfold._core.context import Priority
from tenfold.telemetry.ops import link
from tenfold.telemetry.ops_page import Cell, Mood, duration, page, table

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.assembly.policies import PoliciesPart
    from tenfold.guard.limiter import RateLimiter
    from tenfold.http.wiring import Wiring
    from tenfold.telemetry.ops import Receive, Scope, Send

TITLE = "Limits and shedding"
ABOUT = "What this process lets in and refuses, the limits in force, and breakers."
_HEADERS = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"cache-control", b"no-store"),
)


class LimitsPage:
    """An ASGI application for :class:`~tenfold.telemetry.ops.Pages`."""

    def __init__(self, app: App, wiring: Wiring, limiter: RateLimiter, policies: PoliciesPart) -> None:
        self._app, self._wiring = app, wiring
        self._limiter, self._policies = limiter, policies

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        body = self._html(scope).encode()
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, length]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _html(self, scope: Scope) -> str:
        parts = [
            f'<p><a href="{escape(link(scope, "/"))}">Operations</a></p><h1>{TITLE}</h1>',
            f"<p>{escape(self._sentence())}</p>",
            "<h2>Admission</h2>",
            self._admission(),
            "<h2>Limits in force</h2>",
            self._limits(),
            "<h2>Operations with places of their own</h2>",
            self._bulkheads(),
            "<h2>Breakers of calls out</h2>",
            self._breakers(),
            "<h2>Changed at run time</h2>",
            self._overrides(),
        ]
        return page(TITLE, "".join(parts))

    def _sentence(self) -> str:
        gate = self._wiring.admission
        if gate is None:
            return "Admission is off (http.concurrency_max is 0): everything is let in."
        how = "learned" if gate.learned else "set by hand"
        state = "This process is overloaded" if gate.overloaded else "This process serves what it is asked"
        return f"{state}: {gate.in_flight:,} in progress, of a limit of {gate.limit:,} ({how})."

    def _admission(self) -> str:
        gate = self._wiring.admission
        if gate is None:
            return "<p>Off.</p>"
        rows: list[tuple[Cell, ...]] = [
            ("limit", gate.limit, "learned" if gate.learned else "set by hand"),
            ("in progress", gate.in_flight, f"of which {gate.parked:,} wait for something outside"),
            ("waiting", gate.waiting, "in front of the door, for half a second at most"),
            ("admitted", gate.admitted, "since the start"),
        ]
        rows += [
            (f"refused, {priority.name.lower()}", gate.refused[priority], "since the start")
            for priority in Priority
        ]
        return table(("requests", "now", ""), rows, empty="")

    def _limits(self) -> str:
        rows: list[tuple[Cell, ...]] = [
            (row.operation, policy.shown, policy.source)
            for row in self._policies.read().operations
            for policy in row.policies
            if policy.name == "limit" and policy.value is not None
        ]
        numbers = self._limiter.numbers()
        said = f"{numbers['admitted_total']:,} admitted and {numbers['refused_total']:,} refused since the start."
        if self._limiter.away:
            said += " Their store is away."
        shown = table(
            ("operation", "limit", "said by"), rows, empty="No operation has a rate limit (limit=…)."
        )
        return shown + (f"<p>{said}</p>" if rows else "")

    def _bulkheads(self) -> str:
        rows: list[tuple[Cell, ...]] = [
            (each.name, each.in_flight, each.most, each.refused) for each in self._wiring.bulkheads.values()
        ]
        headings = ("operation", "in progress", "at most", "refused")
        return table(headings, rows, empty="No operation has a bound of its own (concurrency=…).")

    def _breakers(self) -> str:
        rows: list[tuple[Cell, ...]] = []
        for client in self._app.clients:
            for name, host in client.view()["hosts"].items():
                state = host["breaker"] + (" (held)" if host["forced"] else "")
                mood = Mood(state, "good" if host["breaker"] == "closed" else "bad")
                rows.append((client.name, name, mood, host["opened"], host["refused"]))
        headings = ("client", "host", "breaker", "opened", "refused")
        return table(headings, rows, empty="Nothing was called yet.")

    def _overrides(self) -> str:
        rows: list[tuple[Cell, ...]] = [
            (o.name, "none" if o.value is None else str(o.value), o.by, self._left(o.until), o.why)
            for o in self._policies.read().overrides
        ]
        headings = ("policy", "value", "by", "ends", "why")
        return table(headings, rows, empty="Every policy is as code and settings say.")

    def _left(self, until: float | None) -> str:
        return "when unset" if until is None else f"in {duration(until - self._app.clock.now())}"
