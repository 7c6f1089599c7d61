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

import embedded
import environment
import eventstore_rounds
import fleet_rounds
import http_rounds
import job_rounds
import lag_rounds
import overload_rounds
import page_rounds
import relay_rounds
import report
from contenders import FIELDS
from servers import Failed

OUT = Path(__file__).parent / "out"
PARTS = (
    "http", "postgresql", "cost", "fleet", "overload", "jobs", "relay", "lag", "eventstore", "sqlite", "cache", "pages",
)  # fmt: skip


def main() -> int:
    args = _arguments()
    OUT.mkdir(exist_ok=True)
    try:
        for part in PARTS:
            if args.part in (part, "all"):
                _save(part, _measured(part, args), vars(args))
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    if args.part in ("all", "report"):
        report.write(OUT, environment.ROOT / "docs" / "benchmarks.md")
    return 0


def _measured(part: str, args: argparse.Namespace) -> Any:
    if part in FIELDS:
        field = FIELDS[part]
        measures = args.measures.split(",") if args.measures else list(field.measures)
        only = [name for name in args.only.split(",") if name]
        rows = http_rounds.measure(field, only, measures, args.rounds, args.seconds, OUT, _progress)
        _progress(1, 1, "")
        report.show_http(part, rows)
        return rows
    if part == "overload":
        only = [name for name in args.only.split(",") if name]
        rows = overload_rounds.measure(only, args.rounds, OUT, _progress)
        _progress(1, 1, "")
        report.show_overload(rows)
        return rows
    if part == "fleet":
        rows = fleet_rounds.measure(args.rounds, OUT, _progress)
        _progress(1, 1, "")
        report.show_fleet(rows)
        return rows
    if part == "jobs":
        only = [name for name in args.only.split(",") if name]
        rows = job_rounds.measure(only, args.rounds, _progress)
        _progress(1, 1, "")
        report.show_jobs(rows)
        return rows
    if part == "eventstore":
        rows = eventstore_rounds.measure(args.rounds, _progress)
        _progress(1, 1, "")
        report.show_eventstore(rows)
        return rows
    if part == "lag":
        only = [name for name in args.only.split(",") if name]
        rows = lag_rounds.measure(only, args.rounds, _progress)
        _progress(1, 1, "")
        report.show_lag(rows)
        return rows
    if part == "relay":
        only = [name for name in args.only.split(",") if name]
        rows = relay_rounds.measure(only, args.rounds, _progress)
        _progress(1, 1, "")
        report.show_relay(rows)
        return rows
    if part == "pages":
        rows = page_rounds.measure(args.rounds, OUT, _progress)
        _progress(1, 1, "")
        report.show_pages(rows)
        return rows
    found = embedded.sqlite(args.rounds) if part == "sqlite" else embedded.cache(environment.SHARED)
    report.show_embedded(part, found)
    return found


def _save(part: str, found: Any, args: dict[str, Any]) -> None:
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
    parser.add_argument(
        "--measures", default="", help=", ".join(m for field in FIELDS.values() for m in field.measures)
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each burst of load")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
