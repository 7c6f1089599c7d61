"""Steps of flows beside DBOS, on one PostgreSQL, each run in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import environment
from figures import Rows, Table, number
from servers import Failed

TITLE = "Flows"
ABOUT = """A flow of ten steps, each checkpointed, 200 flows at once; steps a second of one process beside DBOS on the same PostgreSQL (fsync
off), in turns. In brackets the smallest and the largest of the rounds.
"""

Progress = Callable[[int, int, str], None]
HERE = Path(__file__).parent
FLOWS = 200
SCRIPTS = {"Tenfold": "tenfold_flows.py", "DBOS": "dbos_flows.py"}


def measure(rounds: int, progress: Progress) -> Rows:
    """One row per round: steps a second of each."""
    rows: Rows = []
    with environment.postgres() as dsn:
        for name in SCRIPTS:
            _run(name, dsn, 5)  # makes its tables
        for turn in range(rounds):
            progress(turn, rounds, "Tenfold, then DBOS")
            rows.append({"round": turn, **{name: _run(name, dsn, FLOWS) for name in SCRIPTS}})
    return rows


def _run(name: str, dsn: str, flows: int) -> float:
    python = sys.executable if name == "Tenfold" else str(environment.peers_bin() / "python")
    done = subprocess.run(
        [python, SCRIPTS[name], dsn, str(flows)], cwd=HERE / "flows", env=dict(os.environ),
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"{name} at {urlsplit(dsn).hostname} failed: {done.stderr[-800:]}")
    return float(done.stdout.split()[-1])


def table(rows: Rows) -> Table:
    """Medians, and the quotient within rounds."""
    quotients = sorted(row["Tenfold"] / row["DBOS"] for row in rows)
    middles = [number(median(row[name] for row in rows)) for name in SCRIPTS]
    spread = f"{median(quotients):.1f} ({quotients[0]:.1f} … {quotients[-1]:.1f})"
    return ["", *SCRIPTS, "ratio", "N"], [["steps a second", *middles, spread, str(len(rows))]]
