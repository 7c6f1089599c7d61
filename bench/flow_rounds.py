"""Steps of flows per second beside DBOS, on one PostgreSQL, in turn: ``python bench/flow_rounds.py DSN [ROUNDS [FLOWS]]``.

DSN is a database of nobody else's; BENCH_PYTHON the interpreter that has DBOS (default .venv-bench). Prints each round and the
ratio of the medians.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PEERS = os.environ.get("BENCH_PYTHON", str(HERE.parent / ".venv-bench" / "bin" / "python"))
CONTENDERS = {"tenfold": (sys.executable, "tenfold_flows.py"), "dbos": (PEERS, "dbos_flows.py")}


def measure(name: str, dsn: str, flows: int) -> float:
    """Steps per second of one run in a process of its own."""
    python, script = CONTENDERS[name]
    done = subprocess.run(
        [python, script, dsn, str(flows)],
        cwd=HERE / "flows",
        env={**os.environ, "PYTHONPATH": str(HERE.parent / "src")} if name == "tenfold" else None,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def main(dsn: str, rounds: int = 3, flows: int = 200) -> None:
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for name in CONTENDERS:
        measure(name, dsn, 5)  # makes its tables
    for _ in range(rounds):
        for name in CONTENDERS:
            found[name].append(measure(name, dsn, flows))
            print(f"{name:<8} {found[name][-1]:10.0f} steps/s", flush=True)
    ratio = statistics.median(found["tenfold"]) / statistics.median(found["dbos"])
    print(f"ratio {ratio:.1f} (median of {rounds} rounds, {flows} flows of ten steps)")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
