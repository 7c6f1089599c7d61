"""Results for people: tables on the terminal, and docs/benchmarks.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import eventstore_rounds
import figures
import fleet_rounds
import job_rounds
import lag_rounds
import overload_rounds
import page_rounds
import relay_rounds
from contenders import FIELDS
from figures import Rows, Verdict, number
from rich.console import Console
from rich.table import Table


def show_http(part: str, rows: Rows) -> None:
    """The verdicts, and the medians they come from."""
    console = Console()
    console.print(_table(f"{part}, requests a second (CPU µs per request)", *_medians(rows)))
    table = Table(title="Targets", title_justify="left")
    for head in _VERDICT_HEAD:
        table.add_column(head)
    for verdict in figures.verdicts(rows, FIELDS[part].targets, FIELDS[part].judged):
        table.add_row(*_verdict_cells(verdict), style={"✓": "green", "✗": "red"}.get(verdict.mark, "yellow"))
    console.print(table)


def show_jobs(rows: Rows) -> None:
    """What the queues did, and ours over the best of the others."""
    console = Console()
    console.print(_table("Queues, one worker process", *job_rounds.table(rows)))
    console.print(_table("Beside the best peer on PostgreSQL", *job_rounds.verdicts(rows)))


def show_relay(rows: Rows) -> None:
    """How fast events reach each broker, and what the outbox costs."""
    Console().print(_table("Relay of events, one process", *relay_rounds.table(rows)))


def show_overload(rows: Rows) -> None:
    """What is served in time beyond the peak."""
    console = Console()
    console.print(_table("Overload: goodput as a share of the peak; p99 in ms", *overload_rounds.table(rows)))
    console.print(_table("At 5 times the peak, by priority", *overload_rounds.priorities(rows)))
    console.print(_table("Targets", *overload_rounds.verdicts(rows)))
    console.print(overload_rounds.soundness(rows))


def show_fleet(rows: Rows) -> None:
    """Throughput over processes, and whose time it took."""
    console = Console()
    console.print(_table("Processes behind a balancer", *fleet_rounds.table(rows)))
    console.print(_table("Targets", *fleet_rounds.verdicts(rows)))


def show_lag(rows: Rows) -> None:
    """How long events take from publishing to handling."""
    Console().print(_table("From publishing to handling, 500 events a second", *lag_rounds.table(rows)))


def show_eventstore(rows: Rows) -> None:
    """Appending beside the peer, and rebuilding."""
    Console().print(_table("Event store on PostgreSQL", *eventstore_rounds.table(rows)))


def show_pages(rows: Rows) -> None:
    """What a full store takes, and how long its pages take."""
    console = Console()
    console.print(_table("A full store of telemetry", *page_rounds.kept(rows)))
    console.print(_table("Pages of the dashboard over it", *page_rounds.table(rows)))


def show_embedded(part: str, found: list[dict[str, Any]]) -> None:
    Console().print(_table(part, *_embedded(found)))


def write(out: Path, to: Path) -> None:
    """docs/benchmarks.md from the results that are there."""
    parts = {p: json.loads((out / f"{p}.json").read_text()) for p in _SECTIONS if (out / f"{p}.json").exists()}  # fmt: skip
    text = [_INTRODUCTION]
    for part, kept in parts.items():
        text.append(_SECTIONS[part])
        text.append(
            f"Measured {kept['at']} UTC on {kept['machine']}; load average {kept['load']} at the end.\n"
        )
        if part in FIELDS:
            verdicts = figures.verdicts(kept["found"], FIELDS[part].targets, FIELDS[part].judged)
            text.append(_markdown(_VERDICT_HEAD, [_verdict_cells(v) for v in verdicts]))
            text.append("Medians: requests a second, and server CPU µs per request in brackets.\n")
            text.append(_markdown(*_medians(kept["found"])))
        elif part == "overload":
            overload_rounds.plot(kept["found"], to.parent / "plots" / "overload.svg")
            text.append("![goodput over load](plots/overload.svg)\n")
            text.append(_markdown(*overload_rounds.verdicts(kept["found"])))
            text.append(overload_rounds.soundness(kept["found"]))
            text.append(_markdown(*overload_rounds.table(kept["found"])))
            text.append(_markdown(*overload_rounds.priorities(kept["found"])))
        elif part == "fleet":
            fleet_rounds.plot(kept["found"], to.parent / "plots" / "fleet.svg")
            text.append("![requests a second over web processes](plots/fleet.svg)\n")
            text.append(_markdown(*fleet_rounds.verdicts(kept["found"])))
            text.append(_markdown(*fleet_rounds.table(kept["found"])))
        elif part == "jobs":
            text.append(_markdown(*job_rounds.verdicts(kept["found"])))
            text.append("Medians of the rounds:\n")
            text.append(_markdown(*job_rounds.table(kept["found"])))
        elif part == "eventstore":
            text.append(_markdown(*eventstore_rounds.table(kept["found"])))
        elif part == "relay":
            text.append(_markdown(*relay_rounds.table(kept["found"])))
        elif part == "pages":
            text.append(_markdown(*page_rounds.kept(kept["found"])))
            text.append(_markdown(*page_rounds.table(kept["found"])))
        elif part == "lag":
            text.append(_markdown(*lag_rounds.table(kept["found"])))
        else:
            text.append(_markdown(*_embedded(kept["found"])))
    versions = next(iter(parts.values()))["versions"] if parts else {}
    text.append(
        "## Versions\n\n" + ", ".join(f"{name} {version}" for name, version in versions.items()) + "\n"
    )
    to.write_text("\n".join(text))
    print(f"wrote {to}")


_VERDICT_HEAD = [
    "",
    "endpoint",
    "against",
    "ours",
    "target",
    "ratio",
    "middle half",
    "all rounds",
    "CPU ratio",
    "N",
]


def _verdict_cells(v: Verdict) -> list[str]:
    return [
        v.mark, v.target.measure, f"{v.base} {v.target.beside}".strip(), v.ours, f"{v.target.at_least:g}", f"{v.ratio:.2f}",
        f"{v.quartiles[0]:.2f} … {v.quartiles[1]:.2f}", f"{v.low:.2f} … {v.high:.2f}", f"{v.cpu_ratio:.2f}", str(v.rounds),
    ]  # fmt: skip


def _medians(rows: Rows) -> tuple[list[str], list[list[str]]]:
    what = list(dict.fromkeys(r["what"] for r in rows))
    lines = []
    for who in dict.fromkeys(r["who"] for r in rows):
        cells = [who]
        for m in what:
            rps, cpu = (figures.middle(rows, who, m, key) for key in ("rps", "cpu_us"))
            cells.append("–" if rps is None else f"{number(rps)} ({number(cpu)})")
        lines.append(cells)
    return ["", *what], lines


def _embedded(found: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    lines = []
    for row in found:
        target = row.get("target")
        mark = "" if target is None else _mark(row["low"], row["high"], target)
        spread = f"{number(row['low'])} … {number(row['high'])}"
        lines.append([mark, row["what"], number(target), number(row["median"]), spread, str(row["n"])])
    return ["", "", "target", "median /s", "runs from … to", "N"], lines


def _mark(low: float, high: float, target: float) -> str:
    if low >= target:
        return "✓"
    return "✗" if high < target else "?"


def _table(title: str, head: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


_INTRODUCTION = """# Benchmarks

