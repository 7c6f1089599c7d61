"""Ending tasks: also those that lose a cancellation on the way."""

from __future__ import annotations

import asyncio

import pytest

from tenfold._core import tasks as module
from tenfold._core.tasks import end_tasks

pytestmark = pytest.mark.anyio


async def test_a_task_is_over_when_it_was_ended() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    await end_tasks(task, None)
    assert task.cancelled()


async def test_what_ended_by_an_error_is_silent() -> None:
    async def fails() -> None:
        raise ValueError("seen by nobody")

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await end_tasks(task)
    assert isinstance(task.exception(), ValueError)


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    swallowed = 0

    async def goes_on() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:  # as a client does that has its answer in this moment
                swallowed += 1
                if swallowed == 3:
                    raise

    task = asyncio.create_task(goes_on())
    await asyncio.sleep(0)
    await end_tasks(task)
    assert task.cancelled()
    assert swallowed == 3


async def test_a_task_that_cleans_up_is_let_do_so() -> None:
    cleaned = False

    async def cleans_up() -> None:
        nonlocal cleaned
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            cleaned = True

    task = asyncio.create_task(cleans_up())
    await asyncio.sleep(0)
    await end_tasks(task)
    assert cleaned
