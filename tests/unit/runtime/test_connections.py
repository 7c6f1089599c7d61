"""What the watch decides about connections, without sockets and on a clock of ours."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest

from tenfold._core.clock import ManualClock
from tenfold._core.sections import HttpSettings
from tenfold.runtime.connections import ConnectionLimits, Connections, State, Verdict, verdict

pytestmark = pytest.mark.anyio

LIMITS = ConnectionLimits.of(HttpSettings())


@dataclass(eq=False)
class Fake:
    state: State = State.HEAD
    moved: int = 0
    since: float | None = None
    seen: State = State.HEAD
    mark: int = 0
    done: list[str] = field(default_factory=list)

    def refuse_late(self, state: State) -> None:
        self.done.append(f"408 {state.name}")

    def close(self) -> None:
        self.done.append("close")

    def cut(self) -> None:
        self.done.append("cut")


@pytest.mark.parametrize(
    ("state", "for_s", "moved", "expected"),
    [
        (State.BUSY, 1e9, 0, Verdict.NOTHING),
        (State.HEAD, 9.9, 0, Verdict.NOTHING),
        (State.HEAD, 10.0, 0, Verdict.REFUSE),
        (State.IDLE, 74.9, 0, Verdict.NOTHING),
        (State.IDLE, 75.0, 0, Verdict.CLOSE),
        (State.BODY, 20.0, 0, Verdict.REFUSE),
        (State.BODY, 20.0, 1024, Verdict.NOTHING),
        (State.BODY, 21.0, 1024, Verdict.REFUSE),
        (State.SENDING, 19.9, 0, Verdict.NOTHING),
        (State.SENDING, 20.0, 20 * 1024 - 1, Verdict.CUT),
        (State.SENDING, 20.0, 20 * 1024, Verdict.AGAIN),
        (State.REST, 20.0, 10**9, Verdict.CUT),
        (State.LEAVING, 1.9, 0, Verdict.NOTHING),
        (State.LEAVING, 2.0, 0, Verdict.CUT),
    ],
)
def test_every_state_has_its_time(state: State, for_s: float, moved: int, expected: Verdict) -> None:
    assert verdict(LIMITS, state, for_s, moved) is expected


def test_time_begins_anew_with_every_state_and_with_every_request() -> None:
    watch, slow = Connections(LIMITS, ManualClock()), Fake()
    watch.look(slow, 0.0)
    watch.look(slow, 9.0)
    slow.state = State.BUSY
    watch.look(slow, 9.5)
    slow.state = State.HEAD
    watch.look(slow, 10.5)
    slow.since = None  # another head began between two looks
    watch.look(slow, 20.4)
    watch.look(slow, 30.3)
    assert slow.done == []
    watch.look(slow, 30.4)
    assert slow.done == ["408 HEAD"]


async def test_whoever_is_silent_since_it_came_makes_room_before_the_newest_idle_one() -> None:
    clock = ManualClock()
    watch = Connections(replace(LIMITS, connections_max=3), clock)
    silent, old, new = Fake(), Fake(State.IDLE), Fake(State.IDLE)
    for each in (silent, old, new):
        assert watch.add(each, watch.all)
    del watch.fresh[old], watch.fresh[new]
    assert watch.add(first := Fake(), [*watch.all, object()])  # nobody has been silent for long
    assert (silent.done, old.done, new.done) == ([], [], ["cut"])
    await clock.advance(1.0)
    assert watch.add(Fake(), [*watch.all, object()])
    assert (silent.done, old.done, first.done) == (["cut"], [], [])


def test_where_all_are_busy_the_newcomer_has_to_go() -> None:
    watch = Connections(replace(LIMITS, connections_max=1), ManualClock())
    busy = Fake(State.BUSY)
    watch.add(busy, [busy])
    del watch.fresh[busy]
    assert not watch.add(Fake(), [busy, object()])
    assert busy.done == []


async def test_it_is_said_once_a_second_how_many_had_to_go(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    watch = Connections(replace(LIMITS, connections_max=0), clock)
    for _ in range(100):
        watch.add(Fake(), [object()])
    await clock.advance(1.0)
    watch.add(Fake(), [object()])
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "closed 1 connection",
        "closed 100 connections",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_what_clients_have_not_taken_never_exceeds_its_bound(seed: int) -> None:
    """Seeded: stalls and flows in any order; the sum is right, within the bound, and who stalled first goes first."""
    rng = random.Random(seed)
    watch = Connections(replace(LIMITS, buffered_max_bytes=1000), ManualClock())
    some = [Fake() for _ in range(20)]
    for _ in range(500):
        one = rng.choice(some)
        if rng.random() < 0.5:
            watch.stalls(one, rng.randrange(400))
        else:
            watch.flows(one)
        assert watch.unsent_bytes == sum(watch.unsent.values()) <= 1000
        assert all(not each.done or each not in watch.unsent or each is one for each in some)
        for each in some:
            if each.done:
                each.done.clear()
                watch.discard(each)
