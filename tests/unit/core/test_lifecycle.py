"""Parts start in order and stop in reverse; a whole or nothing."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tenfold._core.lifecycle import Lifecycle

pytestmark = pytest.mark.anyio


class Part:
    def __init__(
        self,
        name: str,
        log: list[str],
        *,
        start: BaseException | None = None,
        stop: BaseException | None = None,
    ) -> None:
        self.name, self.log, self._start, self._stop = name, log, start, stop

    async def start(self) -> None:
        if self._start is not None:
            raise self._start
        self.log.append(f"+{self.name}")

    async def stop(self) -> None:
        self.log.append(f"-{self.name}")
        if self._stop is not None:
            raise self._stop


async def test_parts_stop_in_the_reverse_order_of_their_start_once() -> None:
    log: list[str] = []
    life = Lifecycle()
    for name in "abc":
        await life.start(name, Part(name, log))
    await life.stop()
    await life.stop()
    assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]


@pytest.mark.parametrize("error", [OSError("disk"), asyncio.CancelledError()])
async def test_when_one_cannot_start_those_before_it_are_stopped_and_it_is_not(error: BaseException) -> None:
    log: list[str] = []
    life = Lifecycle()
    await life.start("a", Part("a", log))
    await life.start("b", Part("b", log))
    with pytest.raises(type(error)):
        await life.start("c", Part("c", log, start=error))
    assert log == ["+a", "+b", "-b", "-a"]


@pytest.mark.parametrize("error", [OSError("disk"), TimeoutError("of its own")])
async def test_one_that_fails_to_stop_is_logged_and_does_not_keep_the_others_running(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    log: list[str] = []
    life = Lifecycle()
    await life.start("a", Part("a", log))
    await life.start("b", Part("b", log, stop=error))
    await life.stop()
    assert log == ["+a", "+b", "-b", "-a"]
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "b failed to stop")
    assert record.exc_info is not None
    assert record.exc_info[1] is error


async def test_one_that_overruns_is_left_behind_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []

    class Slow(Part):
        async def stop(self) -> None:
            await asyncio.Event().wait()

    life = Lifecycle(stop_timeout_s=0.01)
    await life.start("a", Part("a", log))
    await life.start("slow", Slow("slow", log))
    await life.stop()
    assert log == ["+a", "+slow", "-a"]
    assert [r.getMessage() for r in caplog.records] == ["slow did not stop within 0.01 s and was left behind"]
