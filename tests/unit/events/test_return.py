"""A broker that is back is found by whoever tries first, and by nobody else half a minute later."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tenfold._core.clock import ManualClock
from tenfold._core.sections import EventsSettings
from tenfold.errors import BrokerUnavailable
from tenfold.events.contract import LOOK_S, Feed
from tenfold.events.intake import Intake
from tenfold.events.relay import Relay

pytestmark = pytest.mark.anyio

LATE_S = 30.0
SETTINGS = EventsSettings(retry_max_s=LATE_S)


class Away:
    """A broker that is away and counts how often it was tried."""

    capabilities = SimpleNamespace(keyed_consumers=True)
    returns = tried = 0

    async def declare(self, topics: Any, feeds: Any) -> None:
        self.tried += 1
        raise BrokerUnavailable("it is away")


class Full:
    """An outbox with one event."""

    leads = False

    async def unsent(self, *_: Any) -> list[Any]:
        return [SimpleNamespace(id=1, topic="s.made", key=None)]


class Last:
    """The longest pause there may be."""

    @staticmethod
    def uniform(_: float, high: float) -> float:
        return high


async def attempts(clock: ManualClock, broker: Away, work: Any, *, found_back: bool) -> int:
    """How often ``work`` tries the broker within half of the longest pause, when another part of the process finds it
    back meanwhile."""
    task = asyncio.ensure_future(work)
    for n in range(int(LATE_S / 2 / LOOK_S)):
        await clock.advance(LOOK_S)
        broker.returns += found_back and n == 8
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return broker.tried


def parts(clock: ManualClock, broker: Away) -> dict[str, Any]:
    given: Any = broker
    declared: Any = SimpleNamespace(topics=["s.made"], feeds=[])
    relay = Relay(Full(), given, declared, SETTINGS, clock, None, app="a")  # type: ignore[arg-type]
    intake = Intake(Feed("s.on", "s.made"), None, None, given, declared, SETTINGS, clock, None)  # type: ignore[arg-type]
    for part in (relay, intake):
        part._away.random = Last()  # type: ignore[assignment]
        part._away.count = 12
    return {"relay": relay._lead, "intake": intake._take_in}


@pytest.mark.parametrize("part", ["relay", "intake"])
@pytest.mark.parametrize("found_back", [False, True])
async def test_a_pause_ends_when_another_part_has_found_the_broker_back(part: str, found_back: bool) -> None:
    clock = ManualClock()
    broker = Away()
    work = parts(clock, broker)[part]()
    assert await attempts(clock, broker, work, found_back=found_back) == 1 + found_back
