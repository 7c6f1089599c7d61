#!/usr/bin/env python3
"""Builds OpenTelemetry's Collector into the tests' cache folder; does nothing when it is there.

    scripts/collector.py

Neither Debian nor a package registry has a binary of it, so it is built of its own modules from Go's module proxy, with the
OTLP receiver and the exporter that writes what came (scripts/collector/main.go; go.sum pins every module). It needs Go 1.25
or newer. TENFOLD_TESTS_CACHE names another folder than ~/.cache/tenfold-tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

VERSION = "0.154.0"
CACHE = Path(os.environ.get("TENFOLD_TESTS_CACHE") or Path.home() / ".cache" / "tenfold-tests")
SOURCE = Path(__file__).with_name("collector")


def main() -> None:
    folder = CACHE / f"otelcol-{VERSION}"
    if (folder / "otelcol").exists():
        return
    go = shutil.which("go")
    if go is None:
        raise SystemExit("collector.py: there is no Go: the test with OpenTelemetry's Collector is left out.")
    print(f"  · building OpenTelemetry's Collector {VERSION} to {folder} (once, some minutes)", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"otelcol.{os.getpid()}"
    words = [go, "build", "-trimpath", "-ldflags", "-s -w", "-o", str(made), "."]
    done = subprocess.run(words, cwd=SOURCE, capture_output=True, text=True, check=False)  # noqa: S603 - the command above
    if done.returncode:
        raise SystemExit(f"collector.py: the Collector could not be built:\n{done.stderr[-2000:]}")
    made.replace(folder / "otelcol")


if __name__ == "__main__":
    main()
