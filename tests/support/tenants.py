"""An app that two tenants share, on a real listener: one asks now and then, the other a hundred times as much."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from tenfold import App, Service, authenticated
from tenfold._core.context import current
from tenfold.db import Tx
from tenfold.runtime import listeners
from tenfold.runtime.listeners import UvicornListener
from tenfold.security.authenticator import Authenticator
from tenfold.security.principal import Principal

SLEEPS = {"postgresql": "SELECT pg_sleep(0.002)", "mysql": "SELECT SLEEP(0.002)"}


class ByToken(Authenticator):
    """``Bearer TENANT:anything``."""

    async def authenticate(self, headers: Any, cookies: Mapping[str, str], /) -> Principal | None:
        token = headers.get("authorization", "").removeprefix("Bearer ")
        return Principal(id=token, tenant=token.partition(":")[0]) if token else None


class Said(msgspec.Struct):
    """``ahead`` are turns of others that the request waited for: at the door, and for a connection."""

    tenant: str
    value: str
    ahead: tuple[int, int]


@dataclass
class Counts:
    """What the server did, by tenant."""

    begun: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    loads: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    leaked: int = 0

    def others(self, of: Counter[str], tenant: str) -> int:
        return of.total() - of[tenant]


def app_of(counts: Counts, dependency_s: float) -> App:
    shared = Service("shared", auth=authenticated)
    chance = random.Random(0)
    db, cache = shared.database(sa.MetaData()), shared.cache("things", ttl_s=3_600)

    @shared.job()
    async def note(tenant: str) -> None:
        counts.jobs[tenant] += 1
        counts.leaked += current().tenant != tenant
        await asyncio.sleep(0.002)

    @shared.get("/work/{key}")
    async def work(key: int, before: int, tx: Tx) -> Said:
        tenant = current().tenant or ""
        at_door = counts.others(counts.begun, tenant) - before
        counts.begun[tenant] += 1

        async def load() -> str:
            counts.loads[tenant] += 1
            return f"{tenant} {key}"

        value = await cache.get_or_load(f"{tenant}:{key}", load)
        await asyncio.sleep(dependency_s * chance.uniform(0.5, 1.5))
        before = counts.others(counts.held, tenant)
        await tx.execute(sa.text(SLEEPS.get(db.backend.dialect.name, "SELECT 1")))
        at_pool = counts.others(counts.held, tenant) - before
        counts.held[tenant] += 1
        if key % 10 == 0:
            await note.enqueue(tx, tenant=tenant)
        return Said(tenant, value, (at_door, at_pool))

    return App("tenants", [shared], auth=ByToken())


@dataclass
class Asked:
    """One request of a tenant."""

    status: int
    took_s: float
    ahead: tuple[int, int] = (0, 0)


class Tenant:
    """Asks over connections of its own."""

    def __init__(self, name: str, port: int, counts: Counts) -> None:
        self.name, self._port, self._counts = name, port, counts
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._tokens = itertools.count()

    async def ask(self, key: int, *, fresh: bool = False) -> Asked:
        """``fresh``: by a credential that the server has not seen."""
        token = f"{self.name}:{next(self._tokens) if fresh else ''}"
        before = self._counts.others(self._counts.begun, self.name)
        began = time.monotonic()
        status, body = await self._exchange(
            f"GET /work/{key}?before={before} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n".encode()
        )
        took_s = time.monotonic() - began
        if status != 200:
            return Asked(status, took_s)
        said = msgspec.json.decode(body, type=Said)
        self._counts.leaked += (said.tenant, said.value) != (self.name, f"{self.name} {key}")
        return Asked(status, took_s, said.ahead)

    async def flood(self, rate: float, connections: int, *, fresh: bool = False) -> None:
        """Until cancelled: so many a second in all, each for something new, over so many connections."""
        keys = itertools.count()

        async def client() -> None:
            while True:
                due = time.monotonic() + connections / rate
                with suppress(OSError, EOFError):
                    await self.ask(next(keys), fresh=fresh)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(client())

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        link = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = link
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        if b"connection: close" in head:
            writer.close()
        else:
            self._idle.append(link)
        return int(head[9:12]), body


@dataclass
class Served:
    """A running app and its two tenants."""

    app: App
    counts: Counts
    quiet: Tenant
    loud: Tenant

    async def now_and_then(self, n: int, every_s: float, keys: int = 10) -> list[Asked]:
        """What the quiet tenant meets with ``n`` requests."""
        met = list[Asked]()
        for number in range(n):
            met.append(await self.quiet.ask(number % keys))
            await asyncio.sleep(every_s)
        return met

    async def tenants_shown(self) -> set[str]:
        """Whom the metrics name as waiting, as soon as they name anybody."""
        async with asyncio.timeout(30):
            while True:
                for family in self.app.assembly.telemetry.registry.collect():
                    if family.name == "tenfold_admission_tenant_waiting" and family.samples:
                        return {sample.labels["tenant"] for sample in family.samples}
                await asyncio.sleep(0.005)

    async def until_loaded(self, n: int) -> None:
        """The flood has stored twice as many entries as there is room for."""
        async with asyncio.timeout(30):
            while self.counts.loads["loud"] < n:  # noqa: ASYNC110 - the flood has no event
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def flooded(self, rate: float, connections: int, *, fresh: bool = False) -> AsyncGenerator[None]:
        """Inside the block the loud tenant floods, and its line stands."""
        flood = asyncio.create_task(self.loud.flood(rate, connections, fresh=fresh))
        gate = self.app.assembly.http.wiring.admission
        assert gate is not None
        async with asyncio.timeout(30):
            while gate.waiting < gate.line.waiting_max // 4:  # noqa: ASYNC110 - the flood has no event
                await asyncio.sleep(0.005)
        try:
            yield
        finally:
            flood.cancel()
            with suppress(asyncio.CancelledError, BaseExceptionGroup):
                await flood


@asynccontextmanager
async def served(
    folder: Path, url: str, *, dependency_s: float = 0.02, **settings: Any
) -> AsyncGenerator[Served]:
    """The app on a listener, with few of everything: 8 requests, 2 connections, 60 entries."""
    counts = Counts()
    app = app_of(counts, dependency_s)
    few: dict[str, Any] = {
        "http__concurrency": 8, "http__waiting_max": 40, "database__pool_max": 2, "cache__entries_max": 60,
        "worker__concurrency": 4, **settings,
    }  # fmt: skip
    app.configure(environ={}, app__data_dir=str(folder), database__url=url, **few)
    sock = listeners.bind("127.0.0.1", 0, where="http.port")
    async with asyncio.timeout(600):
        await app.start(worker=True)
        listener = UvicornListener(app, sock, drain_s=2)
        await listener.start()
        port = sock.getsockname()[1]
        running = Served(app, counts, Tenant("quiet", port, counts), Tenant("loud", port, counts))
        try:
            yield running
        finally:
            running.quiet.close()
            running.loud.close()
            await listener.stop()
            await app.stop()
