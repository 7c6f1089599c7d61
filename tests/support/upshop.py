"""The shop under ``tenfold up`` behind a real balancer, and traffic whose requests arrive whatever became of the last ones."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
import psutil

from shop.demo import ADMIN, ADMIN_PASSWORD
from support.balanced import Client, Lost
from support.process import Process
from support.servers import free_port, program
from support.shop_server import EXAMPLES
from tenfold.runtime.up.control import Command, Request, Said, ask
from tenfold.runtime.up.instance import Instance
from tenfold.runtime.up.state import State

TESTS = Path(__file__).parents[1]
SKUS = [f"TRAFFIC-{n:02d}" for n in range(20)]
STOCK = 100_000
WRONG_LINES = 400
"""Of the import whose errors are downloaded: each is one piece of a stream."""
AT_ONCE = 24
"""More in flight would find out how busy the machine is, and not whether requests are lost."""
PATIENCE_S = 60.0
"""How long a client goes on with the same key. A key of an instance that died is free again after the operation's 10 s."""


class UpShop:
    """``tenfold up`` in a folder of its own. ``broken`` names a build of support.broken_up; ``works``: jobs run, too, among
    them the pictures of a new shop, which are seconds of the processor's time."""

    def __init__(
        self,
        folder: Path,
        kind: str,
        *,
        web: int = 2,
        database: str = "",
        pool_max: int = 10,
        works: bool = False,
        broken: str = "",
        more: str = "",
        start_s: float = 30,
    ) -> None:
        program(kind)
        self.folder, self.kind, self.port = folder, kind, free_port()
        at = f'[database]\nurl = "{database}"\npool_max = {pool_max}\n' if database else ""
        (folder / "tenfold.toml").write_text(
            f'[up]\napp = "shop.app:app"\nweb = {web}\ndrain_s = 0.2\nready_timeout_s = {start_s:g}\n'
            f'[balancer]\nkind = "{kind}"\nport = {self.port}\ndrain_s = 0.5\nslow_start_s = 1\n'
            # Machines that run tests are busy: who is slow is not to be refused here.
            f"[http]\nconcurrency = 200\n[log]\naccess = {str(not works).lower()}\n"
            "[auth]\naccess_ttl_s = 86400\n"  # longer than any of these tests
            f"[worker]\nenabled = {str(works).lower()}\n{at}{more}"
        )
        self.state = State(folder / "data")
        self._broken, self._start_s = broken, start_s
        self.process = self.up()

    def up(self) -> Process:
        """Another supervisor for the same fleet."""
        path = os.pathsep.join([str(EXAMPLES), str(TESTS), os.environ.get("PYTHONPATH", "")])
        words = ["support.broken_up", self._broken] if self._broken else ["tenfold", "up"]
        command = [sys.executable, "-m", *words]
        return Process(
            command, ready="is up at", cwd=self.folder, env={"PYTHONPATH": path}, timeout_s=3 * self._start_s
        )

    def __enter__(self) -> Self:
        self.process.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """In order where that is possible: instances and balancer live on without their supervisor."""
        with suppress(AssertionError):
            self.process.stop(40)
        left = list(self.state.load().instances.values()) if self.state.file.exists() else []
        self.process.kill()
        for pid in [instance.pid for instance in left]:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        for process in psutil.process_iter(["cmdline"]):
            if str(self.folder / "data/balancer") in " ".join(process.info["cmdline"] or []):
                with suppress(psutil.Error):
                    process.kill()

    def tell(self, command: Command, *words: str) -> list[Said]:
        """What the supervisor says to ``tenfold restart`` and its like."""
        return list(ask(self.state.socket, Request(command, words)))

    def ready(self) -> list[Instance]:
        (said,) = self.tell("ps")
        return [row.instance for row in said.rows if row.instance.state == "ready" and row.instance.port]

    async def all_ready(self, count: int) -> list[Instance]:
        """Wait until so many are."""
        async with asyncio.timeout(90):
            while len(found := await asyncio.to_thread(self.ready)) < count:  # noqa: ASYNC110 - it is asked, and does not tell
                await asyncio.sleep(0.1)
        return found


@dataclass
class Sent:
    """A request, and what became of it."""

    kind: str
    key: str = ""
    status: int = 0
    said: str = ""
    tries: int = 0
    took_s: float = 0.0

    @property
    def good(self) -> bool:
        return self.status in {200, 201}


