"""So much runs, a little waits, the rest is refused at once, the least urgent first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tenfold._core.clock import ManualClock, SystemClock
from tenfold._core.context import Priority
from tenfold.errors import ConfigError, Overloaded, Unavailable
from tenfold.guard.admission import Admission, Epoch
from tenfold.guard.shedding.limit import FixedLimit, LearnedLimit
from tenfold.guard.shedding.observation import Seen

pytestmark = pytest.mark.anyio
C, D, S, B = Priority


def admission(size: int = 1, clock: ManualClock | None = None, **options: int | float) -> Admission:
    return Admission(FixedLimit(size), clock or ManualClock(), **options)  # type: ignore[arg-type]


def entered(gate: Admission, priority: int = D) -> Epoch:
    epoch = gate.enter(priority)
    assert epoch is not None
    return epoch


async def lined_up(gate: Admission, *priorities: int) -> list[asyncio.Task[Epoch]]:
    """One task for each, standing in line in this order."""
    tasks = [asyncio.create_task(gate.wait(priority)) for priority in priorities]
    await asyncio.sleep(0)
    return tasks


async def outcomes(tasks: Sequence[asyncio.Task[Epoch]]) -> str:
    """``+`` for who was let in, ``-`` for who was refused, ``.`` for who still waits."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return "".join("." if not t.done() else "-" if t.exception() else "+" for t in tasks)


@pytest.mark.parametrize("options", [{"size": 0}, {"waiting_max": -1}, {"wait_s": 0}])
async def test_an_admission_that_admits_nobody_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="admit nobody"):
        admission(**options)


async def test_newcomers_run_then_wait_then_are_refused_and_overtake_nobody() -> None:
    gate = admission(2, waiting_max=2)
    first = entered(gate)
    entered(gate)
    assert gate.enter() is None
    tasks = await lined_up(gate, D, D)
    assert gate.full(D)
    with pytest.raises(Unavailable):
        await gate.wait()
    gate.leave(first)
    assert gate.enter() is None  # the place is for who waits
    assert await outcomes(tasks) == "+."


async def test_a_full_server_says_which_limit_its_value_and_when_to_come_back() -> None:
    gate = admission(1)
    entered(gate)
    with pytest.raises(Overloaded) as caught:
        await gate.wait()
    problem = caught.value
    assert (problem.status, problem.headers) == (503, {"Retry-After": "1"})
    assert problem.extra == {"limit": "http.concurrency", "value": 1, "priority": "default"}
    assert (gate.admitted, gate.refused) == (1, [0, 1, 0, 0])


async def test_those_who_wait_enter_in_the_order_they_came() -> None:
    gate = admission(1, waiting_max=3)
    order: list[int] = []

    async def work(number: int) -> None:
        epoch = gate.enter() or await gate.wait()
        order.append(number)
        gate.leave(epoch)

    first = entered(gate)
    tasks = [asyncio.create_task(work(n)) for n in range(3)]
    await asyncio.sleep(0)
    assert gate.waiting == 3
    with pytest.raises(Unavailable):
        await gate.wait()
    gate.leave(first)
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]
    assert (gate.in_flight, gate.waiting, gate.admitted) == (0, 0, 4)


async def test_who_waits_too_long_is_refused_and_leaves_the_line() -> None:
    clock = ManualClock()
    gate = admission(1, clock, waiting_max=1, wait_s=0.05)
    epoch = entered(gate)
    tasks = await lined_up(gate, D)
    await clock.advance(0.051)
    gate.observe(clock.monotonic(), 0.0)
    assert await outcomes(tasks) == "-"
    assert gate.waiting == 0
    gate.leave(epoch)
    assert gate.in_flight == 0


async def test_a_pause_that_makes_everybody_late_is_no_overload() -> None:
    clock = ManualClock()
    gate = admission(1, clock, waiting_max=9)
    epoch = entered(gate)
    tasks = await lined_up(gate, D, D)
    await clock.advance(0.3)
    gate.observe(clock.monotonic(), 0.0)
    for _ in tasks:  # the line is served again, each in 10 ms
        gate.leave(epoch)
        await clock.advance(0.01)
        gate.observe(clock.monotonic(), 0.0)
        epoch = gate.epoch
    assert await outcomes(tasks) == "++"
    gate.leave(epoch)
    await clock.advance(0.1)
    gate.observe(clock.monotonic(), 0.0)
    assert not gate.overloaded


async def test_a_line_that_stands_is_overload_and_its_newest_go_first() -> None:
    clock = ManualClock()
    gate = admission(3, clock, waiting_max=9)
    first = [entered(gate) for _ in range(3)]
    old = await lined_up(gate, D, D)
    await clock.advance(0.11)
    gate.observe(clock.monotonic(), 0.0)
    assert not gate.overloaded  # as after any pause of the machine
    await clock.advance(0.051)
    gate.observe(clock.monotonic(), 0.0)
    assert gate.overloaded
    assert await outcomes(old) == "--"
    new = await lined_up(gate, D, D, D)
    assert await outcomes(new) == "..-"  # the line is short now
    gate.leave(first[0])
    assert await outcomes(new) == ".+-"
    await clock.advance(1.2)
    gate.observe(clock.monotonic(), 0.0)
    await clock.advance(1.2)
    gate.observe(clock.monotonic(), 0.0)
    assert not gate.overloaded
    assert await outcomes(new) == "-+-"


