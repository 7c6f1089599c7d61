"""Losing the cache degrades only (G22): killed, stopped, emptied, full, or filled with another's values.

Readers go on while the store is in trouble. None of them may fail or be served a wrong value, none waits much
longer than ``cache.timeout_s``, and the store is used again by itself when it is back.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from support.caches import Process, process, processes
from support.servers import Memcached, Redis, free_port, running
from support.trials import Trials, soak
from tenfold._core.clock import SystemClock
from tenfold._core.resolve import backend_class
from tenfold._core.sections import CacheSettings
from tenfold.cache.cache import Cache
from tenfold.conformance.kit import until
from tenfold.errors import ConfigError, Unavailable

pytestmark = pytest.mark.anyio

ADDED_S = 0.05
"""What the 99th percentile may gain (G22)."""
BUSY_S = 0.2
"""What a machine that runs other tests beside may add."""


@pytest.fixture(scope="module")
def own_redis() -> Iterator[Redis]:
    """A Redis to be hurt."""
    with running(Redis()) as server:
        yield server


@pytest.fixture
async def fleet(own_redis: Redis) -> AsyncGenerator[list[Process]]:
    """Two processes on it, with an empty store."""
    command(own_redis, "CONFIG SET maxmemory 0")
    command(own_redis, "FLUSHALL")
    async with processes(own_redis.url(), 2, near_ttl_s=0.2) as made:
        yield made


def command(server: Redis, line: str) -> bytes:
    """A command by a connection of its own."""
    with socket.create_connection(("127.0.0.1", server.port), 5) as link:
        link.sendall(line.encode() + b"\r\n")
        return link.recv(4096)


class Traffic:
    """Readers of 20 keys whose values are their names, every 2 ms, until stopped."""

    def __init__(self, fleet: list[Process]) -> None:
        self.times: list[float] = []
        self.before_s = 0.0
        self.wrong: list[Any] = []
        self.failed: list[BaseException] = []
        self._fleet = fleet
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Traffic:
        self._tasks = [asyncio.create_task(self._read(each)) for each in self._fleet for _ in range(4)]
        await asyncio.sleep(0.3)
        self.before_s = self._p99()
        self.times.clear()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self, process: Process) -> None:
        number = 0
        while True:
            number += 1
            key = f"k{number % 20}"

            async def load(key: str = key) -> str:
                return key

            started = time.perf_counter()
            try:
                got = await process.cache.get_or_load(key, load, ttl_s=0.5)
            except Exception as error:
                self.failed.append(error)
            else:
                self.times.append(time.perf_counter() - started)
                if got != key:
                    self.wrong.append((key, got))
            await asyncio.sleep(0.002)

    def judge(self) -> None:
        """Nobody failed, nobody was misled, and 99 of 100 waited no longer than allowed."""
        assert self.failed == []
        assert self.wrong == []
        assert len(self.times) > 100
        assert self._p99() <= self.before_s + ADDED_S + BUSY_S

    def _p99(self) -> float:
        return sorted(self.times)[int(len(self.times) * 0.99)]


async def is_used(process: Process) -> bool:
    """Whether the store keeps what this process gives it."""
    await process.cache.set("probe", 1)
    (region,) = process.backend.regions()
    return process.is_up and await region.get("probe") is not None


async def test_a_store_that_is_killed(own_redis: Redis, fleet: list[Process], trials: Trials) -> None:
    """Killed, and started again."""
    async with Traffic(fleet) as traffic:
        own_redis.kill()
        await until(lambda: not any(each.is_up for each in fleet), "noticing")
        await asyncio.sleep(0.5)
        own_redis.start()
        await until(lambda: all(each.is_up for each in fleet), "coming back")
        traffic.judge()
        trials("G22", len(traffic.times), "redis")
    assert all([await is_used(each) for each in fleet])


async def test_a_store_that_stops_answering(own_redis: Redis, fleet: list[Process], trials: Trials) -> None:
    """Stopped: connections stay open and swallow what is sent, like a network that drops packets."""
    async with Traffic(fleet) as traffic:
        with own_redis.paused():
            await until(lambda: not any(each.is_up for each in fleet), "noticing")
            await asyncio.sleep(2)
        await until(lambda: all(each.is_up for each in fleet), "coming back")
        traffic.judge()
        trials("G22", len(traffic.times), "redis")
    assert all([await is_used(each) for each in fleet])


async def test_a_memcached_that_stops_answering(trials: Trials) -> None:
    """The same, with the other store."""
    with running(Memcached()) as server:
        async with processes(server.url, 2, near_ttl_s=0.2) as fleet, Traffic(fleet) as traffic:
            with server.paused():
                await until(lambda: not any(each.is_up for each in fleet), "noticing")
                await asyncio.sleep(2)
            await until(lambda: all(each.is_up for each in fleet), "coming back")
            traffic.judge()
            trials("G22", len(traffic.times), "memcached")


async def test_the_judge_convicts_a_store_whose_loss_is_passed_on(
    own_redis: Redis, fleet: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache that asks its store without a way out fails its readers."""

    async def asks_only_the_store(self: Cache, key: str, load: Any, **_: Any) -> Any:
        await fleet[0].backend.store.link.call("GET", key)  # type: ignore[attr-defined]
        return await load()

    monkeypatch.setattr(Cache, "get_or_load", asks_only_the_store)
    async with Traffic(fleet) as traffic:
        own_redis.kill()
        await until(lambda: bool(traffic.failed), "failing")
        own_redis.start()
        with pytest.raises(AssertionError):
            traffic.judge()