@dataclass
class Traffic:
    """``rate`` requests a second: reads, orders with a key, products without one, and where somebody ``works`` to make them,
    downloads in pieces. Orders are tried again with their key where ``persistent``, nothing else is tried twice."""

    port: int
    rate: float
    persistent: bool = False
    works: bool = False
    sent: list[Sent] = field(default_factory=list)
    done: int = 0
    """How many of them are answered, or given up."""
    _idle: list[Client] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._prepare)
        self._stop, self._room = asyncio.Event(), asyncio.Semaphore(AT_ONCE)
        self._task = asyncio.create_task(self._arrive())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._task
        for client in self._idle:
            client.close()

    async def answered(self, count: int) -> None:
        """Wait until so many were, in all."""
        while self.done < count:
            await asyncio.sleep(0.05)
            if self._task.done():
                self._task.result()

    # ── what became of it ──

    def failed(self) -> list[Sent]:
        return [each for each in self.sent if not each.good]

    def tally(self) -> str:
        """Requests by kind, and those that failed by kind and status, with what the first of them said."""
        bad = Counter((each.kind, each.status) for each in self.failed())
        failed = ", ".join(f"{kind} {status} × {count}" for (kind, status), count in sorted(bad.items()))
        sent = ", ".join(f"{kind} {count:,}" for kind, count in sorted(self.kinds().items()))
        told = "".join(f"\n    {e.took_s:.1f} s, try {e.tries}: {e.said}" for e in self.failed()[:5])
        return f"{len(self.sent):,} requests ({sent}); failed: {failed or 'none'}{told}"

    def orders(self) -> int:
        """Different orders that were acknowledged."""
        return len({each.key for each in self.sent if each.kind == "order" and each.good})

    def kinds(self) -> Counter[str]:
        return Counter(each.kind for each in self.sent)

    def kept(self) -> dict[str, int]:
        """What the shop says afterwards: how many orders there are, and how much is left on the shelves."""
        with httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60) as client:
            orders = client.get("/orders", params={"per_page": 1}, headers=self._headers).json()["total"]
            left = sum(client.get(f"/stock/{sku}").json()["available"] for sku in SKUS)
        return {"orders": orders, "left": left}

    # ── within ──

    def _prepare(self) -> None:
        with httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60) as client:
            form = {"email": ADMIN, "password": ADMIN_PASSWORD}
            entered = client.post("/accounts/login", json=form)
            assert entered.status_code == 200, entered.text
            token = entered.json()["access_token"]
            self._headers = headers = {"authorization": f"Bearer {token}"}
            products = [{"sku": sku, "name": sku, "category": "Traffic", "price": 100} for sku in SKUS]
            assert client.put("/products", json=products, headers=headers).status_code == 200
            items = [{"sku": sku, "quantity": STOCK} for sku in SKUS]
            delivery = {"note": "traffic", "items": items}
            assert client.post("/deliveries", json=delivery, headers=headers).status_code == 201
            if not self.works:
                return
            wrong = "sku,name,category,price\n" + "?,a,b,c\n" * WRONG_LINES
            begun = client.post("/imports", files={"products": ("w.csv", wrong.encode())}, headers=headers)
            self._import = begun.json()["id"]
            until = time.monotonic() + 60
            while client.get(f"/imports/{self._import}", headers=headers).json()["state"] == "running":
                assert time.monotonic() < until
                time.sleep(0.1)

    async def _arrive(self) -> None:
        last = "stream" if self.works else "list"
        kinds = itertools.cycle(["read", "order", "read", "list", "product", "read", "order", last])
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                due = begun + number / self.rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self._room.acquire()
                if self._stop.is_set():
                    return
                group.create_task(self._send(next(kinds), number, due))

    async def _send(self, kind: str, number: int, due: float) -> None:
        record = Sent(kind)
        self.sent.append(record)
        try:
            await self._until_done(record, *self._request(kind, number, record))
        finally:
            record.took_s = time.monotonic() - due
            self.done += 1
            self._room.release()

    async def _until_done(self, record: Sent, method: str, path: str, body: bytes, headers: Any) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:
            record.tries += 1
            again = await self._once(record, method, path, body, headers)
            if record.good or not (again and record.key and self.persistent) or time.monotonic() > until:
                return
            await asyncio.sleep(0.3)

    async def _once(self, record: Sent, method: str, path: str, body: bytes, headers: Any) -> bool:
        """Whether a client that has a key tries again after this answer."""
        begun = time.monotonic()
        client = self._idle.pop() if self._idle else Client(self.port)
        try:
            record.status, answered, said = await client.ask(method, path, body, headers)
        except (Lost, OSError) as error:
            record.status, record.said = 0, f"{time.monotonic() - begun:.1f} s: {error}"
            return True
        self._idle.append(client)
        if record.kind == "stream" and said.count(b"\r\n") != WRONG_LINES + 1:
            record.status = -1
        record.said = "" if record.good else f"{method} {path}: {said[:300]!r}"
        return record.status in {502, 503, 504} or "retry-after" in answered

    def _request(self, kind: str, number: int, record: Sent) -> tuple[str, str, bytes, dict[str, str]]:
        json_type = {**self._headers, "Content-Type": "application/json"}
        sku = SKUS[number % len(SKUS)]
        match kind:
            case "order":
                record.key = str(uuid.uuid4())
                body = json.dumps({"lines": [{"sku": sku, "quantity": 1}]}).encode()
                return "POST", "/orders", body, {**json_type, "Idempotency-Key": record.key}
            case "product":
                product = {"sku": f"NEW-{number}", "name": "new", "category": "New", "price": 1}
                return "POST", "/products", json.dumps(product).encode(), json_type
            case "stream":
                return "GET", f"/imports/{self._import}/errors.csv", b"", self._headers
            case "list":
                return "GET", "/orders?per_page=5", b"", self._headers
        return "GET", f"/stock/{sku}", b"", {}
