"""How often the event loop is probed, driven by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tenfold._core.clock import ManualClock
from tenfold.guard.probe import BUSY_S, IDLE_S, REST_S, LoopProbe


class Gate:
    """What a probe asks of admission."""

    def __init__(self) -> None:
        self.in_flight = self.admitted = 0
        self.waits = list[float]()

    def observe(self, now: float, wait_s: float) -> None:
        self.waits.append(wait_s)


class Loop:
    """Takes one timer, and what is to be called soon."""

    def __init__(self) -> None:
        self.pauses = list[float]()
        self._next: Callable[[], object] | None = None

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Any:
        self.pauses.append(seconds)
        return self.call_soon(callback)

    def call_soon(self, callback: Callable[[], object]) -> Any:
        self._next = callback
        return SimpleNamespace(cancel=self._forget)

    def turn(self) -> None:
        """What was called for last."""
        callback, self._next = self._next, None
        if callback is not None:
            callback()

    def _forget(self) -> None:
        self._next = None


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    made = Loop()
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "get_running_loop", lambda: made)
        yield made


def started(gate: Gate) -> LoopProbe:
    probe = LoopProbe(cast("Any", gate), ManualClock())
    probe.start()
    return probe


def probe_once(loop: Loop) -> float:
    """One probe; answers when the next is to come."""
    loop.turn()  # the timer comes due
    loop.turn()  # and the probe has stood in line
    return loop.pauses[-1]


def test_a_process_that_rests_is_woken_less_often_than_one_that_works(loop: Loop) -> None:
    gate = Gate()
    started(gate)
    assert probe_once(loop) == REST_S
    gate.admitted = 5  # some came, and went, since the last probe
    assert probe_once(loop) == IDLE_S
    assert probe_once(loop) == REST_S
    gate.in_flight, gate.admitted = 1, 6
    assert [probe_once(loop), probe_once(loop)] == [BUSY_S, BUSY_S]
    gate.in_flight = 0
    assert probe_once(loop) == REST_S
    assert gate.waits == [0.0] * 6


def test_no_probe_comes_after_the_end(loop: Loop) -> None:
    gate = Gate()
    probe = started(gate)
    probe_once(loop)
    loop.turn()
    probe.stop()
    loop.turn()
    assert len(gate.waits) == 1