async def trouble(server: Redis, rng: random.Random) -> None:
    """One of those above, for up to a second."""
    kind, seconds = rng.choice(["kill", "pause", "empty", "full"]), rng.uniform(0.1, 1.0)
    if kind == "kill":
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(seconds)
        server.start()
    elif kind == "pause":
        with server.paused():
            await asyncio.sleep(seconds)
    elif kind == "empty":
        await asyncio.to_thread(command, server, "FLUSHALL")
    else:
        await asyncio.to_thread(command, server, "CONFIG SET maxmemory 1")
        await asyncio.sleep(seconds)
        await asyncio.to_thread(command, server, "CONFIG SET maxmemory 0")


@pytest.mark.soak
async def test_a_thousand_troubles(own_redis: Redis, fleet: list[Process], trials: Trials) -> None:
    """One after the other, while readers go on."""
    rng = random.Random(22)
    async with Traffic(fleet) as traffic:
        for _ in range(soak(1_000)):
            await trouble(own_redis, rng)
            await asyncio.sleep(rng.uniform(0, 2))
        await until(lambda: all(each.is_up for each in fleet), "coming back")
        traffic.judge()
        trials("G22", len(traffic.times), "redis")


async def test_a_store_that_is_emptied(own_redis: Redis, fleet: list[Process]) -> None:
    """FLUSHALL again and again."""
    async with Traffic(fleet) as traffic:
        for _ in range(20):
            await asyncio.to_thread(command, own_redis, "FLUSHALL")
            await asyncio.sleep(0.02)
        traffic.judge()


async def test_a_store_that_is_full(own_redis: Redis, fleet: list[Process]) -> None:
    """Without room and without eviction nothing is stored, what is stored can be invalidated, strict writes fail."""
    source = ["old"]

    async def load() -> str:
        return source[0]

    for each in fleet:
        assert await each.cache.get_or_load("k", load, tags=("t",)) == "old"
    command(own_redis, "CONFIG SET maxmemory 1")
    try:
        async with Traffic(fleet) as traffic:
            await asyncio.sleep(0.3)
            traffic.judge()
        source[0] = "new"
        await fleet[0].cache.invalidate("t")
        for each in fleet:
            await until(lambda each=each: _reads(each, load, "new"), "the change", timeout_s=1.0)  # type: ignore[misc]
        async with process(own_redis.url(), cache={"strict": True}, timeout_s=2.0) as strict:
            with pytest.raises(Unavailable, match="OOM"):
                await strict.backend.announce(["t"])
    finally:
        command(own_redis, "CONFIG SET maxmemory 0")
    assert all([await is_used(each) for each in fleet])


async def _reads(process: Process, load: Any, value: str) -> bool:
    return bool(await process.cache.get_or_load("k", load, tags=("t",)) == value)


