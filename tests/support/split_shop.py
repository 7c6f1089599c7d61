"""The shop as five processes behind one real NGINX: for tests that hold for it in one process, too."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from shop.app import app
from support.process import Process
from support.servers import free_port
from support.shop_server import EXAMPLES, PATH, Shop
from tenfold._core.settings import load
from tenfold.runtime.balance import Balancer, Pool, Upstream, balancer_of, plan_of
from tenfold.runtime.up.reading import paths_of
from tenfold.security.identity.issuing import issue

LAYOUT: Mapping[str, Sequence[str]] = {
    "accounts": ["accounts"],
    "catalog": ["catalog", "uploads"],
    "inventory": ["inventory"],
    "orders": ["orders", "reports"],
    "notifications": ["notifications"],
}
"""By process, the services that it serves: every service of the shop that others call or wait for has one of its own."""


class SplitShop(Shop):
    """A :class:`~support.shop_server.Shop` whose services know each other by keys and call each other over sockets.

    ``ops_url`` is that of the accounts; ``ops`` has all of them.
    """

    def __init__(
        self, data: Path, port: int, ops_port: int, database: str = "", events: str = "", **settings: str
    ) -> None:
        super().__init__(data, port, ops_port, database, events, **settings)
        self.ports = {name: (free_port(), free_port()) for name in LAYOUT}
        self.ports["accounts"] = (self.ports["accounts"][0], ops_port)
        self.ops = {name: f"http://127.0.0.1:{ops}" for name, (_, ops) in self.ports.items()}
        self._front: Balancer | None = None

    def start(self) -> None:
        """Five times ``tenfold run --service …``, and the balancer."""
        for service in app.services:
            issue(self.data / "identity", service.name, time.time())
        orders = [{"argv": self._command(name), "env": self._environment(name)} for name in LAYOUT]
        self._process = Process(
            [sys.executable, "-m", "support.zygote", "shop.app", json.dumps(orders)],
            cwd=EXAMPLES,
            env={"PYTHONPATH": PATH},
            timeout_s=60.0,
        )
        for url in self.ops.values():
            self._wait_ready(url)
        asyncio.run(self._stand_in_front())

    def kill(self) -> None:
        front, self._front = self._front, None
        if front is not None:
            asyncio.run(front.stop())
        super().kill()

    def url_of(self, service: str) -> str:
        """Where the process of a service listens."""
        return next(
            f"http://127.0.0.1:{self.ports[name][0]}"
            for name, services in LAYOUT.items()
            if service in services
        )

    def _command(self, name: str) -> list[str]:
        port, ops_port = map(str, self.ports[name])
        serves = [word for service in LAYOUT[name] for word in ("--service", service)]
        return [
            *("run", "shop.app:app", "--port", port, "--ops-port", ops_port, "--no-reload"),
            *("--data", str(self.data), *serves),
        ]

    def _environment(self, name: str) -> dict[str, str]:
        urls = {
            f"TENFOLD_SERVICES_{service.name.upper()}_URL": self.url_of(service.name)
            for service in app.services
        }
        own = {"TENFOLD_INSTANCE": f"{name}.1", "TENFOLD_IDENTITY_FOLDER": "identity"}
        return {"TENFOLD_LOG_FORMAT": "json", **self._settings, **urls, **own}

    def _wait_ready(self, ops_url: str) -> None:
        assert self._process is not None
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"{ops_url}/health/ready", timeout=5):
                    return
            except (OSError, urllib.error.HTTPError):
                time.sleep(0.05)
        raise AssertionError(f"{ops_url} did not get ready. Output:\n{self.output}")

    async def _stand_in_front(self) -> None:
        port = int(self.url.rpartition(":")[2])
        settings = load(None, environ={}, overrides={"balancer.port": port}).settings
        paths = paths_of(app)
        pools = [
            Pool(
                name,
                (Upstream(f"{name}.1", "127.0.0.1", *self.ports[name]),),
                tuple(path for service in services for path in paths[service]),
            )
            for name, services in LAYOUT.items()
        ]
        self._front = balancer_of("nginx")
        assert self._front is not None
        await self._front.apply(plan_of(settings, pools), self.data / "balancer")
