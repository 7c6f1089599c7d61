"""Instances come, go and die behind real balancers: no request fails that need not (GUARANTEES G18, G19)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import msgspec
import psutil
import pytest

from integration.balance.conftest import FAST, plan_for
from support.balanced import Client, Instance, Lost
from support.process import Process
from support.servers import free_port, program
from support.trials import Trials, soak
from tenfold.runtime.balance import Balancer
from tenfold.runtime.balance.haproxy import Haproxy
from tenfold.runtime.balance.haproxy_socket import ask
from tenfold.runtime.balance.nginx import Nginx

pytestmark = pytest.mark.anyio

TESTS = Path(__file__).parents[2]
"""What pytest has on its path, and a child of ours has not."""


class Load:
    """Clients with keep-alive that ask without a pause; every answer is counted, and every request has a number."""

    def __init__(self, port: int, clients: int = 8) -> None:
        self.port = port
        self.answers: Counter[tuple[str, int]] = Counter()
        self.lost: list[str] = []
        self.posted: set[bytes] = set()
        self._stop = asyncio.Event()
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(clients)]

    async def _client(self, number: int) -> None:
        client, count = Client(self.port), 0
        while not self._stop.is_set():
            count += 1
            method = "POST" if count % 3 == 0 else "GET"
            body = f"{number}-{count}".encode() if method == "POST" else b""
            try:
                status, _, _ = await client.ask(method, f"/{number}/{count}", body)
            except Lost as lost:
                self.lost.append(str(lost))
                continue
            self.answers[method, status] += 1
            if body and status == 200:
                self.posted.add(body)
        client.close()

    async def seen(self, more: int) -> None:
        """Wait until so many more answers have come."""
        wanted = self.answers.total() + more
        while self.answers.total() < wanted:  # noqa: ASYNC110 - the clients are busy; they do not tell
            await asyncio.sleep(0.005)

    async def end(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    def failed(self) -> dict[tuple[str, int], int]:
        return {answer: count for answer, count in self.answers.items() if answer[1] != 200}


async def replaced(balancer: Balancer, folder: Path, port: int, times: int, between: int) -> Load:
    """Requests go on while both instances are replaced so many times, each as `tenfold up` does it."""
    instances = [await Instance(f"first {n}", pause_s=0.001).__aenter__() for n in range(2)]
    await balancer.apply(plan_for(port, *(each.port for each in instances), options=FAST), folder)
    load = Load(port)
    try:
        await load.seen(between)
        for round_ in range(times):
            successors = [await Instance(f"{round_} {n}", pause_s=0.001).__aenter__() for n in range(2)]
            await balancer.apply(plan_for(port, *(each.port for each in successors), options=FAST), folder)
            for instance in instances:
                await instance.leave()
            instances = successors
            await load.seen(between)
    finally:
        await load.end()
        for instance in instances:
            await instance.leave()
    return load


async def test_no_request_fails_while_all_instances_are_replaced_twice(
    balancer: Balancer, folder: Path, port: int, trials: Trials
) -> None:
    load = await replaced(balancer, folder, port, times=2, between=100)
    assert load.lost == []
    assert load.failed() == {}
    trials("G18", load.answers.total(), f"2 replacements of all instances behind {balancer.name}")


@pytest.mark.soak
async def test_no_request_of_many_fails_in_twenty_replacements(
    balancer: Balancer, folder: Path, port: int, trials: Trials
) -> None:
    load = await replaced(balancer, folder, port, times=20, between=soak(5_000))
    assert load.lost == []
    assert load.failed() == {}
    trials("G18", load.answers.total(), f"20 replacements of all instances behind {balancer.name}")


async def test_a_killed_instance_fails_no_get_and_doubles_no_post(
    balancer: Balancer, folder: Path, port: int, tmp_path: Path, trials: Trials
) -> None:
    ledger, ports = tmp_path / "ledger", [free_port(), free_port()]
    ledger.touch()
    children = [
        Process(
            [sys.executable, "-m", "support.balanced", str(at), ledger],
            ready=f"http://127.0.0.1:{at}/",
            env={"PYTHONPATH": str(TESTS)},
        )
        for at in ports
    ]
    with children[0], children[1]:
        await balancer.apply(plan_for(port, *ports, options=FAST), folder)
        load = Load(port)
        await load.seen(100)
        children[0].send(signal.SIGKILL)
        await load.seen(100)
        await load.end()
    done = Counter(ledger.read_bytes().split())
    assert {answer for answer in load.failed() if answer[0] == "GET"} == set()
    assert [lost for lost in load.lost if lost.startswith("GET")] == []
    assert max(done.values()) == 1
    assert load.posted <= done.keys()
    assert load.failed().get(("POST", 502), 0) + len(load.lost) <= 8  # those that were at the one that died
    trials("G19", load.answers.total(), f"one of two instances killed behind {balancer.name}")


async def workers_of(master: int) -> list[psutil.Process]:
    """All of them, who are there a moment after their master; they may not have a title of their own yet."""
    wanted = psutil.cpu_count() or 1
    while len(found := psutil.Process(master).children()) < wanted:  # noqa: ASYNC110 - other processes
        await asyncio.sleep(0.01)
    return found


async def test_nginx_has_changed_only_once_all_its_workers_have_heard_of_it(folder: Path, port: int) -> None:
    """A worker that did not get the processor for a while goes on with the former configuration for so long."""
    program("nginx")
    nginx, heard = Nginx(), asyncio.Event()
    async with Instance("a") as first, Instance("b") as second:
        try:
            await nginx.apply(plan_for(port, first.port, options=FAST), folder)
            workers = await workers_of(nginx.running(folder))

            def go_on() -> None:
                for worker in workers:
                    worker.resume()
                heard.set()

            for worker in workers:
                worker.suspend()
            asyncio.get_running_loop().call_later(FAST.drain_s + 1.5, go_on)
            await nginx.apply(plan_for(port, second.port, options=FAST), folder)
            assert heard.is_set()
        finally:
            await nginx.stop()


class ReloadedItsOwnWay(Nginx):
    """The broken variant: NGINX's reload (SIGHUP) closes idle connections, in front of requests or not."""

    async def reload(self, folder: Path) -> None:
        os.kill(self.running(folder), signal.SIGHUP)
        await asyncio.sleep(0.3)