@pytest.mark.parametrize(
    "spoil",
    [
        "SET tenfold:e:shop:k garbage",
        "RPUSH tenfold:e:shop:k 1 2",
        "RPUSH tenfold:g:shop:k 1 2",
        "SET tenfold:g:shop:k garbage",
        "SADD tenfold:l:shop:k 1",
        r'SET tenfold:e:shop:k "\x96\xa8tenfold1\x01\x01\x01\x01\x01"',
    ],
)
async def test_what_another_app_wrote_is_a_miss(own_redis: Redis, fleet: list[Process], spoil: str) -> None:
    """Values that are none of ours, of another type even, under our keys: loaded, replaced, and served again."""

    async def load() -> str:
        return "v"

    command(own_redis, spoil)
    first, second = fleet
    assert await first.cache.get_or_load("k", load) == "v"
    assert await second.cache.get_or_load("k", load) == "v"
    assert second.cache.stats.far_hits == 1
    await second.cache.invalidate("k")


async def test_changes_during_an_outage_are_told_afterwards(own_redis: Redis, fleet: list[Process]) -> None:
    """What could not be invalidated is invalidated when the store is back, before anybody asks it."""
    source = ["old"]

    async def load() -> str:
        return source[0]

    for each in fleet:
        await each.cache.get_or_load("k", load, tags=("t",), ttl_s=600)
    with own_redis.paused():
        source[0] = "new"
        ended = await fleet[0].backend.announce(["t"])
        assert ended is not None
        fleet[0].cache.forget(["t"])
        waiting = ended(True)
        if waiting is not None:
            await waiting
        assert await fleet[0].cache.get_or_load("k", load, tags=("t",), ttl_s=600) == "new"
    for each in fleet:
        await until(lambda each=each: _reads(each, load, "new"), "the change")  # type: ignore[misc]


async def test_a_strict_cache_refuses_writes_and_answers_reads(own_redis: Redis) -> None:
    """Without its store it reads the source, and says 503 to what it could not tell."""
    async with process(own_redis.url(), cache={"strict": True}) as strict:

        async def load() -> str:
            return "v"

        with own_redis.paused():
            await until(lambda: not strict.is_up, "noticing")
            assert await strict.cache.get_or_load("k", load) == "v"
            with pytest.raises(Unavailable, match="rolled back: a strict cache could not be told"):
                await strict.backend.announce(["t"])
            with pytest.raises(Unavailable, match="could not be told of a change"):
                await strict.cache.invalidate("t")


# ── at start ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://", "it names no host"),
        ("redis://h:port", "the port is no number"),
        ("redis://user:hunter2@h/db", "the database is no number"),
        ("redis://h?tls=1", "another option than ssl_ca_certs"),
        ("memcached://", "'' is no host"),
        ("memcached://a,b:x", "'b:x' is no host"),
    ],
)
async def test_a_malformed_url_is_refused_at_start(url: str, words: str) -> None:
    """With the setting, without the password."""
    with pytest.raises(ConfigError, match=rf"cache\.url: .*{words}") as caught:
        backend_class("cache", url, where="cache.url").from_url(url, CacheSettings(url=url), SystemClock())
    assert "hunter2" not in str(caught.value)


async def test_a_wrong_password_is_refused_at_start() -> None:
    """It will not become right by waiting."""
    with running(Redis("--requirepass", "right")) as server:
        for login in ("", ":wrong@"):
            with pytest.raises(ConfigError, match=r"cache\.url: redis .*(NOAUTH|WRONGPASS)"):
                async with process(f"redis://{login}127.0.0.1:{server.port}/0"):
                    pass
        async with process(f"redis://:right@127.0.0.1:{server.port}/0") as mine:
            assert mine.is_up


@pytest.mark.parametrize("kind", [Redis, Memcached])
async def test_a_store_that_is_away_at_start_is_found_later(kind: type[Redis | Memcached]) -> None:
    """The app starts without it."""
    server = kind(port=free_port())
    url = server.url() if isinstance(server, Redis) else server.url
    async with process(url) as mine:

        async def load() -> str:
            return "v"

        assert not mine.is_up
        assert await mine.cache.get_or_load("k", load) == "v"
        with running(server):
            await until(lambda: mine.is_up, "finding the store")
            assert await is_used(mine)
