"""Tenfold's figures beside the peers', in one run.

    python bench/run.py                  everything, then docs/benchmarks.md   (about 12 min)
    python bench/run.py http [--only granian,raw] [--measures items,post] [--rounds 7] [--seconds 1.5]
    python bench/run.py postgresql       the same with PostgreSQL and Redis
    python bench/run.py cost             what limits, log, traces and authentication cost, on the typed GET and the one-row read
    python bench/run.py overload [--only "tenfold run"] [--rounds 4]   at 1 to 10 times the peak, and by priority
    python bench/run.py jobs [--only tenfold,pgqueuer] [--rounds 3]
    python bench/run.py relay [--only kafka] [--rounds 3]     to real brokers, beside FastStream
    python bench/run.py eventstore [--rounds 3]               beside the eventsourcing library; a rebuild of a million events
    python bench/run.py lag [--only nats] [--rounds 3]        from publishing to handling, at 500 events a second
    python bench/run.py fleet [--rounds 3]     one to three processes behind NGINX and HAProxy, beside one direct
    python bench/run.py telemetry        what watching costs, all of it and each part, on the same two
    python bench/run.py gateway [--rounds 5]   CPU of a gateway beside the direct request
    python bench/run.py limits | flows         a check of a rate limit; steps of flows beside DBOS
    python bench/run.py pages [--rounds 40]    every page of the dashboard over a million requests and 100,000 jobs
    python bench/run.py sqlite | cache
    python bench/run.py report           docs/benchmarks.md from the last results in bench/out

The peers' programs are taken from ../shared/bench (BENCH_SHARED). Needs wrk, and PostgreSQL for the peers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import environment
import report
from contenders import FIELDS
from figures import Rows
from parts import PARTS, Ask, Part
from servers import Failed

OUT = Path(__file__).parent / "out"


def main() -> int:
    args = _arguments()
    OUT.mkdir(exist_ok=True)
    try:
        for name, part in PARTS.items():
            if args.part in (name, "all"):
                _save(name, _measured(part, args), vars(args))
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    if args.part in ("all", "report"):
        report.write(OUT, environment.ROOT / "docs" / "benchmarks.md")
    return 0


def _measured(part: Part, args: argparse.Namespace) -> Rows:
    rows = part.measure(
        Ask(_listed(args.only), _listed(args.measures), args.rounds, args.seconds, OUT), _progress
    )
    _progress(1, 1, "")
    report.show(part, rows)
    return rows


def _listed(text: str) -> list[str]:
    return [each for each in text.split(",") if each]


def _save(part: str, found: Rows, args: dict[str, Any]) -> None:
    kept = {
        "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "machine": environment.machine(),
        "load": f"{os.getloadavg()[0]:.1f}",
        "versions": environment.versions(),
        "arguments": args,
        "found": found,
    }
    (OUT / f"{part}.json").write_text(json.dumps(kept, indent=1))


def _progress(done: int, of: int, what: str) -> None:
    """One line that replaces itself on a terminal, nothing elsewhere."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{done}/{of} {what}" if what else "\r\x1b[K")
        sys.stderr.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", default="all", choices=["all", *PARTS, "report"])
    parser.add_argument("--only", default="", help="contenders whose name contains one of these")
    measures = ", ".join(m for field in FIELDS.values() for m in field.measures)
    parser.add_argument("--measures", default="", help=measures)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each burst of load")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
