"""A real fleet of two without a balancer: one is killed and comes back, the supervisor is killed and another takes over, and
all ends. Behind a balancer, in the ordinary setting, test_under_traffic.py shows the same."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from support.process import Process
from support.servers import program
from tenfold.runtime.up.control import Request, ask
from tenfold.runtime.up.instance import Instance
from tenfold.runtime.up.state import State

APP = """
import os
from tenfold import App, Service, public

small = Service("small", auth=public)

@small.get("/pid")
async def pid() -> int:
    return os.getpid()

@small.on_start
async def begin() -> None:
    if os.path.exists("broken"):
        raise RuntimeError("the flux capacitor is empty")

app = App("small", [small])
"""


def two_free_ports() -> int:
    """The first of two in a row."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


class Fleet:
    """``tenfold up`` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, two_free_ports()
        (folder / "small.py").write_text(APP)
        (folder / "tenfold.toml").write_text(
            f'[up]\napp = "small:app"\nweb = 2\ncrashes_max = 2\n[http]\nport = {self.port}\n'
        )
        self.state = State(folder / "data")

    def up(self) -> Process:
        path = f"{self.folder}:{os.environ.get('PYTHONPATH', '')}"
        command = [sys.executable, "-m", "tenfold", "up"]
        return Process(command, ready="is up at", cwd=self.folder, env={"PYTHONPATH": path})

    def ready(self) -> dict[str, Instance]:
        (said,) = ask(self.state.socket, Request("ps"))
        return {row.instance.name: row.instance for row in said.rows if row.instance.state == "ready"}

    def wait_for(self, condition: Callable[[dict[str, Instance]], bool]) -> dict[str, Instance]:
        until = time.monotonic() + 40
        while not condition(ready := self.ready()):
            assert time.monotonic() < until, ready
            time.sleep(0.05)
        return ready

    def answers(self, number: int) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port + number - 1}/pid", timeout=10) as answer:
            return int(answer.read())

    def kill(self) -> None:
        for instance in self.state.load().instances.values():
            if psutil.pid_exists(instance.pid):
                os.killpg(instance.pid, signal.SIGKILL)


def lives(pid: int) -> bool:
    """Those whose supervisor was killed are reaped by whoever the machine has for that, or by nobody."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    try:
        yield fleet
    finally:
        fleet.kill()


@pytest.mark.soak
def test_what_is_killed_comes_back_and_what_runs_goes_on(fleet: Fleet) -> None:
    with fleet.up() as first:
        before = fleet.ready()
        assert (fleet.answers(1), fleet.answers(2)) == (before["web.1"].pid, before["web.2"].pid)

        os.kill(before["web.1"].pid, signal.SIGKILL)
        after = fleet.wait_for(lambda now: len(now) == 2 and now["web.1"].pid != before["web.1"].pid)
        assert "web.1 ended by itself (SIGKILL)" in first.output
        assert after["web.2"].pid == before["web.2"].pid == fleet.answers(2)
        assert fleet.answers(1) == after["web.1"].pid

        first.kill()  # the supervisor, as a machine that runs out of memory does
        assert (fleet.answers(1), fleet.answers(2)) == (after["web.1"].pid, after["web.2"].pid)

    with fleet.up() as second:
        assert {name: i.pid for name, i in fleet.ready().items()} == {
            name: i.pid for name, i in after.items()
        }

        *_, said = ask(fleet.state.socket, Request("down"))
        assert said.sentence == "The fleet has ended."
        assert second.wait() == 0
    assert not any(lives(instance.pid) for instance in after.values())
    assert not fleet.state.file.exists()


@pytest.mark.soak
def test_a_restart_to_code_that_fails_is_held_and_what_runs_goes_on(fleet: Fleet) -> None:
    with fleet.up() as supervisor:
        before = fleet.ready()
        (fleet.folder / "broken").touch()
        *_, said = ask(fleet.state.socket, Request("restart", ["web"]))
        assert said.failed
        assert "web is held: 2 instances in a row ended before being of use" in said.sentence
        assert "1 instance that is ready goes on" in said.sentence
        supervisor.wait_for("RuntimeError: the flux capacitor is empty")
        assert fleet.answers(2) == before["web.2"].pid

        (fleet.folder / "broken").unlink()
        *_, said = ask(fleet.state.socket, Request("restart", ["web"]))
        assert said.sentence == "web: 2 ready."
        assert not {i.pid for i in before.values()} & {i.pid for i in fleet.ready().values()}
        supervisor.stop()


SPLIT = """
import os
from tenfold import App, Request, Service, public

orders = Service("orders", auth=public, calls=["catalog.find"])
catalog = Service("catalog", auth=public, calls=[])

@catalog.internal
async def find(sku: str) -> str:
    return f"{sku} of {os.environ['TENFOLD_INSTANCE']}"

@orders.post("/orders")
async def order(request: Request) -> str:
    return f"{os.environ['TENFOLD_INSTANCE']} sells {await find('MUG')} to {request.client[0]}"

app = App("small", [orders, catalog])
"""


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_a_gateway_stands_between_the_balancer_and_services_of_their_own(kind: str, tmp_path: Path) -> None:
    program(kind)
    port = two_free_ports()
    (tmp_path / "small.py").write_text(SPLIT)
    (tmp_path / "tenfold.toml").write_text(
        f'[up]\napp = "small:app"\nweb = 0\ngateway = 1\n[up.services]\norders = 1\ncatalog = 1\n'
        f'[balancer]\nkind = "{kind}"\nport = {port}\ndrain_s = 0.3\n'
        '[gateway.routes.orders]\npath = "/orders"\nservice = "orders"\n'
    )
    state = State(tmp_path / "data")

    def sold() -> str:
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/orders", method="POST")
        asked.add_header("X-Forwarded-For", "192.0.2.7")
        with urllib.request.urlopen(asked, timeout=30) as answer:
            said: str = json.load(answer)
        return said

    env = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "tenfold", "up"]
    with Process(command, ready="is up at", cwd=tmp_path, env=env, timeout_s=120) as supervisor:
        try:
            assert sold() == "orders.1 sells MUG of catalog.1 to 192.0.2.7"
            *_, said = ask(state.socket, Request("restart", ["gateway", "catalog"]))
            assert said.sentence == "gateway: 1 ready, catalog: 1 ready."
            assert sold() == "orders.1 sells MUG of catalog.2 to 192.0.2.7"
        finally:
            supervisor.stop(60)
