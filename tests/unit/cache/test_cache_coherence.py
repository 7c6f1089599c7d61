"""No stale read after an invalidation was acknowledged, whatever the interleaving (G10, in one process).

A versioned register stands for the database. Loaders read it and are then held back for as long as the
machine likes; writes raise the version and are acknowledged once the invalidation has returned. A read must
not return a version below the one that was acknowledged when it asked. Writes that nobody announces bound
how stale a hit may be: by the declared life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tenfold._core.clock import ManualClock
from tenfold.cache.backends.memory import Backend, MemoryRegion
from tenfold.cache.cache import Cache
from tenfold.cache.contract import CacheStats
from tenfold.cache.flight import Flight
from tenfold.cache.policy import Fill

TTL_S, STALE_S = 10.0, 5.0
keys = st.sampled_from(["a", "b"])


class Load:
    """One call of the loader: what it read, and whether it may return."""

    def __init__(self, key: str, version: int) -> None:
        self.key, self.version = key, version
        self.gate = asyncio.Event()


class Read:
    """One call of get_or_load, and what it may return at least."""

    def __init__(self, key: str, task: asyncio.Task[int], floor: int) -> None:
        self.key, self.task, self.floor = key, task, floor


class Coherence(RuleBasedStateMachine):
    backend: type[Backend] = Backend

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.cache = Cache("shop", ttl_s=TTL_S, stale_s=STALE_S, load_timeout_s=1e6)
        self.cache.bind(self.backend(3, self.clock), self.clock)
        self.history: dict[str, list[tuple[float, int]]] = {key: [(-1e9, 0)] for key in "ab"}
        self.acknowledged = dict.fromkeys("ab", 0)
        self.loads: list[Load] = []
        self.reads: list[Read] = []

    def teardown(self) -> None:
        self.loop.run_until_complete(self.end())
        self.loop.close()

    async def end(self) -> None:
        await self.cache.unbind()
        await asyncio.gather(*(read.task for read in self.reads), return_exceptions=True)

    def run(self, work: Any) -> None:
        async def and_settle() -> None:
            if work is not None:
                await work
            for _ in range(20):
                await asyncio.sleep(0)

        self.loop.run_until_complete(and_settle())
        self.judge()

    def version(self, key: str, at: float | None = None) -> int:
        moments = self.history[key]
        return max(v for t, v in moments if at is None or t <= at)

    async def load(self, key: str) -> int:
        load = Load(key, self.version(key))
        self.loads.append(load)
        await load.gate.wait()
        self.loads.remove(load)
        return load.version

    def judge(self) -> None:
        for read in [read for read in self.reads if read.task.done()]:
            self.reads.remove(read)
            if not read.task.cancelled() and read.task.exception() is None:
                got = read.task.result()
                assert got >= read.floor, f"{read.key} is {got}, but {read.floor} was acknowledged before"

    def ask(self, key: str) -> Read:
        tags_from = (lambda _: (f"tag:{key}",)) if key == "b" else None
        tags = (f"tag:{key}",) if key == "a" else ()
        call: Coroutine[Any, Any, int] = self.cache.get_or_load(
            key, lambda: self.load(key), tags=tags, tags_from=tags_from
        )
        read = Read(key, self.loop.create_task(call), self.acknowledged[key])
        self.reads.append(read)
        return read

    @rule(key=keys, count=st.integers(1, 3))
    def read(self, key: str, count: int) -> None:
        for _ in range(count):
            self.ask(key)
        self.run(None)

    @rule(key=keys)
    def hit_is_not_older_than_the_declared_life(self, key: str) -> None:
        read = self.ask(key)
        self.loop.run_until_complete(asyncio.sleep(0))
        if read.task.done():
            oldest = self.clock.monotonic() - TTL_S - STALE_S
            assert read.task.result() >= self.version(key, oldest)
        self.run(None)

    @precondition(lambda self: self.loads)
    @rule(data=st.data())
    def let_a_load_return(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.loads)).gate.set()
        self.run(None)

    @rule(key=keys, how=st.sampled_from(["tag", "key", "delete", "clear"]))
    def write(self, key: str, how: str) -> None:
        self.write_silently(key)
        match how:
            case "tag":
                self.run(self.cache.invalidate(f"tag:{key}"))
            case "key":
                self.run(self.cache.invalidate(key))
            case "delete":
                self.run(self.cache.delete(key))
            case _:
                self.run(self.cache.clear())
        self.acknowledged[key] = self.version(key)

    @rule(key=keys)
    def write_silently(self, key: str) -> None:
        self.history[key].append((self.clock.monotonic(), self.version(key) + 1))

    @rule(key=keys)
    def write_through(self, key: str) -> None:
        self.write_silently(key)
        self.run(self.cache.set(key, self.version(key), tags=(f"tag:{key}",)))
        self.acknowledged[key] = self.version(key)

    @rule(seconds=st.sampled_from([0.5, 2.0, TTL_S, TTL_S + STALE_S]))
    def time_passes(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))

    @precondition(lambda self: self.reads)
    @rule(data=st.data())
    def a_reader_goes_away(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.reads)).task.cancel()
        self.run(None)

    @invariant()
    def waiting_readers_wait_for_a_load(self) -> None:
        assert {read.key for read in self.reads} <= {load.key for load in self.loads}


class Unfenced(MemoryRegion):
    """Stores whatever a load returns, and lets everybody join every load: what naive caches do."""

    def touched(self, fill: Fill, names: Iterable[str]) -> bool:
        return False

    async def close_fill(self, key: str, fill: Fill, entry: Any) -> bool:
        self.fences.close()
        if entry is not None:
            self.keep(key, entry, fill.serial)
        return entry is not None


class UnfencedBackend(Backend):
    def region(self, cache: str, stats: CacheStats) -> MemoryRegion:
        return Unfenced(3, stats, ManualClock())


class Naive(Coherence):
    backend = UnfencedBackend


BRIEF = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_no_read_is_older_than_what_was_acknowledged_before_it() -> None:
    run_state_machine_as_test(Coherence, settings=BRIEF)


def test_the_check_catches_a_cache_that_stores_overtaken_loads() -> None:
    hunt = settings(BRIEF, derandomize=True, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises(AssertionError, match="was acknowledged before"):
        run_state_machine_as_test(Naive, settings=hunt)


def test_the_check_catches_late_readers_that_join_early_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store refuses a load that began before an invalidation; who asked after it must not get it either."""
    monkeypatch.setattr(Flight, "outdated", lambda self, seen: False)
    machine = Coherence()
    machine.read("b", 1)
    machine.write("b", "tag")
    machine.read("b", 1)
    machine.loads[0].gate.set()
    with pytest.raises(AssertionError, match="b is 0, but 1 was acknowledged before"):
        machine.run(None)
    machine.teardown()