async def test_clients_notice_when_nginx_reloads_its_own_way(folder: Path, port: int) -> None:
    program("nginx")
    broken = ReloadedItsOwnWay()
    lost = 0
    try:
        for _ in range(10):
            lost += len((await replaced(broken, folder, port, times=1, between=50)).lost)
            if lost:
                break
    finally:
        await broken.stop()
    assert lost > 0


async def test_a_stream_outlives_two_changes(balancer: Balancer, folder: Path, port: int) -> None:
    async with Instance("a") as first, Instance("b") as second, Instance("c") as third:
        await balancer.apply(plan_for(port, first.port), folder)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        await reader.readuntil(b"data: 1\n\n")
        await balancer.apply(plan_for(port, second.port), folder)
        await balancer.apply(plan_for(port, third.port), folder)
        client = Client(port)
        assert b'"c"' in (await client.ask("GET", "/"))[2]
        client.close()
        first.first_was_read.set()
        await reader.readuntil(b"data: 2\n\n")
        writer.close()


async def test_haproxy_asks_no_instance_that_is_not_ready(folder: Path, port: int) -> None:
    program("haproxy")
    haproxy = Haproxy()
    async with Instance("ready") as ready, Instance("not ready") as unready:
        unready.ready = False
        plan = plan_for(port, ready.port, unready.port)
        upstreams = tuple(
            msgspec.structs.replace(each, ready_port=each.port) for each in plan.pools[0].upstreams
        )
        pool = msgspec.structs.replace(plan.pools[0], upstreams=upstreams)
        client = Client(port)
        try:
            await haproxy.apply(msgspec.structs.replace(plan, pools=(pool,)), folder)
            async with asyncio.timeout(10):
                while "DOWN" not in await ask(folder / "admin.sock", "show stat"):  # noqa: ASYNC110 - nor does HAProxy
                    await asyncio.sleep(0.05)
            assert {(await client.ask("GET", "/"))[2] for _ in range(8)} == {
                b'{"instance": "ready", "path": "/"}'
            }
        finally:
            client.close()
            await haproxy.stop()


async def test_haproxy_keeps_its_worker_when_instances_change(folder: Path, port: int) -> None:
    program("haproxy")
    haproxy = Haproxy()
    async with Instance("a") as first, Instance("b") as second:
        try:
            await haproxy.apply(plan_for(port, first.port), folder)
            worker = psutil.Process(haproxy.running(folder)).children()
            await haproxy.apply(plan_for(port, first.port, second.port), folder)
            await haproxy.apply(plan_for(port, second.port), folder)
            assert psutil.Process(haproxy.running(folder)).children() == worker
            assert f"web.2-{second.port}" not in await ask(folder / "admin.sock", "show servers state")
            assert f"web.1-{second.port}" in await ask(folder / "admin.sock", "show servers state")
            assert f"web.1-{first.port}" not in await ask(folder / "admin.sock", "show servers state")
        finally:
            await haproxy.stop()


async def test_nothing_is_done_when_nothing_differs(balancer: Balancer, folder: Path, port: int) -> None:
    async with Instance("only") as instance:
        assert await balancer.apply(plan_for(port, instance.port), folder)
        before = balancer.running(folder)
        assert not await balancer.apply(plan_for(port, instance.port), folder)
        assert balancer.running(folder) == before != 0


async def test_options_change_without_loss_too(balancer: Balancer, folder: Path, port: int) -> None:
    async with Instance("only", pause_s=0.001) as instance:
        await balancer.apply(plan_for(port, instance.port, options=FAST), folder)
        load = Load(port)
        await load.seen(50)
        slower = msgspec.structs.replace(FAST, silence_s=50.0)
        assert await balancer.apply(plan_for(port, instance.port, options=slower), folder)
        await load.seen(50)
        await load.end()
    assert (load.lost, load.failed()) == ([], {})


async def test_another_supervisor_takes_over(balancer: Balancer, folder: Path, port: int) -> None:
    async with Instance("a") as first, Instance("b") as second:
        await balancer.apply(plan_for(port, first.port), folder)
        heir = type(balancer)()
        assert await heir.apply(plan_for(port, second.port), folder)
        client = Client(port)
        _, _, body = await client.ask("GET", "/")
        client.close()
        assert b'"b"' in body
        await heir.stop()
        assert heir.running(folder) == 0
