"""Many seeds, in several processes, going on where the last run ended.

``python -m support.simulation.campaign [COUNT] [--processes N] [--kept FILE]`` plays COUNT (100,000) seeds and prints how far it
is every ten seconds; it ends with 1 when one of them broke a promise. ``make soak`` does the same.

A seed is the same history whenever the same code plays it, so what was played is kept, by a fingerprint of code and
libraries, and not played again.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

import apsw
import msgspec
import pytest
import sqlalchemy as sa

import tenfold
from support.brokers import CACHE
from support.simulation import Report, simulate
from support.simulation.loop import without_threads

FIRST, COUNT = 10_000, 100_000
PIECE = 50
"""Seeds that a process plays at a time; what a run that was ended loses."""
SAY_EVERY_S = 10.0
KEPT = CACHE / "simulated-seeds.jsonl"


class Piece(msgspec.Struct):
    """Seeds that were played."""

    code: str
    first: int
    count: int
    broken: list[str]
    """The stories of those that broke a promise."""


class Campaign:
    """The seeds from ``FIRST`` on; ``kept`` is the file of what was played."""

    def __init__(self, count: int, kept: Path = KEPT) -> None:
        self.count, self._kept, self._code = count, kept, fingerprint()
        self._pieces = {piece.first: piece for piece in self._known() if piece.code == self._code}
        self._before = self.played

    @property
    def played(self) -> int:
        """Of the wanted seeds, by this code, now or earlier."""
        return sum(min(piece.count, FIRST + self.count - piece.first) for piece in self._wanted())

    @property
    def broken(self) -> list[str]:
        """What went wrong in them."""
        return [story for piece in self._wanted() for story in piece.broken]

    def run(self, processes: int, say: Callable[[str], None]) -> None:
        """Play what has not been played. It may be ended at any time."""
        begun = said = time.monotonic()
        left = self._left()
        with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_prepare) as pool:
            under_way: set[Future[Piece]] = set()
            while left or under_way:
                while left and len(under_way) < 2 * processes:
                    under_way.add(pool.submit(play, self._code, *left.pop()))
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    self._keep(future.result())
                if time.monotonic() - said >= SAY_EVERY_S or not under_way:
                    said = time.monotonic()
                    say(self.line(said - begun))

    def line(self, seconds: float) -> str:
        """How far it is."""
        rate = (self.played - self._before) / max(seconds, 1e-3)
        left_s = (self.count - self.played) / rate if rate else 0.0
        return (
            f"{self.played:,} of {self.count:,} seeds, {rate:.1f} a second, {left_s / 60:.0f} min left, "
            f"{len(self.broken)} broke a promise"
        )

    def _wanted(self) -> Iterator[Piece]:
        return (piece for first, piece in self._pieces.items() if first < FIRST + self.count)

    def _left(self) -> list[tuple[int, int]]:
        """First seed and number of each piece to play, the last one first."""
        end = FIRST + self.count
        pieces = [(first, min(PIECE, end - first)) for first in range(FIRST, end, PIECE)]
        known = {piece.first: piece.count for piece in self._wanted()}
        return [(first, count) for first, count in reversed(pieces) if known.get(first, 0) < count]

    def _known(self) -> list[Piece]:
        if not self._kept.exists():
            return []
        lines = self._kept.read_bytes().splitlines(keepends=True)
        # A run that was killed may have left half a line.
        return [msgspec.json.decode(line, type=Piece) for line in lines if line.endswith(b"\n")]

    def _keep(self, piece: Piece) -> None:
        self._pieces[piece.first] = piece
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        with self._kept.open("ab") as file:
            file.write(msgspec.json.encode(piece) + b"\n")


def told(report: Report) -> str:
    """The story of a seed that broke a promise."""
    lines = "\n  ".join([*report.violations[:10], "what happened to it:", *report.history])
    return f"seed {report.seed} (play it again: pytest tests/simulation --seed {report.seed}):\n  {lines}"


def play(code: str, first: int, count: int) -> Piece:
    """In a process of the campaign's."""
    shared = Path("/dev/shm")
    folder = shared if os.access(shared, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="tenfold-simulation-", dir=folder) as place:
        reports = [simulate(seed, Path(place)) for seed in range(first, first + count)]
    return Piece(code, first, count, [told(report) for report in reports if report.violations])


def fingerprint() -> str:
    """Of everything that a history depends on."""
    digest = hashlib.blake2b(digest_size=12)
    versions = (platform.python_version(), apsw.sqlite_lib_version(), sa.__version__, msgspec.__version__)
    digest.update(repr(versions).encode())
    for root in (Path(tenfold.__file__).parent, Path(__file__).parent):
        for path in sorted(root.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _prepare() -> None:
    logging.disable(logging.CRITICAL)
    without_threads(pytest.MonkeyPatch())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=COUNT)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--kept", type=Path, default=KEPT)
    args = parser.parse_args()
    campaign = Campaign(args.count, args.kept)
    campaign.run(args.processes, lambda line: print(line, flush=True))
    print(*campaign.broken, sep="\n")
    return 1 if campaign.broken else 0


if __name__ == "__main__":
    sys.exit(main())
