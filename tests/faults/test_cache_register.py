"""No stale read (G10): a versioned register, several processes, delayed loads, commits and invalidations.

A number stands for the database. Writers announce, commit the next version, tell, and acknowledge, with pauses in
between; loaders read it and are held back. A strict read may not be older than what was acknowledged when it
asked; a default read not older than what was acknowledged ``near_ttl_s`` before. Meanwhile connections are cut and
the store is emptied. The check is checked with a store that does not fence its fills.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.caches import Process, processes
from support.orphans import die_with_parent
from support.servers import Redis
from support.trials import Trials, soak
from tenfold.cache.backends._tiers import TieredBackend
from tenfold.cache.backends.redis import RedisStore
from tenfold.cache.policy import Fences
from tenfold.conformance.kit import until
from tenfold.errors import Unavailable

pytestmark = pytest.mark.anyio

CHILD = Path(__file__).parents[1] / "support" / "cache_child.py"
SLACK_S = 0.3
"""What a busy machine may add between the clock's being read and a read's being asked."""


class Register:
    """The database, and what was acknowledged when."""

    def __init__(self, seed: int, near_ttl_s: float) -> None:
        self.random = random.Random(seed)
        self.near_ttl_s = near_ttl_s
        self.version = 0
        self.acknowledged: list[tuple[float, int]] = [(float("-inf"), 0)]
        self.reads = self.writes = self.refused = 0
        self.wrong: list[str] = []
        self.writing = asyncio.Lock()

    async def pause(self, most_s: float) -> None:
        await asyncio.sleep(self.random.uniform(0, most_s) if self.random.random() < 0.5 else 0)

    async def load(self) -> int:
        await self.pause(0.005)
        version = self.version
        await self.pause(0.03)
        return version

    def floor(self, at: float) -> int:
        return next(version for moment, version in reversed(self.acknowledged) if moment <= at)

    async def read(self, process: Process, *, strict: bool) -> None:
        asked = time.monotonic()
        floor = self.floor(asked if strict else asked - self.near_ttl_s - SLACK_S)
        got = await process.cache.get_or_load("k", self.load, ttl_s=30, tags=("t",))
        self.reads += 1
        if got < floor:
            self.wrong.append(f"read {got}, and {floor} was acknowledged before")

    async def write(self, process: Process) -> None:
        async with self.writing:
            try:
                ended = await process.backend.announce(["t"])
            except Unavailable:
                self.refused += 1
                return
            assert ended is not None
            await self.pause(0.01)
            if self.random.random() < 0.2:
                await _told(ended(False))
                return
            self.version += 1
            await self.pause(0.01)
            process.cache.forget(["t"])
            await _told(ended(True))
            self.acknowledged.append((time.monotonic(), self.version))
            self.writes += 1


async def _told(waiting: Any) -> None:
    if waiting is not None:
        await waiting


async def experiment(url: str, seconds: float, *, strict: bool, chaos: bool, seed: int = 1) -> Register:
    """Readers, writers and trouble for so long."""
    options: dict[str, Any] = {"timeout_s": 1.0, "near_ttl_s": 0.5, "cache": {"strict": strict}}
    async with processes(url, 3, **options) as fleet:
        register = Register(seed, 0.5)
        end = time.monotonic() + seconds

        async def reading(process: Process) -> None:
            while time.monotonic() < end:
                await register.read(process, strict=strict)
                await register.pause(0.004)

        async def writing(process: Process) -> None:
            while time.monotonic() < end:
                await register.write(process)
                await register.pause(0.05)

        async def troubling() -> None:
            while time.monotonic() < end:
                await asyncio.sleep(0.2)
                link = register.random.choice(fleet).backend.store.link  # type: ignore[attr-defined]
                if link.state == "up":
                    if register.random.random() < 0.5:
                        await link.call("FLUSHALL")
                    else:
                        link._wire.transport.abort()

        works = [reading(process) for process in fleet for _ in range(4)]
        works += [writing(process) for process in fleet]
        await asyncio.gather(*works, *([troubling()] if chaos else []))
        return register


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("chaos", [False, True])
async def test_no_read_is_older_than_promised(
    redis_url: str, strict: bool, chaos: bool, trials: Trials
) -> None:
    """With connections cut and the store emptied as well."""
    register = await experiment(redis_url, 1.5, strict=strict, chaos=chaos)
    assert register.wrong == []
    assert register.reads > 100
    assert register.writes > 5
    trials("G10", register.reads, redis_url)


@pytest.mark.soak
@pytest.mark.parametrize("strict", [True, False])
async def test_no_read_is_older_than_promised_in_a_million(
    redis_url: str, strict: bool, trials: Trials
) -> None:
    """The same until 10^6 reads were judged."""
    reads, seed = 0, 0
    while reads < soak(1_000_000):
        seed += 1
        register = await experiment(redis_url, 20, strict=strict, chaos=seed % 2 == 0, seed=seed)
        assert register.wrong == []
        reads += register.reads
    trials("G10", reads, redis_url)


async def test_memcached_keeps_the_promise(memcached_url: str, trials: Trials) -> None:
    """By the same experiment, strict."""
    register = await experiment(memcached_url, 1.5, strict=True, chaos=False)
    assert register.wrong == []
    assert register.reads > 50
    trials("G10", register.reads, memcached_url)


@pytest.mark.soak
async def test_memcached_keeps_the_promise_in_a_million(memcached_url: str, trials: Trials) -> None:
    """By the same experiment, strict."""
    reads, seed = 0, 0
    while reads < soak(1_000_000):
        seed += 1
        register = await experiment(memcached_url, 20, strict=True, chaos=False, seed=seed)
        assert register.wrong == []
        reads += register.reads
    trials("G10", reads, memcached_url)


async def test_the_check_catches_fills_without_fences(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that takes every fill as if its load had begun just now is convicted."""
    honest = RedisStore.finish

    async def careless(self: RedisStore, right: Any, stored: Any) -> bool:
        if stored is not None:
            names = [right.keys.generations + name for name in stored.names]
            now = await self.link.call("MGET", *names)
            if None not in now:
                right = right._replace(
                    generations=tuple(generation.decode() for generation in now),
                    opened=int(time.time() * 1e6) - 1000,
                )
        return await honest(self, right, stored)

    monkeypatch.setattr(RedisStore, "finish", careless)
    monkeypatch.setattr(Fences, "touched", lambda self, fill, names: False)
    register = await experiment(redis_url, 2.0, strict=True, chaos=False)
    assert register.wrong


