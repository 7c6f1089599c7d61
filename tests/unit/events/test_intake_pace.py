"""How often an intake asks its broker: what it has waited for events counts as rest."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tenfold._core.clock import ManualClock
from tenfold._core.sections import EventsSettings
from tenfold.events.contract import Feed
from tenfold.events.intake import PACE_S, Intake

pytestmark = pytest.mark.anyio

SETTINGS = EventsSettings()


class Turns(Intake):
    """Each turn takes ``lasts_s`` and brings ``events``; notes when it began."""

    def __init__(self, clock: ManualClock, lasts_s: float, events: int) -> None:
        broker = SimpleNamespace(capabilities=SimpleNamespace(keyed_consumers=True), returns=0)
        super().__init__(Feed("s.on", "s.made"), None, None, broker, None, SETTINGS, clock, None)  # type: ignore[arg-type]
        self._lasts_s, self._events = lasts_s, events
        self.began: list[float] = []

    async def turn(self, wait_s: float = 0.0) -> int:
        self.began.append(self._clock.monotonic())
        await self._clock.sleep(self._lasts_s)
        return self._events


@pytest.mark.parametrize(
    ("lasts_s", "events", "apart_s"),
    [
        (0.4 * PACE_S, 3, PACE_S),
        (2.0 * PACE_S, 3, 2.0 * PACE_S),
        (0.4 * PACE_S, SETTINGS.batch, 0.4 * PACE_S),
    ],
    ids=["a quick turn rests", "who has waited does not", "nor does a backlog"],
)
async def test_turns_begin_apart(lasts_s: float, events: int, apart_s: float) -> None:
    clock = ManualClock()
    intake = Turns(clock, lasts_s, events)
    work: Any = asyncio.ensure_future(intake._run())
    for _ in range(500):
        await clock.advance(PACE_S / 50)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    gaps = [later - earlier for earlier, later in zip(intake.began, intake.began[1:], strict=False)]
    assert len(gaps) >= 4
    assert gaps == pytest.approx([apart_s] * len(gaps), abs=PACE_S / 10)
