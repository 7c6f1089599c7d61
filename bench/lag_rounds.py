"""From the moment an event was to be published until its subscriber runs, at 500 events a second that wait for nobody.

A round takes the embedded queue and every broker once. What is not handled within 15 s after the last one counts with
all the time there was, so a slow machine shows as a late figure, and the run ends.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from statistics import median
from typing import Any

from relay_rounds import RATE, Field, run
from servers import Failed

TITLE = "From publishing to handling"
ABOUT = """500 events a second that wait for nobody, each in a transaction of its own, from the moment it was to begin until the
subscriber runs; the first fifth of 8 s is not counted. Publisher, relay, intake and worker are one process on CPU 1,
PostgreSQL with fsync off holds outbox and queue; "embedded" is without a broker. What is loaded before the app starts is
frozen once it runs, as under `tenfold run`: the garbage collector's looks through it were the longest waits. "kafka by itself"
is its library's producer and consumer in one process, an event at a time, without a database: what is ours is above it.
Kafka is warm: in its first minute the compiler of its Java takes a tenth of a core from all.
"""

CARRIERS = ("embedded", "rabbitmq", "kafka", "nats", "redis")
SECONDS = 8
MEASURES = {"p50": "p50 ms", "p99": "p99 ms", "cpu_us": "CPU µs per event", "unhandled": "not handled"}
P99_MS = 50.0
ITSELF = "kafka by itself"
WARM_RATE, WARM_SECONDS = 1_000, 10


def measure(only: list[str], rounds: int, progress: Any) -> list[dict[str, Any]]:
    """One row per round and carrier. What fails is named and left out of that round."""
    carriers = [name for name in CARRIERS if not only or any(part in name for part in only)]
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        field = Field(stack)
        for number in range(rounds):
            for at, carrier in enumerate(carriers):
                progress(number * len(carriers) + at, rounds * len(carriers), carrier)
                try:
                    if carrier == "kafka":
                        rows.append({"round": number, "carrier": ITSELF, **_echo(field, warm=not number)})
                    rows.append({"round": number, "carrier": carrier, **_lag(field, carrier)})
                except Failed as error:
                    print(error, file=sys.stderr)
    return rows


def _lag(field: Field, carrier: str) -> dict[str, float]:
    with field.app("" if carrier == "embedded" else field.url(carrier)) as env:
        return _measured(run([sys.executable, "ours.py", "late", str(RATE), str(SECONDS)], env))


def _echo(field: Field, *, warm: bool) -> dict[str, float]:
    command = [sys.executable, "echo.py", field.url("kafka")]
    if warm:
        run([*command, str(WARM_RATE), str(WARM_SECONDS)], dict(os.environ))
    return _measured(run([*command, str(RATE), str(SECONDS)], dict(os.environ)))


def _measured(found: dict[str, Any]) -> dict[str, float]:
    return {
        "p50": found["p50"],
        "p99": found["p99"],
        "cpu_us": found["cpu_us"],
        "unhandled": found["n"] - found["handled"],
    }


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and lines: medians over rounds, smallest and largest in brackets, and whether the figure is met."""
    carriers = list(dict.fromkeys(row["carrier"] for row in rows))
    lines = [
        [name, *(_cell(rows, name, measure) for measure in MEASURES), _mark(rows, name)] for name in carriers
    ]
    return ["", *MEASURES.values(), f"p99 < {P99_MS:.0f} ms"], lines


def _values(rows: list[dict[str, Any]], carrier: str, measure: str) -> list[float]:
    return [row[measure] for row in rows if row["carrier"] == carrier]


def _cell(rows: list[dict[str, Any]], carrier: str, measure: str) -> str:
    found = _values(rows, carrier, measure)
    digits = ",.0f" if measure in ("cpu_us", "unhandled") else ",.1f"
    text = format(median(found), digits)
    return text if len(found) == 1 else f"{text} [{format(min(found), digits)}–{format(max(found), digits)}]"


def _mark(rows: list[dict[str, Any]], carrier: str) -> str:
    """?, where rounds lie on both sides."""
    if carrier == ITSELF:
        return ""
    held = {value < P99_MS for value in _values(rows, carrier, "p99")}
    return "?" if len(held) > 1 else "✓" if held.pop() else "✗"
