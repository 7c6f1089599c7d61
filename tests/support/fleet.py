"""Two instances of the shop on PostgreSQL with a replica and Redis, run with the settings file of the guide."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx2

from shop.demo import CUSTOMER, CUSTOMER_PASSWORD
from support.process import Process
from support.servers import Redis, free_port
from support.shop_server import EXAMPLES
from support.snippets import ROOT, blocks_of
from support.standby import Standby


class Fleet:
    """Instances ``a`` and ``b``, each with its worker, and the servers behind them."""

    def __init__(self, folder: Path, standby: Standby, redis: Redis) -> None:
        self.folder, self.standby, self.redis = folder, standby, redis
        self.a, self.b = Instance(folder), Instance(folder)


class Instance:
    """One ``tenfold run`` in ``folder``."""

    def __init__(self, folder: Path) -> None:
        port, ops_port = free_port(), free_port()
        self.url, self.ops_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ops_port}"
        ports = ["--port", str(port), "--ops-port", str(ops_port)]
        self.process = Process(
            [sys.executable, "-m", "tenfold", "run", *ports], cwd=folder,
            env={"PYTHONPATH": str(EXAMPLES), "TENFOLD_WORKER_LEASE_S": "3"}, ready=f"{self.ops_url}/health/ready",
        )  # fmt: skip

    def client(self) -> httpx2.Client:
        """A signed-in customer of this instance, with a cookie jar."""
        form = {"email": CUSTOMER, "password": CUSTOMER_PASSWORD}
        answer = httpx2.post(f"{self.url}/accounts/login", json=form, timeout=20.0)
        assert answer.status_code == 200, answer.text
        headers = {"authorization": f"Bearer {answer.json()['access_token']}"}
        return httpx2.Client(base_url=self.url, timeout=20.0, headers=headers)

    def metric(self, name: str) -> float:
        """The sum of a metric's lines."""
        lines = httpx2.get(f"{self.ops_url}/metrics", timeout=10.0).text.splitlines()
        values = [
            float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))
        ]
        assert values, f"there is no metric {name}"
        return sum(values)


def settings_of_the_guide(primary: str, replica: str, redis: str) -> str:
    """The last ``tenfold.toml`` of docs/guides/growing.md, with real addresses."""
    page = blocks_of(ROOT / "docs/guides/growing.md")
    text = [block.code for block in page if block.code.startswith("# file: tenfold.toml")][-1]
    for shown, real in {
        "postgresql://shop:secret@db.example/shop": primary,
        "postgresql://shop:secret@replica.example/shop": replica,
        "redis://redis.example:6379/0": redis,
    }.items():
        assert shown in text
        text = text.replace(shown, real)
    return text
