"""A fleet in production whose services show each other certificates: gateway, balancer and two services, every key and
certificate changed while requests go through."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from support.process import Process
from support.servers import free_port, program
from support.shop_server import EXAMPLES
from support.upshop import Traffic, UpShop
from tenfold.runtime.up.state import State

pytestmark = [pytest.mark.soak, pytest.mark.anyio]

APP = """
from tenfold import App, Service, public

catalog = Service("catalog", auth=public, calls=[])
orders = Service("orders", auth=public, calls=["catalog.find"])

@catalog.internal
async def find(sku: str) -> str:
    return f"found {sku}"

@orders.get("/orders/{sku}")
async def order(sku: str) -> str:
    return await find(sku)

app = App("mini", [catalog, orders])
"""
SETTINGS = """
[app]
target = "mini:app"
env = "production"
secret_key = "0123456789012345678901234567890123456789"
[log]
access = false
[up]
web = 0
gateway = 1
[up.services]
orders = 1
catalog = 1
[balancer]
kind = "{kind}"
port = {port}
drain_s = 0.3
[identity]
folder = "identity"
tls = true
[gateway.routes.orders]
path = "/orders"
service = "orders"
"""


class Fleet:
    """``tenfold up`` and other commands in a folder."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "mini.py").write_text(APP)
        (folder / "tenfold.toml").write_text(SETTINGS.format(kind=kind, port=self.port))
        self.env = {"PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}

    def tenfold(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tenfold", *words], cwd=self.folder, env={**os.environ, **self.env},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def up(self) -> Process:
        command = [sys.executable, "-m", "tenfold", "up"]
        return Process(command, ready="is up at", cwd=self.folder, env=self.env, timeout_s=90)

    def ask(self) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/orders/a", timeout=10) as answer:
                assert answer.read() == b'"found a"'
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def shown_by_the_balancer(self) -> str:
        """The certificate at the port where services call `orders`."""
        port = State(self.folder / "data").load().groups["orders"].calls_port
        return ssl.get_server_certificate(("127.0.0.1", port), timeout=5)

    def shown_by(self, service: str) -> str:
        (instance,) = State(self.folder / "data").load().of(service)
        return ssl.get_server_certificate(("127.0.0.1", instance.port), timeout=5)


class Asking(threading.Thread):
    """Asks again and again until it is left, and counts the answers."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(daemon=True)
        self.fleet, self.statuses, self._end = fleet, Counter[int](), threading.Event()

    def run(self) -> None:
        while not self._end.wait(0.02):
            self.statuses[self.fleet.ask()] += 1

    def __enter__(self) -> Counter[int]:
        self.start()
        return self.statuses

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_services_behind_a_gateway_and_a_balancer_change_keys_and_certificates_without_a_restart(
    tmp_path: Path, kind: str
) -> None:
    program(kind)
    fleet = Fleet(tmp_path, kind)
    assert fleet.tenfold("identity", "issue").returncode == 0
    refused = fleet.tenfold("up")
    assert refused.returncode == 2
    assert "Make it by: tenfold identity issue" in refused.stderr
    fleet.tenfold("identity", "issue", "--tls")
    with fleet.up() as process:
        try:
            assert fleet.ask() == 200, process.output
            before = [fleet.shown_by_the_balancer(), fleet.shown_by("orders")]
            pids = {i.name: i.pid for i in State(tmp_path / "data").load().instances.values()}
            with Asking(fleet) as statuses:
                for now in ((), ("--now",)):
                    assert fleet.tenfold("identity", "rotate", "--tls", *now).returncode == 0
                until = time.monotonic() + 60
                while {fleet.shown_by_the_balancer(), fleet.shown_by("orders")} & set(before):
                    assert time.monotonic() < until, process.output
                    time.sleep(0.2)
                known = sum(statuses.values())
                while sum(statuses.values()) < known + 50:
                    time.sleep(0.05)
            assert set(statuses) == {200}, statuses
            assert {i.name: i.pid for i in State(tmp_path / "data").load().instances.values()} == pids
        finally:
            process.stop(60)  # with all that it started, which a killed one leaves running


SHOP = """
[identity]
tls = true
[up.services]
accounts = 1
catalog = 1
inventory = 1
orders = 1
notifications = 1
reports = 1
uploads = 1
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
async def test_the_shop_in_seven_processes_changes_all_keys_and_certificates_under_traffic(
    tmp_path: Path, kind: str
) -> None:
    rotate = ["identity", "rotate", "--now", "--tls", "--app", "shop.app:app"]
    path = os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")])
    with UpShop(tmp_path, kind, web=0, more=SHOP, start_s=80) as shop:
        async with Traffic(shop.port, rate=10) as traffic:
            await traffic.answered(30)
            command = [sys.executable, "-m", "tenfold", *rotate]
            changed = await asyncio.create_subprocess_exec(
                *command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}
            )
            assert await changed.wait() == 0
            await traffic.answered(300)
        assert traffic.failed() == [], shop.process.output
        assert traffic.kept()["orders"] == traffic.orders() > 0
