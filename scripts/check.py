"""Runs the checks that need no test: style, types, layers. At the same time, with one readable line each.

    python scripts/check.py [lint] [types]

Prints a tool's output only when it failed. Exit status 1 when any did.
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


class Check(NamedTuple):
    """One tool: what it stands for, and its command below the virtual environment's bin."""

    title: str
    command: tuple[str, ...]


CHECKS = {
    "lint": (
        Check("style (ruff check)", ("ruff", "check", ".")),
        Check("format (ruff format)", ("ruff", "format", "--check", ".")),
        Check("layers (import-linter)", ("lint-imports", "--no-logo", "--no-cache")),
    ),
    "types": (
        Check("types (mypy --strict)", ("mypy",)),
        Check("types (pyright strict)", ("pyright",)),
    ),
}


def run(check: Check) -> tuple[Check, int, str, float]:
    """Run one tool to its end."""
    start = time.monotonic()
    program, *arguments = check.command
    done = subprocess.run(  # noqa: S603 - the commands above
        [BIN / program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return check, done.returncode, done.stdout + done.stderr, time.monotonic() - start


def main(kinds: list[str]) -> int:
    """Run the chosen kinds (default: all), at most two at a time; the number of failed tools."""
    unknown = set(kinds) - set(CHECKS)
    if unknown:
        print(f"check: no such kind: {', '.join(unknown)}. There are: {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    checks = [check for kind in kinds or CHECKS for check in CHECKS[kind]]
    failed: list[tuple[Check, str]] = []
    with ThreadPoolExecutor(2) as pool:
        for future in as_completed([pool.submit(run, check) for check in checks]):
            check, status, output, took_s = future.result()
            print(f"  {'✗' if status else '✓'} {check.title:<26} {took_s:6.1f} s", flush=True)
            if status:
                failed.append((check, output))
    for check, output in failed:
        print(f"\n── {check.title}: {' '.join(check.command)}\n{output.rstrip()}")
    return min(len(failed), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
