"""So much runs, a little waits, the rest is refused at once."""

from __future__ import annotations

import asyncio

import pytest

from tenfold.errors import ConfigError, Unavailable
from tenfold.guard.admission import Admission, verdict


@pytest.mark.parametrize(
    ("in_flight", "waiting", "expected"),
    [(0, 0, "run"), (1, 0, "run"), (2, 0, "wait"), (1, 1, "wait"), (2, 2, "refuse"), (1, 2, "refuse")],
)
def test_newcomers_run_then_wait_then_are_refused_and_overtake_nobody(
    in_flight: int, waiting: int, expected: str
) -> None:
    assert verdict(in_flight, 2, waiting, 2) == expected


def test_an_admission_that_admits_nobody_is_refused() -> None:
    for options in ({"in_flight_max": 0}, {"in_flight_max": 1, "waiting_max": -1}):
        with pytest.raises(ConfigError, match="admit nobody"):
            Admission(**options)


@pytest.mark.anyio
async def test_a_full_server_without_a_queue_refuses_with_retry_after() -> None:
    admission = Admission(1, retry_after_s=3)
    assert admission.try_enter()
    assert not admission.try_enter()
    with pytest.raises(Unavailable) as caught:
        await admission.wait()
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "3"})
    admission.leave()
    assert admission.try_enter()
    assert (admission.admitted, admission.refused) == (2, 1)


@pytest.mark.anyio
async def test_those_who_wait_enter_in_the_order_they_came() -> None:
    admission = Admission(1, waiting_max=3, wait_s=60)
    order: list[int] = []

    async def work(number: int) -> None:
        if not admission.try_enter():
            await admission.wait()
        order.append(number)
        admission.leave()

    assert admission.try_enter()
    tasks = [asyncio.create_task(work(n)) for n in range(3)]
    await asyncio.sleep(0)
    assert admission.waiting == 3
    with pytest.raises(Unavailable):
        await admission.wait()
    admission.leave()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]
    assert (admission.in_flight, admission.waiting, admission.admitted) == (0, 0, 4)


@pytest.mark.anyio
async def test_who_waits_too_long_is_refused_and_leaves_the_line() -> None:
    admission = Admission(1, waiting_max=1, wait_s=0.01)
    admission.try_enter()
    with pytest.raises(Unavailable):
        await admission.wait()
    assert admission.waiting == 0
    admission.leave()
    assert admission.in_flight == 0


@pytest.mark.anyio
async def test_a_place_given_to_somebody_who_is_cancelled_goes_to_the_next() -> None:
    admission = Admission(1, waiting_max=2, wait_s=60)
    admission.try_enter()
    first, second = (asyncio.create_task(admission.wait()) for _ in range(2))
    await asyncio.sleep(0)
    admission.leave()  # the place is first's now …
    first.cancel()  # … who goes away before taking it
    await second
    assert first.cancelled() or first.done()
    assert admission.in_flight == 1
    admission.leave()
    assert admission.in_flight == 0


@pytest.mark.anyio
async def test_no_place_is_lost_whoever_gives_up_when() -> None:
    admission = Admission(2, waiting_max=5, wait_s=0.002)

    async def work(number: int) -> None:
        try:
            if not admission.try_enter():
                await admission.wait()
        except Unavailable:
            return
        try:
            await asyncio.sleep(0.0005 * (number % 4))
        finally:
            admission.leave()

    tasks = [asyncio.create_task(work(n)) for n in range(300)]
    for n, task in enumerate(tasks):
        await asyncio.sleep(0.0002)
        if n % 3 == 0:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (admission.in_flight, admission.waiting) == (0, 0)
    assert admission.admitted > 0
