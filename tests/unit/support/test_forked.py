"""Forked children are started, told from one another and ended as other processes are."""

from __future__ import annotations

import signal
import subprocess

import pytest

from support.forked import Forked
from support.process import Process

CHILD = "unit.support.forked_child"


@pytest.mark.parametrize(("what", "status"), [("ends", 0), ("fails", 1), ("exits", 3), ("visits", -9)])
def test_a_child_says_how_it_ended(what: str, status: int) -> None:
    child = Forked(CHILD, what, failpoints="flow.asleep=kill", env={"FORKED": "here"})
    assert child.stdout.read() == f"{what} here True\n"
    assert (child.wait(), child.poll()) == (status, status)
    assert ("ValueError: on purpose" in child.errors()) == (what == "fails")


def test_a_child_runs_until_it_is_killed() -> None:
    child, other = Forked(CHILD, "stays"), Forked(CHILD, "ends")
    assert other.wait() == 0
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.01)
    child.send_signal(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM
    child.kill()  # it is gone, and its number may be another's


def test_what_cannot_be_imported_is_said() -> None:
    with pytest.raises(RuntimeError, match="No module named 'nothing_of_this_name'"):
        Forked("nothing_of_this_name")


def test_a_command_line_runs_in_a_child() -> None:
    with Process(["run", "support.grow_app:nothing"], forked="support.grow_app") as process:
        assert process.wait() == 2
    assert "nothing" in process.output
    assert "Traceback" not in process.output
