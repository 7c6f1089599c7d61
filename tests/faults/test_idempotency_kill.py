"""G5 under SIGKILL: whatever dies when, a key has one effect and one reply.

A child handles keyed operations on a real SQLite file and is killed at the n-th visit of a failpoint; the
next child asks for every key again. At the end an offline checker compares what clients were told with what
the file holds. The same checker must convict a build that stores the reply after the commit.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path

import apsw

from support.forked import Forked

POINTS = ("db.begin.after", "db.commit.before", "db.commit.after", "db.acknowledge.before")
COUNT = 8

Replies = list[tuple[str, str]]


def run(file: Path, first: int, *, failpoint: str = "", broken: bool = False) -> tuple[int, Replies]:
    """One child: its exit status, and the replies that went out before it ended."""
    build = "broken" if broken else "right"
    child = Forked("faults.idempotency_child", str(file), str(first), str(COUNT), build, failpoints=failpoint)
    replies = [tuple(json.loads(line)) for line in child.stdout.read().splitlines()]
    status = child.wait()
    assert status in (0, -signal.SIGKILL), child.errors()
    return status, replies


def violations(file: Path, replies: Replies, keys: set[str]) -> list[str]:
    """What the record of replies and the file's rows say against the guarantee."""
    effects: dict[str, list[str]] = {}
    for number, key in apsw.Connection(str(file)).execute("SELECT id, key FROM effect"):
        effects.setdefault(key, []).append(str(number))
    told: dict[str, set[str]] = {}
    for key, reply in replies:
        told.setdefault(key, set()).add(reply)
    found = [f"{key} has effects {ids}" for key, ids in effects.items() if len(ids) != 1]
    found += [f"{key} was told {sorted(bodies)}" for key, bodies in told.items() if len(bodies) != 1]
    found += [f"{key} was told {told.get(key)}, has {effects.get(key)}" for key in sorted(keys)
              if told.get(key) != set(effects.get(key, ()))]  # fmt: skip
    return found


def test_killed_anywhere_a_key_has_one_effect_and_one_reply(tmp_path: Path) -> None:
    file = tmp_path / "app.db"
    replies: Replies = []
    first = killed = 0
    # Each operation commits twice (claim, effect with reply), four run at a time and share commits.
    for visit in (1, 2, 3, 5):
        for point in POINTS:
            status, told = run(file, first, failpoint=f"{point}=kill@{visit}")
            killed += status == -signal.SIGKILL
            replies += told
            first += COUNT // 2  # half of the keys of this run are new to the next one as well
    status, told = run(file, first)
    assert status == 0
    replies += told
    assert killed >= 12, "the failpoints did not kill; the test proves nothing"
    assert len({key for key, _ in replies}) == first + COUNT
    assert violations(file, replies, {f"key-{n}" for n in range(first + COUNT)}) == []


def test_the_checker_convicts_a_reply_stored_after_the_commit(tmp_path: Path) -> None:
    found: list[str] = []
    for visit in range(2, 6):
        file = tmp_path / f"app-{visit}.db"
        _, before = run(file, 0, failpoint=f"db.commit.after=kill@{visit}", broken=True)
        _, after = run(file, 0, broken=True)
        found += violations(file, before + after, {f"key-{n}" for n in range(COUNT)})
        if found:
            break
    assert any("has effects" in violation for violation in found)