Written by `make bench`. Absolute figures belong to the machine that they were measured on; compare the ratios,
which are formed within one run.
"""

_SECTIONS = {
    "http": """## HTTP

One server process pinned to CPU 0, wrk with one thread and 32 keep-alive connections on CPU 1. All servers are
up during the whole run and get their load one after another, in short bursts; a round is one burst for each, and
every ratio is formed within a round. The table has the median of the rounds, their middle half, the lowest and
highest. ✓ and ✗ are given where the middle half lies on one side of the target; "?" means undecided. Two of ours
are judged, named beforehand: what `tenfold run` serves, and the entry for Granian; of a peer on two servers, its faster one. The CPU
ratio compares requests per second of CPU time that the server used (user and system, with its children): other
work on the machine disturbs it less. uvloop everywhere; uvicorn with httptools; access logs off, but in the row
that says otherwise. Tenfold runs with its defaults: metrics, deadlines, security headers, request ids, limits.
"raw RSGI limit" is a hand-written dispatch on Granian with msgspec, without any of these. The peers' programs use
each one's own documentation as their model.
""",
    "postgresql": """## HTTP with PostgreSQL and Redis

The same method; every server has 8 connections to one PostgreSQL (`fsync=off`: the disk is nobody's merit), which shares
both CPUs with everything else, so the CPU ratio says more than requests a second. `orders` writes a row and a job in
one transaction; `db_orm` and `fortunes_orm` go through SQLAlchemy's ORM on both sides; `product_redis` is a cached read
with Redis as the second tier. A name behind the contender is the endpoint of theirs that does the same work.
""",
    "fleet": """## Processes behind a balancer

One, two and three `tenfold run` behind NGINX and behind HAProxy, with the configurations that `tenfold up` writes, beside one
process that is asked directly; nothing is pinned, and wrk (one thread, 32 keep-alive connections) shares the machine's cores
with all of them. `items` is a typed GET, the cheapest thing an app does; the others take so much CPU time of the app besides.
CPU µs are user and system time per request. One process alone has a core of its own, and the load the other one. Behind a
balancer all share both: requests a second are then the cores over the sum of the three columns, so what an app gains by a
second process is bounded by what the balancer and the load cost beside a request of its own: 1.6 times as much from two cores
takes an app whose requests cost four times as much as these do together (2 / (app + rest) = 1.6 / app). From there on more
processes add nothing.
In brackets the smallest and the largest of the rounds.
""",
    "jobs": """## Queues

One worker process on CPU 0, the client on CPU 1, PostgreSQL (fsync off) and Redis where they like; the rounds are
interleaved. A job appends 16 bytes to a file. Enqueued one by one: one transaction each, one after another, from one
task; in bulk: 1,000 per call. Drained: 20,000 jobs that wait, from the first start to the last. Start: at 200 jobs a
second, from the call that enqueues to the first line of the job, in another process. Peers as their documentation
suggests for short jobs, each on a store of its kind; ✓ and ✗ where every round lies on one side of the best peer on
PostgreSQL.
""",
    "relay": """## Events to brokers

RabbitMQ (quorum queues), Kafka (12 partitions) and NATS (JetStream on disk), each a single server; PostgreSQL with fsync
off holds the outbox. Relayed: 40,000 events of about 100 bytes with 1,000 keys, written beforehand, by one process on
CPU 1: read, published, confirmed by the broker, marked; nobody consumes meanwhile. FastStream publishes the same events directly from one process,
confirmed too, without an outbox: what a crash takes away between the commit and the publish is lost. "outbox : direct"
is the relay's rate over FastStream's with 500 publishes under way; it is the price of not losing it. Publish to handled:
500 events a second, each in a transaction of its own, from the moment it was to begin until the subscriber runs.
Publisher, relay, intake and worker are one process. In brackets the smallest and the largest of the rounds.
""",
    "overload": """## Overload

`/work` reads one row and computes for 5 ms. A run is one load in a fresh server: 2.5 s of eight clients that wait for each
answer (the peak), 4 s at half the peak, 7 s at the load, 6 s at half the peak, and the peak again. Requests leave as a
Poisson process, whether or not earlier ones were answered. Goodput is compared with the mean of both peaks of its own run,
p99 with that at half the peak before and after; rounds repeat the runs in turn. The first 3 s of the load are not counted.
A request is served in time when 200 comes within 500 ms of its intended time. "well after": seconds after the load until
99 % of every half second at half the peak are served in time, in the worst run. The server has CPU 0 to itself, generator
and PostgreSQL share CPU 1. ✓ and ✗ where the middle half of the runs lies on one side. Tenfold runs with its defaults; the
peers also with the limits that their servers offer.
""",
    "lag": """## From publishing to handling

500 events a second that wait for nobody, each in a transaction of its own, from the moment it was to begin until the
subscriber runs; the first fifth of 8 s is not counted. Publisher, relay, intake and worker are one process on CPU 1,
PostgreSQL with fsync off holds outbox and queue; "embedded" is without a broker.
""",
    "eventstore": """## Event store

Beside the `eventsourcing` library on one PostgreSQL, each in one process; medians of the rounds. One by one: a
transaction per event, through an aggregate, so both wait for the server's log. Side by side: the same from 16 tasks, of
the peer from 16 threads, each with an aggregate of its own and a connection. 250 at once: in one transaction. A quotient
above 1 is ours, but of the CPU time below 1. Then the rebuild of a projection, events a second in the last column.
""",
    "sqlite": """## SQLite: transactions and jobs

One process, `synchronous=FULL`; a transaction counts when its commit was acknowledged. An order transaction writes
a row, enqueues a job and publishes an event through the public facade. The rate at which the disk syncs
(`fdatasync` of one page) is measured in the same run. Here and below, "?" means that the runs lie on both sides
of the target.
""",
    "cache": """## Cache: hits in process

Decorated calls a second that find their value, with tags and statistics on, beside the peers' by one client.
""",
    "pages": """## Pages of the dashboard over a full store

The store of telemetry is filled with seven days of an app of fifty operations and twenty jobs by its own writer, with one log
line for ten requests, spans for one in a hundred and all metrics; the queue's archive has the same jobs. Then `tenfold run`
serves that app on that folder, and every page is asked for at the operations listener, one after the other, over an hour and
over seven days. CPU is the server's time with all threads. ✓: p95 within 100 ms of the clock; ?: within 100 ms of CPU only, as
other work was on the machine; ✗: neither.
""",
}
