"""What runs without a server: SQLite's figures through an app, and cache hits beside the peers'."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from environment import peers_bin
from figures import Rows, Table, number
from servers import SERVER_CPU, Failed

SQLITE = """One process, `synchronous=FULL`; a transaction counts when its commit was acknowledged. An order transaction writes
a row, enqueues a job and publishes an event through the public facade. The rate at which the disk syncs
(`fdatasync` of one page) is measured in the same run. Here and below, "?" means that the runs lie on both sides
of the target.
"""
CACHE = """Decorated calls a second that find their value, with tags and statistics on, beside the peers' by one client.
"""

HERE = Path(__file__).parent
TARGETS = {"order transactions (row + job + event), 64 at a time": 3_000, "no-op jobs drained": 10_000}
CACHE_PEERS = "c_dict,c_cachebox,c_theine,c_cashews,c_aiocache"


def sqlite(rounds: int) -> Rows:
    """One process per round, pinned like a server."""
    runs = [
        json.loads(_output(["taskset", "-c", SERVER_CPU, sys.executable, "sqlite_app.py"]))
        for _ in range(rounds)
    ]
    return [_row(what, [run[what] for run in runs]) for what in runs[0]]


def cache(shared: Path) -> Rows:
    """Decorated hits a second, by the peers' client; nothing without it."""
    client = shared / "cache" / "client.py"
    if not client.exists():
        return []
    python = str(peers_bin() / "python")
    command = [
        sys.executable,
        "cache_hit.py",
        str(client),
        "--json",
        "--peers",
        CACHE_PEERS,
        "--python",
        python,
    ]
    rounds = json.loads(_output(command))
    found = []
    for name in rounds[0]:
        hits = [r[name]["guarded"] for r in rounds if r[name].get("guarded")]
        if hits:
            found.append(_row(name.replace("cache_hit", "Tenfold").removeprefix("c_"), hits))
    return found


def _row(what: str, values: list[float]) -> dict[str, Any]:
    target = 1_000_000 if what == "Tenfold" else TARGETS.get(what)
    middle, low, high = median(values), min(values), max(values)
    return {"what": what, "target": target, "median": middle, "low": low, "high": high, "n": len(values)}


def _output(command: list[str]) -> str:
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(command[-3:])}: {done.stderr.strip()[-400:]}")
    return done.stdout


def table(found: Rows) -> Table:
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
