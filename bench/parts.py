"""What is measured: each part is a section of docs/benchmarks.md. A new one is a module of its own and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import embedded
import environment
import eventstore_rounds
import fleet_rounds
import flow_rounds
import gateway_rounds
import http_rounds
import job_rounds
import lag_rounds
import limit_rounds
import overload_rounds
import page_rounds
import relay_rounds
from contenders import FIELDS
from figures import Rows, Table, median_table, verdict_table, verdicts

Progress = Callable[[int, int, str], None]
MEDIANS = "Medians: requests a second, and server CPU µs per request in brackets."


@dataclass(frozen=True, slots=True)
class Ask:
    """What the caller chose. ``seconds``: of each burst of load; ``out``: where logs go."""

    only: list[str]
    measures: list[str]
    rounds: int
    seconds: float
    out: Path


@dataclass(frozen=True, slots=True)
class Part:
    """How rows come about, and what is shown of them: tables with a sentence above each, which may be empty."""

    title: str
    about: str
    measure: Callable[[Ask, Progress], Rows]
    tables: Callable[[Rows], list[tuple[str, Table]]]
    plot: Callable[[Rows, Path], None] | None = None
    pictured: str = ""
    """What the plot shows, for those who cannot see it."""


def _field(name: str) -> Part:
    field = FIELDS[name]

    def measure(ask: Ask, progress: Progress) -> Rows:
        what = ask.measures or list(field.measures)
        return http_rounds.measure(field, ask.only, what, ask.rounds, ask.seconds, ask.out, progress)

    def tables(rows: Rows) -> list[tuple[str, Table]]:
        found = verdicts(rows, field.targets, field.judged)
        return [("", verdict_table(found)), (MEDIANS, median_table(rows))]

    return Part(field.title, field.about, measure, tables)


PARTS = {
    "http": _field("http"),
    "postgresql": _field("postgresql"),
    "cost": _field("cost"),
    "telemetry": _field("telemetry"),
    "fleet": Part(
        fleet_rounds.TITLE, fleet_rounds.ABOUT,
        lambda ask, progress: fleet_rounds.measure(ask.rounds, ask.out, progress),
        lambda rows: [("", fleet_rounds.verdicts(rows)), ("", fleet_rounds.table(rows))],
        fleet_rounds.plot, "requests a second over web processes",
    ),
    "gateway": Part(
        gateway_rounds.TITLE, gateway_rounds.ABOUT,
        lambda ask, progress: gateway_rounds.measure(ask.rounds, progress),
        lambda rows: [("", gateway_rounds.table(rows))],
    ),
    "jobs": Part(
        job_rounds.TITLE, job_rounds.ABOUT,
        lambda ask, progress: job_rounds.measure(ask.only, ask.rounds, progress),
        lambda rows: [("", job_rounds.verdicts(rows)), ("Medians of the rounds:", job_rounds.table(rows))],
    ),
    "relay": Part(
        relay_rounds.TITLE, relay_rounds.ABOUT,
        lambda ask, progress: relay_rounds.measure(ask.only, ask.rounds, progress),
        lambda rows: [("", relay_rounds.table(rows))],
    ),
    "limits": Part(
        limit_rounds.TITLE, limit_rounds.ABOUT,
        lambda ask, progress: limit_rounds.measure(ask.rounds, progress),
        lambda rows: [("", limit_rounds.table(rows))],
    ),
    "overload": Part(
        overload_rounds.TITLE, overload_rounds.ABOUT,
        lambda ask, progress: overload_rounds.measure(ask.only, ask.rounds, ask.out, progress),
        lambda rows: [
            ("", overload_rounds.verdicts(rows)),
            (overload_rounds.soundness(rows), overload_rounds.table(rows)),
            ("At 5 times the peak, by priority:", overload_rounds.priorities(rows)),
        ],
        overload_rounds.plot, "goodput over load",
    ),
    "lag": Part(
        lag_rounds.TITLE, lag_rounds.ABOUT,
        lambda ask, progress: lag_rounds.measure(ask.only, ask.rounds, progress),
        lambda rows: [("", lag_rounds.table(rows))],
    ),
    "eventstore": Part(
        eventstore_rounds.TITLE, eventstore_rounds.ABOUT,
        lambda ask, progress: eventstore_rounds.measure(ask.rounds, progress),
        lambda rows: [("", eventstore_rounds.table(rows))],
    ),
    "flows": Part(
        flow_rounds.TITLE, flow_rounds.ABOUT,
        lambda ask, progress: flow_rounds.measure(ask.rounds, progress),
        lambda rows: [("", flow_rounds.table(rows))],
    ),
    "sqlite": Part(
        "SQLite: transactions and jobs", embedded.SQLITE,
        lambda ask, _: embedded.sqlite(ask.rounds),
        lambda rows: [("", embedded.table(rows))],
    ),
    "cache": Part(
        "Cache: hits in process", embedded.CACHE,
        lambda _, __: embedded.cache(environment.SHARED),
        lambda rows: [("", embedded.table(rows))],
    ),
    "pages": Part(
        page_rounds.TITLE, page_rounds.ABOUT,
        lambda ask, progress: page_rounds.measure(ask.rounds, ask.out, progress),
        lambda rows: [("", page_rounds.kept(rows)), ("", page_rounds.table(rows))],
    ),
}  # fmt: skip
