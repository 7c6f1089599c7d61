#!/usr/bin/env python3
"""Puts the brokers that Debian has no package for into the tests' cache folder; does nothing for those that are there.

    scripts/brokers.py          Apache Kafka (43 MB from Maven Central) and moto (from PyPI, a stand-in for SQS)
    scripts/brokers.py kafka    only the one that is named

Kafka's files are those that the POM of kafka_2.13 resolves to; `kafka.sha256` beside this file lists them, and each is
held against its checksum. Running it needs Java 17 or newer. moto gets a virtual environment of its own, since it and
the client for SQS (aiobotocore) pin botocore apart. TENFOLD_TESTS_CACHE names another folder than
~/.cache/tenfold-tests, TENFOLD_MAVEN another mirror of Maven Central.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

KAFKA = "4.1.2"
MOTO = "5.2.5"
CACHE = Path(os.environ.get("TENFOLD_TESTS_CACHE") or Path.home() / ".cache" / "tenfold-tests")
MAVEN = os.environ.get("TENFOLD_MAVEN", "https://repo1.maven.org/maven2").rstrip("/")
SUMS = Path(__file__).with_name("kafka.sha256")
TRIES = 4
TIMEOUT_S = 60


def say(line: str, *, passing: bool = False) -> None:
    """A line of progress; a passing one is overwritten by the next, and left out where nobody watches."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K  \x1b[2m·\x1b[0m {line}", end="" if passing else "\n", flush=True)
    elif not passing:
        print(f"  · {line}", flush=True)


def fetch(path: str) -> bytes:
    """One file of Maven Central, tried again when the connection breaks."""
    for attempt in range(1, TRIES + 1):
        try:
            with urllib.request.urlopen(f"{MAVEN}/{path}", timeout=TIMEOUT_S) as answer:  # noqa: S310 (https, pinned)
                body: bytes = answer.read()
                return body
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            if attempt == TRIES:
                raise SystemExit(f"brokers.py: {MAVEN}/{path} could not be downloaded: {error}") from error
            time.sleep(attempt)
    raise AssertionError("unreachable")


def download(path: str, digest: str, folder: Path) -> None:
    """One jar. It gets its name when it is whole and what was expected."""
    target = folder / path.rpartition("/")[2]
    if target.exists() and hashlib.sha256(target.read_bytes()).hexdigest() == digest:
        return
    body = fetch(path)
    found = hashlib.sha256(body).hexdigest()
    if found != digest:
        raise SystemExit(
            f"brokers.py: {MAVEN}/{path} is not the file that was pinned: its SHA-256 is {found}."
        )
    partial = target.with_suffix(f".{os.getpid()}")
    partial.write_bytes(body)
    partial.replace(target)


def kafka() -> None:
    """Kafka's jars, flat in one folder."""
    folder = CACHE / f"kafka-{KAFKA}"
    complete, sums = folder / "complete", SUMS.read_text()
    if complete.exists() and complete.read_text() == sums:
        return
    folder.mkdir(parents=True, exist_ok=True)
    lines = [line.split() for line in sums.splitlines()]
    say(f"downloading Kafka {KAFKA} to {folder}")
    with ThreadPoolExecutor(4) as pool:
        under_way = [pool.submit(download, path, digest, folder) for digest, path in lines]
        for number, one in enumerate(under_way, 1):
            one.result()
            say(f"{number} of {len(lines)} files", passing=True)
    complete.write_text(sums)
    say(f"Kafka {KAFKA} is there")


def moto() -> None:
    """moto's server in its own environment."""
    folder = CACHE / f"moto-{MOTO}"
    if (folder / "complete").exists():
        return
    say(f"installing moto {MOTO}, which stands in for SQS, to {folder}")
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(  # noqa: S603 - the command above
        [*pip, "install", f"moto[server]=={MOTO}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"brokers.py: moto could not be installed:\n{done.stderr[-2000:]}")
    (folder / "complete").touch()
    say(f"moto {MOTO} is there")


ALL = {"kafka": kafka, "moto": moto}


def main() -> None:
    names = sys.argv[1:] or list(ALL)
    if unknown := [name for name in names if name not in ALL]:
        raise SystemExit(f"brokers.py: {unknown[0]} is not one of {', '.join(ALL)}.")
    for name in names:
        ALL[name]()


if __name__ == "__main__":
    main()
