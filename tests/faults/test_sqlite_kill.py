"""G1: what the embedded database acknowledged survives SIGKILL at any moment, and nothing is half there.

Quick setting: 10 random kills and one at every failpoint. A violation rate below 3/N cannot be seen with N
acknowledgements (a few thousand here); `make soak` runs 300 kills.
"""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest

from support.forked import Forked
from support.trials import Trials, soak
from tenfold._core import failpoints


@dataclass
class Run:
    """One child's life: what it acknowledged and how it ended."""

    acknowledged: list[str] = field(default_factory=list[str])
    code: int = 0
    errors: str = ""


def run_child(
    folder: Path, name: str, *, mode: str = "sound", kill_after_s: float | None = None, points: str = ""
) -> Run:
    child = Forked("faults.sqlite_child", str(folder), name, mode, failpoints=points)
    try:
        if child.stdout.readline() == "ready\n" and kill_after_s is not None:
            time.sleep(kill_after_s)  # the moment of the kill is what is tested
            child.kill()
        lines = child.stdout.read().splitlines(keepends=True)
    finally:
        child.kill()
        code = child.wait()
    return Run([line.strip() for line in lines if line.endswith("\n")], code, child.errors())


@dataclass
class Verdict:
    lost: list[str]
    torn: list[str]
    kept: int


def judge(folder: Path, acknowledged: list[str]) -> Verdict:
    """Compare the file with the acknowledgements, through a connection of its own."""
    conn = apsw.Connection(str(folder / "bank.db"))
    assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    found = conn.execute("SELECT transfer, count(*), sum(amount) FROM entries GROUP BY transfer").fetchall()
    conn.close()
    whole = {transfer for transfer, count, total in found if (count, total) == (2, 0)}
    torn = [transfer for transfer, *_ in found if transfer not in whole]
    return Verdict([t for t in acknowledged if t not in whole and t not in torn], torn, len(whole))


def kill_often(folder: Path, times: int, *, mode: str = "sound", seed: int = 7) -> tuple[Verdict, int]:
    rng, acknowledged = random.Random(seed), list[str]()
    for n in range(times):
        run = run_child(folder, f"run{n}", mode=mode, kill_after_s=rng.uniform(0.0, 0.25))
        assert run.code == -signal.SIGKILL, run.errors
        acknowledged += run.acknowledged
    return judge(folder, acknowledged), len(acknowledged)


def test_nothing_acknowledged_is_lost_and_nothing_is_half_written(tmp_path: Path, trials: Trials) -> None:
    verdict, acknowledged = kill_often(tmp_path, 10)
    assert acknowledged > 500
    assert (verdict.lost, verdict.torn) == ([], [])
    assert verdict.kept >= acknowledged
    trials("G1", acknowledged, "sqlite")


@pytest.mark.parametrize(("mode", "seen"), [("early", "lost"), ("torn", "torn"), ("sound", "")])
def test_the_checker_notices_a_broken_build(tmp_path: Path, mode: str, seen: str) -> None:
    """Acknowledging before the commit, and committing halves, are found by one kill at the right moment."""
    run = run_child(tmp_path, "x", mode=mode, points="db.commit.before=kill@2")
    verdict = judge(tmp_path, run.acknowledged)
    assert (bool(verdict.lost), bool(verdict.torn)) == (seen == "lost", seen == "torn")


@pytest.mark.parametrize("point", [p for p in failpoints.KNOWN if p.startswith("db.")])
def test_killed_at_every_failpoint(tmp_path: Path, point: str) -> None:
    acknowledged: list[str] = []
    for visit in (1, 7):
        run = run_child(tmp_path, f"visit{visit}", points=f"{point}=kill@{visit}")
        assert run.code == -signal.SIGKILL, run.errors
        acknowledged += run.acknowledged
    verdict = judge(tmp_path, acknowledged)
    assert acknowledged
    assert (verdict.lost, verdict.torn) == ([], [])


def test_between_commit_and_acknowledgement_the_change_is_there_though_nobody_was_told(
    tmp_path: Path,
) -> None:
    run = run_child(tmp_path, "x", points="db.commit.after=kill@1")
    verdict = judge(tmp_path, run.acknowledged)
    assert run.acknowledged == []
    assert verdict.kept > 0


def test_killed_before_the_commit_nothing_is_there(tmp_path: Path) -> None:
    run = run_child(tmp_path, "x", points="db.commit.before=kill@1")
    assert run.acknowledged == []
    assert judge(tmp_path, []).kept == 0


@pytest.mark.soak
def test_three_hundred_kills(tmp_path: Path, trials: Trials) -> None:
    verdict, acknowledged = kill_often(tmp_path, soak(300))
    assert (verdict.lost, verdict.torn) == ([], [])
    assert verdict.kept >= acknowledged
    trials("G1", acknowledged, "sqlite")