async def test_a_line_before_an_idle_instance_is_let_in_and_not_sent_away() -> None:
    """A burst of requests that wait for something outside: none had time to show that it does."""
    clock = ManualClock()
    gate = Admission(LearnedLimit(1000, start=4), clock, waiting_max=100)
    first = [entered(gate) for _ in range(4)]
    waiting = await lined_up(gate, *[D] * 28)
    for _ in range(60):
        await clock.advance(0.005)
        gate.observe(clock.monotonic(), 0.0)
    assert not gate.overloaded
    assert await outcomes(waiting) == "+" * 28
    assert gate.in_flight == len(first) + 28


async def test_the_more_urgent_go_first_and_take_the_place_of_the_less_urgent_in_line() -> None:
    gate = admission(1, waiting_max=2)
    first = entered(gate)
    sheddable, background = await lined_up(gate, S, B)
    (default,) = await lined_up(gate, D)
    assert await outcomes([sheddable, background, default]) == ".-."
    (another,) = await lined_up(gate, D)
    assert await outcomes([sheddable, default, another]) == "-.."
    gate.leave(first)
    assert await outcomes([default, another]) == "+."
    assert gate.refused == [0, 0, 1, 1]


async def test_each_priority_has_its_share_of_the_limit() -> None:
    gate = admission(10)
    entries = []
    for priority in (B, S, D, C):
        while (epoch := gate.enter(priority)) is not None:
            entries.append(epoch)
        entries.append([len(entries)])
    assert gate.in_flight == 20
    assert [e[0] for e in entries if len(e) == 1 and e[0] in (5, 10, 12)] == [5, 10, 12]


async def test_a_place_given_to_somebody_who_is_cancelled_goes_to_the_next() -> None:
    gate = admission(1, waiting_max=2)
    epoch = entered(gate)
    first, second = await lined_up(gate, D, D)
    gate.leave(epoch)  # the place is first's now …
    first.cancel()  # … who goes away before taking it
    epoch = await second
    assert first.cancelled() or first.done()
    assert gate.in_flight == 1
    gate.leave(epoch)
    assert gate.in_flight == 0


async def test_no_place_is_lost_whoever_gives_up_when() -> None:
    gate = Admission(FixedLimit(2), SystemClock(), waiting_max=5, wait_s=0.002)

    async def work(number: int) -> None:
        try:
            epoch = gate.enter() or await gate.wait(number % 4)
        except Unavailable:
            return
        try:
            await asyncio.sleep(0.0005 * (number % 4))
        finally:
            gate.leave(epoch)

    clock = SystemClock()
    tasks = [asyncio.create_task(work(n)) for n in range(300)]
    for n, task in enumerate(tasks):
        await asyncio.sleep(0.0002)
        gate.observe(clock.monotonic(), 0.0)
        if n % 3 == 0:
            task.cancel()
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0.001)
        gate.observe(clock.monotonic(), 0.0)
    assert (gate.in_flight, gate.waiting) == (0, 0)
    assert gate.admitted > 0
    assert gate.epoch[0] == 0


async def test_the_limit_can_be_set_while_it_runs() -> None:
    gate = Admission(LearnedLimit(), ManualClock(), most=1000, waiting_max=5)
    assert (gate.limit, gate.learned) == (32, True)
    gate.set_limit(1)
    epoch = entered(gate)
    tasks = await lined_up(gate, D, D)
    assert (gate.limit, gate.learned, await outcomes(tasks)) == (1, False, "..")
    gate.set_limit(2)
    assert await outcomes(tasks) == "+."
    gate.set_limit(None)
    assert (gate.limit, gate.learned, await outcomes(tasks)) == (32, True, "++")
    gate.leave(epoch)
    with pytest.raises(ConfigError, match="admit nobody"):
        gate.set_limit(0)


async def test_who_waits_for_something_outside_takes_no_place() -> None:
    clock = ManualClock()
    gate = Admission(LearnedLimit(start=4), clock, most=6)
    polls = [entered(gate) for _ in range(4)]
    assert gate.enter() is None
    for _ in range(3):
        await clock.advance(0.11)
        gate.observe(clock.monotonic(), 0.0)
    assert gate.parked == 4
    more = [entered(gate) for _ in range(2)]
    assert gate.enter() is None  # the bound on everybody in progress
    for epoch in (*polls, *more):
        gate.leave(epoch)
    assert gate.in_flight == 0


async def test_who_stands_in_a_line_inside_keeps_its_place() -> None:
    clock = ManualClock()
    gate = Admission(LearnedLimit(start=4), clock, most=100)
    served = iter(range(1000))
    gate.add_station(lambda: Seen(3, next(served)))
    for _ in range(4):
        entered(gate)
    for _ in range(3):
        await clock.advance(0.11)
        gate.observe(clock.monotonic(), 0.0)
    assert gate.parked == 1


async def test_long_queues_are_not_taken_for_waiting_outside() -> None:
    clock = ManualClock()
    gate = Admission(LearnedLimit(start=4), clock, most=100)
    for _ in range(4):
        entered(gate)
    for _ in range(6):
        await clock.advance(0.11)
        gate.observe(clock.monotonic(), 0.11)
    assert gate.parked == 0


async def test_pressure_is_told_from_0_to_1() -> None:
    clock = ManualClock()
    gate = Admission(FixedLimit(2), clock, waiting_max=1)
    for _ in range(5):
        await clock.advance(0.1)
        gate.observe(clock.monotonic(), 0.5)
    assert gate.pressure == 0.0  # others keep the loop busy, no request is in progress
    entered(gate)
    for _ in range(5):
        await clock.advance(0.1)
        gate.observe(clock.monotonic(), 0.5)
    assert gate.pressure == 0.5
    entered(gate)
    waiting = await lined_up(gate, D)
    for _ in range(5):
        await clock.advance(0.1)
        gate.observe(clock.monotonic(), 0.5)
    assert gate.pressure == 1.0
    assert await outcomes(waiting) == "-"
