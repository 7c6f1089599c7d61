"""Deadlines: what a header may say, and nearer ends for a part of the work."""

from __future__ import annotations

import asyncio

import pytest

from tenfold._core.clock import ManualClock, SystemClock
from tenfold._core.context import Context, current, use
from tenfold._core.deadlines import TIMEOUT_MAX_MS, deadline, timeout_ms
from tenfold.errors import DeadlineExceeded, StatementTimeout


@pytest.mark.parametrize("text", ["0", "1", "250", "0250", str(TIMEOUT_MAX_MS)])
def test_whole_milliseconds_up_to_a_day_are_a_time(text: str) -> None:
    assert timeout_ms(text) == int(text)


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+5", "1.5", "1e3", "5s", " 5", "٣", "0x10", "NaN", str(TIMEOUT_MAX_MS + 1), "9" * 5000],
)
def test_anything_else_is_refused_with_what_it_must_be(text: str) -> None:
    with pytest.raises(ValueError, match="must be a whole number of milliseconds from 0 to 86400000"):
        timeout_ms(text)


@pytest.mark.anyio
async def test_the_nearest_end_holds_and_the_outer_one_comes_back() -> None:
    clock = ManualClock()
    with use(Context(deadline=5.0, monotonic=clock.monotonic, state={"tx": 1})) as outer:
        async with deadline(3.0) as inner:
            assert inner.deadline == 3.0
            assert inner.state is outer.state
            async with deadline(60.0):
                assert current().deadline == 3.0
        assert current() is outer
        assert outer.deadline == 5.0


@pytest.mark.anyio
@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
async def test_a_block_without_time_is_not_begun(seconds: float) -> None:
    begun = False
    with pytest.raises(DeadlineExceeded, match="not begun"):
        async with deadline(seconds):
            begun = True
    with use(Context(deadline=SystemClock().monotonic() - 1)), pytest.raises(DeadlineExceeded):
        async with deadline(1):
            begun = True
    assert not begun


@pytest.mark.anyio
async def test_what_is_under_way_at_the_end_is_cancelled() -> None:
    cancelled = False
    with pytest.raises(DeadlineExceeded, match=r"within 0\.01 seconds"):
        async with deadline(0.01):
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cancelled = True
                raise
    assert cancelled
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@pytest.mark.anyio
async def test_a_statement_that_ends_with_the_block_is_the_blocks_end() -> None:
    clock = ManualClock()
    with use(Context(monotonic=clock.monotonic)):
        with pytest.raises(DeadlineExceeded):
            async with deadline(60):
                await clock.advance(60)
                raise StatementTimeout("its own timer was first")
        with pytest.raises(StatementTimeout):
            async with deadline(60):
                raise StatementTimeout("statement_timeout_s is shorter")


@pytest.mark.anyio
async def test_other_timeouts_inside_pass_through_as_they_are() -> None:
    with pytest.raises(TimeoutError, match="the socket's"):
        async with deadline(60):
            raise TimeoutError("the socket's")


@pytest.mark.anyio
async def test_what_a_block_has_written_its_outside_is_to_see() -> None:
    with use(Context()) as outer:
        async with deadline(60) as inner:
            inner.causal = "lsn:5"
        assert outer.causal == "lsn:5"
