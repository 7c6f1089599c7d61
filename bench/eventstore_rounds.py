"""The event store beside the ``eventsourcing`` library on the same PostgreSQL, and a rebuild of a million events.

One by one, each event is a transaction, so both wait for the disk; the CPU time per event tells what the library costs.
Beside each other, 16 tasks (of the peer: threads) do that, each with an aggregate of its own. BENCH_EVENTS is how many
events the rebuilds have (a million unless given).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import environment
from servers import Failed

TITLE = "Event store"
ABOUT = """Beside the `eventsourcing` library on one PostgreSQL, each in one process; medians of the rounds. One by one: a
transaction per event, through an aggregate, so both wait for the server's log. Side by side: the same from 16 tasks, of
the peer from 16 threads, each with an aggregate of its own and a connection. 250 at once: in one transaction. A quotient
above 1 is ours, but of the CPU time below 1. Then the rebuild of a projection, events a second in the last column.
"""

sys.path.append(str(environment.ROOT / "tests"))

HERE = Path(__file__).parent / "eventstore"
PEERS = environment.ROOT / ".venv-bench-eventstore"
EVENTS = int(os.environ.get("BENCH_EVENTS", "1000000"))
TIMES, REBUILD_S = 2.0, 120.0
"""Targets: appends beside the peer's, and a million events."""
MEASURES = {
    "one": "one by one /s",
    "cpu_us": "CPU µs per event",
    "beside": "16 side by side /s",
    "many": "250 at once /s",
}


def measure(rounds: int, progress: Any) -> list[dict[str, Any]]:
    """One row per round with what was measured of ours and of the peer, then one per rebuild."""
    from support.servers import Postgres, running

    peers = environment.peers(PEERS, HERE / "requirements.txt")
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        postgres = stack.enter_context(running(Postgres()))
        for number in range(rounds):
            progress(number, rounds, "append")
            with postgres.database() as url:
                rows.append(
                    {
                        "contender": "tenfold",
                        **_run([sys.executable, HERE / "tenfold_events.py", "append", url]),
                    }
                )
            with postgres.database() as url:
                rows.append(
                    {"contender": "eventsourcing", **_run([peers, HERE / "peer_events.py"], _peer(url))}
                )
        for name in ("postgresql", "sqlite"):
            with postgres.database() as url:
                where = url if name == "postgresql" else "sqlite:///app.db"
                command = [sys.executable, HERE / "tenfold_events.py", "rebuild", where, str(EVENTS)]
                rows.append({"contender": f"rebuild on {name}", **_run(command)})
    return rows


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and lines: medians over rounds, the quotient, and the rebuilds."""
    found = {
        who: {name: median(row[name] for row in rows if row["contender"] == who) for name in MEASURES}
        for who in ("tenfold", "eventsourcing")
    }
    lines = [[who, *(format(values[name], ",.0f") for name in MEASURES)] for who, values in found.items()]
    ours, peer = found["tenfold"], found["eventsourcing"]
    lines.append(["quotient", *(format(ours[name] / peer[name], ".2f") for name in MEASURES)])
    lines.append([f"at least {TIMES:g} times", *(_mark(rows, name) for name in MEASURES)])
    for row in rows:
        if "seconds" in row:
            took = f"{row['events']:,} in {row['seconds']:.0f} s"
            soon = row["seconds"] * 1_000_000 / row["events"] < REBUILD_S
            goal = f"{'✓' if soon else '✗'} a million in {REBUILD_S:.0f} s"
            lines.append([row["contender"], took, goal, "", f"{row['rate']:,.0f}"])
    return ["", *MEASURES.values()], lines


def _mark(rows: list[dict[str, Any]], name: str) -> str:
    """?, where rounds lie on both sides. The CPU time has no target."""
    if name == "cpu_us":
        return ""
    ours, peer = ([r[name] for r in rows if r["contender"] == who] for who in ("tenfold", "eventsourcing"))
    reached = {a >= TIMES * b for a, b in zip(ours, peer, strict=True)}
    return "?" if len(reached) > 1 else "✓" if reached.pop() else "✗"


def _run(command: list[Any], more: dict[str, str] | None = None) -> dict[str, Any]:
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **(more or {})}, check=False
    )
    if done.returncode:
        raise Failed(f"{command[1]} failed: {done.stderr[-800:]}")
    last: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return last


def _peer(url: str) -> dict[str, str]:
    from sqlalchemy.engine import make_url

    at = make_url(url)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres", "POSTGRES_DBNAME": at.database or "",
        "POSTGRES_HOST": at.host or "", "POSTGRES_PORT": str(at.port or 5432),
        "POSTGRES_POOL_SIZE": "16", "POSTGRES_USER": at.username or "", "POSTGRES_PASSWORD": at.password or "-",
    }  # fmt: skip