async def test_the_check_catches_commits_that_are_not_announced(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend that only says afterwards, and waits for nobody, is convicted."""

    async def unannounced(self: TieredBackend, names: Any) -> Any:
        return lambda committed: None

    monkeypatch.setattr(TieredBackend, "announce", unannounced)
    register = await experiment(redis_url, 1.0, strict=True, chaos=False)
    assert register.wrong


@pytest.mark.parametrize("store", ["redis_url", "memcached_url"])
async def test_who_dies_between_commit_and_invalidation_leaves_nothing_stale(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The mark from before the commit stands: everybody reads the source until it runs out."""
    url = request.getfixturevalue(store)
    file = tmp_path / "database"
    file.write_text("old")

    async def load() -> str:
        return file.read_text()

    async with processes(url, 2, timeout_s=2.0, near_ttl_s=0.2) as fleet:
        for process in fleet:
            assert await process.cache.get_or_load("k", load, tags=("t",), ttl_s=600) == "old"
        child = subprocess.run(  # noqa: ASYNC221 - it is short
            [sys.executable, CHILD, url, "commit", file], capture_output=True, text=True, check=False,
            cwd=CHILD.parents[1], env=_environment(),
        )  # fmt: skip
        assert child.stdout == "committed\n", child.stderr

        async def is_new() -> bool:
            got = [await process.cache.get_or_load("k", load, tags=("t",), ttl_s=600) for process in fleet]
            return got == ["new", "new"]

        await until(is_new, "reading the new value everywhere", timeout_s=0.2 + SLACK_S)


def _environment() -> dict[str, str]:

    root = CHILD.parents[2]
    return {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root / 'tests'}"}


async def test_a_loader_that_is_killed_is_followed_by_one_other(redis_server: Redis, redis_url: str) -> None:
    """Its lease runs out, and of all who wait one loads."""
    child = subprocess.Popen(  # noqa: ASYNC220 - waited for in a thread
        [sys.executable, CHILD, redis_url, "load"], stdout=subprocess.PIPE, text=True,
        cwd=CHILD.parents[1], env=_environment(),
        preexec_fn=die_with_parent,
    )  # fmt: skip
    assert child.stdout is not None
    assert await asyncio.to_thread(child.stdout.readline) == "loading\n"
    loads = 0

    async def load() -> str:
        nonlocal loads
        loads += 1
        await asyncio.sleep(0.05)
        return "v"

    async with processes(redis_url, 3, timeout_s=2.0, lease_s=2.0) as fleet:
        asked = [
            asyncio.create_task(process.cache.get_or_load("k", load, tags=("t",)))
            for process in fleet
            for _ in range(100)
        ]
        await asyncio.sleep(0.3)
        assert loads == 0
        child.kill()
        child.wait()
        began = time.monotonic()
        assert set(await asyncio.gather(*asked)) == {"v"}
        assert loads == 1
        assert time.monotonic() - began < 2.0 + 1.0


async def fleet_run(
    url: str, processes_count: int, waiters: int, rounds: int
) -> list[dict[str, list[float]]]:
    """Real processes that ask for one key at the same moments."""

    children = [
        subprocess.Popen(  # noqa: ASYNC220 - waited for in threads
            [sys.executable, CHILD, url, "fleet", str(waiters), str(rounds)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, cwd=CHILD.parents[1], env=_environment(),
            preexec_fn=die_with_parent,
        )
        for _ in range(processes_count)
    ]  # fmt: skip
    for child in children:
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline) == "ready\n"
    begin = f"{time.time() + 0.5}\n"
    outputs = await asyncio.gather(*(asyncio.to_thread(child.communicate, begin) for child in children))
    return [json.loads(out) for out, _ in outputs]


@pytest.mark.parametrize("store", ["redis_url", "memcached_url"])
async def test_one_load_per_key_and_expiry_in_four_processes(
    store: str, request: pytest.FixtureRequest, trials: Trials
) -> None:
    """4 processes, 250 waiters each (G11)."""
    url, rounds = request.getfixturevalue(store), 3
    assert await loads_by_round(url, rounds) == [1] * rounds
    trials("G11", rounds, url)


@pytest.mark.soak
@pytest.mark.parametrize("store", ["redis_url", "memcached_url"])
async def test_a_thousand_expiries_cost_no_more_than_five_in_a_hundred_extra_loads(
    store: str, request: pytest.FixtureRequest, trials: Trials
) -> None:
    """The figure of G11: at most 1.05 loads."""
    url, rounds = request.getfixturevalue(store), soak(1_000)
    loads = await loads_by_round(url, rounds)
    assert min(loads) >= 1
    assert sum(loads) <= 1.05 * rounds
    trials("G11", rounds, url)


async def test_the_count_of_loads_catches_a_fleet_without_leases(redis_url: str) -> None:
    """Processes that each look at a store of their own load once each, which shows."""
    urls = [redis_url.replace("/0", f"/{n}") for n in range(4)]
    told = await asyncio.gather(*(fleet_run(url, 1, 50, 1) for url in urls))
    assert sum(each[0]["loads"][0] for each in told) == 4


async def loads_by_round(url: str, rounds: int) -> list[float]:
    told = await fleet_run(url, 4, 250, rounds)
    return [sum(each["loads"][i] for each in told) for i in range(rounds)]
