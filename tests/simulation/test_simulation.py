"""Fleets under seeds: whatever breaks, nothing is lost, effects happen once, keys keep their order, ticks fire once.

``pytest tests/simulation --seed 114`` plays one seed again, exactly. A seed that found a fault stays in SEEDS.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from support.simulation import Report, simulate
from support.simulation.broken import BROKEN, SOUND, Breaks
from support.simulation.campaign import COUNT, FIRST, PIECE, Campaign, Piece, fingerprint, told
from support.simulation.loop import without_threads
from support.trials import Trials, soak

SEEDS = {
    8: "retries and leases were as long as a clock was wrong",
    14: "a consumer that paused held events back while the next one went on",
    41: "a tick that failed under a wrong clock came back five minutes late",
    114: "claims of a clock that had just jumped were leased for minutes",
    132: "a retry was due on the worker's clock, and woken by the fleet's",
    10690: "an event in quarantine was delivered again, and took effect behind what followed it",
    11217: "a new process claimed by its own clock, minutes ahead, before it had asked for the fleet's",
    78457: "what a sender put in line whose clock was minutes ahead was delayed by them when its turn came",
}
"""What each of these has shown once; they are always played."""
QUICK = range(1_000, 1_060)
BROKEN_SEEDS = range(40)
"""A broken fleet has to be found out within these."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where databases are made: in memory where there is a file system of that kind, since nothing has to last."""
    without_threads(monkeypatch)
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="tenfold-simulation-", dir=shared) as place:
        yield Path(place)


def play(seeds: Iterable[int], folder: Path, breaks: Breaks = SOUND) -> list[Report]:
    """The first report of a fleet that broke a promise, if there is one."""
    for seed in seeds:
        report = simulate(seed, folder, breaks)
        if report.violations:
            return [report]
    return []


@pytest.mark.parametrize("part", range(4))
def test_no_seed_breaks_a_promise(part: int, folder: Path, only_seed: int | None, trials: Trials) -> None:
    """In parts, so that they run side by side."""
    seeds = [*SEEDS, *QUICK][part::4] if only_seed is None else [only_seed][part:]
    for report in play(seeds, folder):
        pytest.fail(told(report))
    for guarantee in ("G1", "G4", "G6", "G7", "G8", "G9"):
        trials(guarantee, len(seeds), "simulated")


@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.name)
def test_a_broken_fleet_is_found_out(breaks: Breaks, folder: Path) -> None:
    assert play(BROKEN_SEEDS, folder, breaks), f"{breaks.name}: nobody noticed in {len(BROKEN_SEEDS)} seeds"


def test_a_seed_is_the_same_history_in_any_process(folder: Path) -> None:
    """Whatever the order of sets of text, which differs from process to process, and whatever was played before."""
    code = (
        "import tempfile, pathlib, logging; logging.disable(50)\n"
        "import pytest\n"
        "from support.simulation import simulate\n"
        "from support.simulation.loop import without_threads\n"
        "without_threads(pytest.MonkeyPatch())\n"
        "print(*(simulate(s, pathlib.Path(tempfile.mkdtemp())).digest for s in (3, 5)))"
    )
    answers = set()
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        answers.add(ran.stdout)
    fifth, third = (simulate(seed, folder).digest for seed in (5, 3))
    answers.add(f"{third} {fifth}\n")
    assert len(answers) == 1, answers


def test_what_was_played_is_not_played_again(tmp_path: Path) -> None:
    """By the same code; of a run that was killed, what it had finished counts."""
    kept, code = tmp_path / "kept", fingerprint()
    pieces = [Piece(code, FIRST, PIECE, ["seed 10007"]), Piece("other", FIRST + PIECE, PIECE, [])]
    whole = b"".join(msgspec.json.encode(piece) + b"\n" for piece in pieces)
    kept.write_bytes(whole + msgspec.json.encode(Piece(code, FIRST + PIECE, PIECE, []))[:-9])
    campaign = Campaign(3 * PIECE - 10, kept)
    assert (campaign.played, campaign.broken) == (PIECE, ["seed 10007"])
    assert campaign._left() == [(FIRST + 2 * PIECE, PIECE - 10), (FIRST + PIECE, PIECE)]


@pytest.mark.soak
def test_no_seed_of_a_hundred_thousand_breaks_a_promise(
    trials: Trials, progress: Callable[[str], None]
) -> None:
    """Some hours on two cores; what an earlier run of the same code has played is not played again."""
    campaign = Campaign(soak(COUNT))
    campaign.run(os.cpu_count() or 1, progress)
    assert not campaign.broken, "\n".join(campaign.broken)
    for guarantee in ("G1", "G4", "G6", "G7", "G8", "G9"):
        trials(guarantee, campaign.played, "simulated")
