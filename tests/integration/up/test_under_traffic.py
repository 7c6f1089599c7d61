"""The shop under ``tenfold up`` behind NGINX and HAProxy: replaced in order and killed, while requests go on (G18, G19)."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from support.balanced import Client
from support.trials import Trials, soak
from support.upshop import SKUS, STOCK, Traffic, UpShop

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


def silent(_: str) -> None:
    """For those that are soon over."""


async def restarted(
    shop: UpShop, traffic: Traffic, times: int, between: int, say: Callable[[str], None] = silent
) -> None:
    """All instances are replaced so many times, each as ``tenfold restart`` does it."""
    for round_ in range(1, times + 1):
        before = {instance.pid for instance in await shop.all_ready(1)}
        *_, said = await asyncio.to_thread(shop.tell, "restart")
        assert not said.failed, said.sentence
        assert not before & {instance.pid for instance in await asyncio.to_thread(shop.ready)}
        await traffic.answered(round_ * between)
        say(f"restart {round_} of {times}; {traffic.tally()}")


async def killed(
    shop: UpShop,
    traffic: Traffic,
    times: int,
    between: int,
    rng: random.Random,
    say: Callable[[str], None] = silent,
) -> None:
    """An instance dies so many times; the other one has to be there, or nobody could answer."""
    for round_ in range(1, times + 1):
        victim = rng.choice(await shop.all_ready(2))
        await asyncio.sleep(rng.random() * 0.3)
        os.kill(victim.pid, signal.SIGKILL)
        await traffic.answered(round_ * between)
        say(f"kill {round_} of {times}; {traffic.tally()}")
    await shop.all_ready(2)


def judge_restarts(traffic: Traffic) -> None:
    assert traffic.failed() == []
    assert traffic.kinds().keys() >= {"read", "list", "order", "product"}
    judge_orders(traffic)


def judge_kills(traffic: Traffic) -> None:
    """What may be sent again did not fail; a POST without a key, and a download that was cut off, may have."""
    assert [each for each in traffic.failed() if each.kind not in {"product", "stream"}] == []
    judge_orders(traffic)


def judge_orders(traffic: Traffic) -> None:
    orders = traffic.orders()
    assert orders == traffic.kinds()["order"]
    assert traffic.kept() == {"orders": orders, "left": STOCK * len(SKUS) - orders}


async def test_no_request_fails_in_a_rolling_restart_and_instances_know_who_asks(
    tmp_path: Path, trials: Trials
) -> None:
    with UpShop(tmp_path, "haproxy", web=1) as shop:
        async with Traffic(shop.port, rate=20) as traffic:
            await traffic.answered(10)
            await restarted(shop, traffic, 1, 60)
        judge_restarts(traffic)
        client = Client(shop.port)
        await client.ask("GET", "/products", headers={"X-Forwarded-For": "192.0.2.7"})
        client.close()
        shop.process.wait_for('"client":"192.0.2.7"')
    trials("G18", len(traffic.sent), "the shop under tenfold up behind HAProxy")


async def test_no_keyed_request_fails_or_is_done_twice_when_an_instance_is_killed_and_supervisors_may_die(
    tmp_path: Path, trials: Trials
) -> None:
    with UpShop(tmp_path, "nginx") as shop:
        async with Traffic(shop.port, rate=20, persistent=True) as traffic:
            await traffic.answered(10)
            await killed(shop, traffic, 1, 60, random.Random(7))
            shop.process.kill()
            before = {each.pid for each in shop.state.load().instances.values()}
            shop.process = shop.up()
            await asyncio.to_thread(shop.process.wait_ready)
            assert {instance.pid for instance in await shop.all_ready(2)} == before
        judge_kills(traffic)
        *_, said = await asyncio.to_thread(shop.tell, "down")
        assert said.sentence == "The fleet has ended."
        assert shop.process.wait() == 0
        assert not shop.state.file.exists()
        assert not any(map(lives, before))
    trials("G19", len(traffic.sent), "the shop under tenfold up behind NGINX")


def lives(pid: int) -> bool:
    """Those whose supervisor was killed are reaped by whoever the machine has for that, or by nobody."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


RATE = float(os.environ.get("SOAK_RATE", "120"))
"""Requests a second in the long settings: less than one instance can take while another one starts beside it."""
ROUNDS, REQUESTS = max(2, soak(20)), soak(100_000)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
async def test_twenty_rolling_restarts(
    kind: str, tmp_path: Path, postgres_url: str, trials: Trials, progress: Callable[[str], None]
) -> None:
    with UpShop(tmp_path, kind, database=postgres_url, works=True) as shop:
        async with Traffic(shop.port, rate=RATE, works=True) as traffic:
            await restarted(shop, traffic, ROUNDS, REQUESTS // ROUNDS, progress)
        progress(f"{ROUNDS} rolling restarts behind {kind}: {traffic.tally()}")
        judge_restarts(traffic)
    assert traffic.kinds()["stream"]
    trials("G18", len(traffic.sent), f"the shop under tenfold up behind {kind}")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
async def test_twenty_kills(
    kind: str, tmp_path: Path, postgres_url: str, trials: Trials, progress: Callable[[str], None]
) -> None:
    with UpShop(tmp_path, kind, database=postgres_url, works=True) as shop:
        async with Traffic(shop.port, rate=RATE, persistent=True, works=True) as traffic:
            await killed(shop, traffic, ROUNDS, REQUESTS // ROUNDS, random.Random(19), progress)
        progress(f"{ROUNDS} kills behind {kind}: {traffic.tally()}")
        judge_kills(traffic)
    trials("G19", len(traffic.sent), f"the shop under tenfold up behind {kind}")


@pytest.mark.soak
@pytest.mark.parametrize("broken", ["the balancer is told last", "nobody is drained"])
async def test_an_order_of_steps_that_is_wrong_is_convicted(broken: str, tmp_path: Path) -> None:
    with UpShop(tmp_path, "nginx", broken=broken) as shop:
        async with Traffic(shop.port, rate=RATE) as traffic:
            for round_ in range(1, 11):
                await restarted(shop, traffic, 1, round_ * 200)
                if traffic.failed():
                    break
        with pytest.raises(AssertionError):
            judge_restarts(traffic)
