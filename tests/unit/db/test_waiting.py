"""Waiting that outlasts cancellations, and one timer for the statements of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tenfold.db.backends._postgresql_line import Limit
from tenfold.db.backends._waiting import Outlasting, Through

pytestmark = pytest.mark.anyio

KINDS = pytest.mark.parametrize("kind", [Outlasting, Through])


async def outcome_of(kind: type[Outlasting[Any]], end: Callable[[asyncio.Future[str]], object]) -> list[Any]:
    """What a task got that is cancelled three times while it waits for a future, which then ends like that."""
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    got: list[Any] = []

    async def work() -> str:
        await asyncio.sleep(0)
        return await future

    async def wait() -> None:
        outlasting = kind(work())
        try:
            got.append(await outlasting)
        except BaseException as error:
            got.append(type(error))
        got.append(outlasting.cancelled)

    task = asyncio.create_task(wait())
    for _ in range(3):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert got == []
    end(future)
    await task
    return got


@KINDS
async def test_it_ends_as_what_it_waits_for(kind: type[Outlasting[Any]]) -> None:
    assert await outcome_of(kind, lambda future: future.set_result("done")) == ["done", True]
    failure = KeyError("gone")
    assert await outcome_of(kind, lambda future: future.set_exception(failure)) == [KeyError, True]


@KINDS
async def test_what_calls_itself_off_is_not_mistaken_for_a_cancellation(
    kind: type[Outlasting[Any]],
) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        try:
            await future
        except asyncio.CancelledError:
            return "called off"
        return "done"

    outlasting = kind(work())
    asyncio.get_running_loop().call_soon(future.cancel)
    assert await outlasting == "called off"
    assert not outlasting.cancelled


@KINDS
async def test_without_a_cancellation_there_was_none(kind: type[Outlasting[Any]]) -> None:
    async def work() -> int:
        await asyncio.sleep(0.001)
        return 7

    outlasting = kind(work())
    assert (await outlasting, outlasting.cancelled) == (7, False)


@KINDS
async def test_a_cancellation_that_came_before_it_is_outlasted_too(kind: type[Outlasting[Any]]) -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    async def wait() -> tuple[int, bool]:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        outlasting = kind(work())
        return await outlasting, outlasting.cancelled

    assert await asyncio.create_task(wait()) == (7, True)


class Loop:
    """A clock that is moved, and the timers that were set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.set = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object]) -> Any:
        timer = (when, callback)
        self.timers.append(timer)
        self.set += 1
        return type("Timer", (), {"cancel": lambda _: self.timers.remove(timer)})()

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Any:
        return self.call_at(self.now + delay, lambda: callback(*args))

    def until(self, moment: float) -> None:
        while self.timers and (first := min(self.timers, key=lambda timer: timer[0]))[0] <= moment:
            self.timers.remove(first)
            self.now = first[0]
            first[1]()
        self.now = moment


def test_one_timer_serves_every_statement_and_rings_for_the_one_that_is_late() -> None:
    loop: Any = Loop()
    limit, late = Limit(loop), list[str]()
    for _ in range(100):
        limit.call_later(30, late.append, "on time").cancel()
        loop.until(loop.now + 0.01)
    assert loop.set == 1
    limit.call_later(30, late.append, "late")
    loop.until(30.99)
    assert late == []
    loop.until(31.0)
    assert late == ["late"]
    loop.until(100)
    assert late == ["late"]
    assert loop.timers == []


def test_an_earlier_deadline_moves_the_timer_forward() -> None:
    loop: Any = Loop()
    limit, late = Limit(loop), list[str]()
    limit.call_later(30, late.append, "first").cancel()
    limit.call_later(1, late.append, "second")
    assert len(loop.timers) == 1
    loop.until(1)
    assert late == ["second"]


def test_a_second_call_at_the_same_time_has_a_timer_of_its_own() -> None:
    loop: Any = Loop()
    limit, late = Limit(loop), list[str]()
    limit.call_later(2, late.append, "statement")
    limit.call_later(1, late.append, "other")
    loop.until(2)
    assert late == ["other", "statement"]
