"""Which step comes next is a function of what source and target say."""

from __future__ import annotations

import itertools

import pytest

from tenfold.db.moved import Mark
from tenfold.errors import ConfigError
from tenfold.grow.steps import SourceState, Step, TargetState, next_step

URL = "postgresql://shop@db/shop"
OPEN, MOVED = Mark("m", URL, None), Mark("m", URL, 1.0)


def after(step: Step, source: SourceState, target: TargetState) -> tuple[SourceState, TargetState, bool]:
    """The states once ``step`` was taken."""
    mark = source.mark
    match step:
        case Step.CLAIM:
            return SourceState(mark or OPEN, source.captured), TargetState(claim="m"), False
        case Step.CAPTURE:
            return SourceState(mark, True), target, False
        case Step.MAKE:
            return source, TargetState("m", ("orders",), True), False
        case Step.COPY:
            return source, TargetState("m", ("orders",), True, True), False
        case Step.VERIFY:
            return source, target, True
        case Step.CUT:
            return SourceState(MOVED, False), target, True
        case _:
            return source, TargetState(None, ("orders",)), False


def walk(source: SourceState, target: TargetState, *, forget_at: int = -1) -> list[Step]:
    """Steps to the end; after step number ``forget_at`` the command is killed and started again."""
    taken: list[Step] = []
    verified = False
    for number in itertools.count():
        step = next_step(source, target, url=URL, verified=verified)
        if step is Step.DONE:
            return taken
        assert number < 20, taken
        source, target, verified = after(step, source, target)
        taken.append(step)
        if number == forget_at:
            verified = False
    raise AssertionError


ALL = [Step.CLAIM, Step.CAPTURE, Step.MAKE, Step.COPY, Step.VERIFY, Step.CUT, Step.SETTLE]


def test_a_move_takes_every_step_in_order() -> None:
    assert walk(SourceState(), TargetState()) == ALL


@pytest.mark.parametrize("killed_after", range(len(ALL)))
def test_a_command_killed_after_any_step_gets_to_the_end(killed_after: int) -> None:
    """Only the comparison is repeated: what was seen is not remembered."""
    taken = walk(SourceState(), TargetState(), forget_at=killed_after)
    assert [step for step in taken if step is not Step.VERIFY] == [s for s in ALL if s is not Step.VERIFY]
    assert taken.count(Step.VERIFY) == (2 if ALL[killed_after] is Step.VERIFY else 1)


def test_a_claim_that_reached_only_the_source_is_made_again() -> None:
    assert next_step(SourceState(OPEN), TargetState(), url=URL) is Step.CLAIM


def test_a_database_that_has_moved_is_done_once_its_target_has_settled() -> None:
    assert next_step(SourceState(MOVED), TargetState("m"), url=URL) is Step.SETTLE
    assert next_step(SourceState(MOVED), TargetState(None, ("orders",)), url=URL) is Step.DONE


@pytest.mark.parametrize(
    ("source", "target", "url", "said"),
    [
        (
            SourceState(),
            TargetState(None, ("a", "b", "c", "d", "e", "f")),
            URL,
            "not empty: it has a, b, c, d, e, …",
        ),
        (SourceState(OPEN), TargetState(None, ("a",)), URL, "not empty"),
        (SourceState(), TargetState("other"), URL, "belongs to another move"),
        (SourceState(OPEN), TargetState("other"), URL, "belongs to another move"),
        (SourceState(OPEN), TargetState(), "postgresql://elsewhere", "is being moved to"),
        (SourceState(MOVED), TargetState(), "postgresql://elsewhere", "has moved to"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    source: SourceState, target: TargetState, url: str, said: str
) -> None:
    with pytest.raises(ConfigError, match="--to: .*" + said.replace("…", ".")):
        next_step(source, target, url=url)
