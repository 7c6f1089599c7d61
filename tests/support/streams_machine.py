"""Streams of events against a model: two processes append, load and look back in an order that hypothesis likes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from support.ledger import Balance, Draw, Drawn, Ledger, Overdrawn, Paid, Pay
from tenfold._core.clock import ManualClock
from tenfold.assembly.eventstores import store_of
from tenfold.errors import VersionConflict
from tenfold.eventstore import ANY, NONE
from tenfold.eventstore.contract import END

T = TypeVar("T")
Past = list[tuple[float, int]]
"""Of one stream: when, and by how much."""

who = st.integers(0, 1)
streams = st.sampled_from(["a", "b", "c"])
amounts = st.integers(1, 9)


class World(NamedTuple):
    """A database with two processes that use it, for all examples of one run."""

    loop: asyncio.AbstractEventLoop
    clock: ManualClock
    ledgers: list[Ledger]


def state_of(past: Past) -> Balance:
    return Balance(sum(by for _, by in past), len(past))


class Streams(RuleBasedStateMachine):
    world: World
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.prefix = f"{next(self.numbers)}-"
        self.past: dict[str, Past] = {name: [] for name in "abc"}
        self.order: list[tuple[str, int]] = []
        """Every event by stream and version, as they were committed."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.world.loop.run_until_complete(work)

    def note(self, stream: str, *by: int) -> None:
        for amount in by:
            self.past[stream].append((self.world.clock.now(), amount))
            self.order.append((stream, len(self.past[stream])))

    @rule(seconds=st.integers(1, 5))
    def time_passes(self, seconds: int) -> None:
        self.run(self.world.clock.advance(seconds))

    @rule(
        who=who,
        stream=streams,
        paid=st.lists(amounts, min_size=1, max_size=4),
        off=st.sampled_from([0, 0, -1, 1, None]),
    )
    def append(self, who: int, stream: str, paid: list[int], off: int | None) -> None:
        version = len(self.past[stream])
        expected = ANY if off is None else max(NONE, version + off)
        if expected not in (ANY, version):
            with pytest.raises(VersionConflict) as raised:
                self.run(self._append(who, stream, paid, expected))
            assert (raised.value.expected, raised.value.actual) == (expected, version)
            return
        made = self.run(self._append(who, stream, paid, expected))
        self.note(stream, *paid)
        assert made == len(self.past[stream])

    async def _append(
        self, who: int, stream: str, paid: list[int], expected: int, *, keep: bool = True
    ) -> int:
        ledger = self.world.ledgers[who]
        async with ledger.db.tx() as tx:
            made = await ledger.account.append(
                tx, self.prefix + stream, [Paid(n) for n in paid], expected=expected
            )
            if not keep:
                loaded = await ledger.account.load(tx, self.prefix + stream)
                assert loaded.state == state_of([*self.past[stream], *((0.0, n) for n in paid)])
                raise ZeroDivisionError
        return made

    @rule(who=who, stream=streams, paid=st.lists(amounts, min_size=1, max_size=4))
    def append_and_roll_back(self, who: int, stream: str, paid: list[int]) -> None:
        with pytest.raises(ZeroDivisionError):
            self.run(self._append(who, stream, paid, ANY, keep=False))

    @rule(who=who, stream=streams, amount=amounts)
    def draw(self, who: int, stream: str, amount: int) -> None:
        state = state_of(self.past[stream])
        if amount > state.amount:
            with pytest.raises(Overdrawn):
                self.run(self._handle(who, {stream: Draw(amount)}))
            return
        self.run(self._handle(who, {stream: Draw(amount)}))
        self.note(stream, -amount)
        self.load(who, stream)

    @rule(who=who, commands=st.dictionaries(streams, amounts, min_size=1))
    def pay_many(self, who: int, commands: dict[str, int]) -> None:
        done = self.run(self._handle(who, {stream: Pay(n) for stream, n in commands.items()}))
        for stream, amount in sorted(commands.items()):
            self.note(stream, amount)
            loaded = done[self.prefix + stream]
            assert (loaded.state, loaded.version) == (state_of(self.past[stream]), len(self.past[stream]))

    async def _handle(self, who: int, commands: dict[str, Any]) -> dict[str, Any]:
        ledger = self.world.ledgers[who]
        async with ledger.db.tx() as tx:
            given = {self.prefix + stream: command for stream, command in sorted(commands.items())}
            return await ledger.account.handle_many(tx, given)

    @rule(who=who, stream=streams)
    def load(self, who: int, stream: str) -> None:
        ledger, past = self.world.ledgers[who], self.past[stream]
        loaded = self.run(ledger.account.load(ledger.db.read(), self.prefix + stream))
        assert (loaded.state, loaded.version) == (state_of(past), len(past))

    @rule(who=who, stream=streams, share=st.floats(0, 1))
    def load_a_version(self, who: int, stream: str, share: float) -> None:
        ledger, past = self.world.ledgers[who], self.past[stream]
        version = round(share * len(past))
        loaded = self.run(ledger.account.load(ledger.db.read(), self.prefix + stream, version=version))
        assert (loaded.state, loaded.version) == (state_of(past[:version]), version)

    @rule(who=who, stream=streams, ago_s=st.integers(0, 20))
    def load_a_time(self, who: int, stream: str, ago_s: int) -> None:
        ledger, time_s = self.world.ledgers[who], self.world.clock.now() - ago_s
        past = [entry for entry in self.past[stream] if entry[0] <= time_s]
        at = datetime.fromtimestamp(time_s, UTC)
        loaded = self.run(ledger.account.load(ledger.db.read(), self.prefix + stream, at=at))
        assert (loaded.state, loaded.version) == (state_of(past), len(past))

    @rule(who=who, stream=streams, after=st.integers(0, 5), count=st.integers(0, 5))
    def look_back(self, who: int, stream: str, after: int, count: int) -> None:
        ledger = self.world.ledgers[who]

        async def read() -> list[int]:
            found = ledger.account.history(
                ledger.db.read(), self.prefix + stream, after=after, until=after + count
            )
            return [-e.data.amount if isinstance(e.data, Drawn) else e.data.amount async for e in found]

        assert self.run(read()) == [by for _, by in self.past[stream][after : after + count]]

    def teardown(self) -> None:
        """All events together have the order in which they were committed."""
        self.run(self._judge_order())

    async def _judge_order(self) -> None:
        ledger = self.world.ledgers[0]
        store = store_of(ledger.db)
        async with ledger.db.tx() as tx:
            last = -1
            while last != (last := await store.horizon(tx)):
                pass
        rows = await store.follow(ledger.db.read(), [], 0, END, 10**7)
        mine = [
            (r.stream.removeprefix(self.prefix), r.version) for r in rows if r.stream.startswith(self.prefix)
        ]
        assert mine == self.order


@contextmanager
def world(folder: Path, url: str) -> Generator[World]:
    """Two processes on a database of their own."""
    loop = asyncio.new_event_loop()
    one, two = (Ledger(snapshot_every=3) for _ in range(2))
    app = one.app()
    app.configure(
        app__data_dir=str(folder), app__env="development", database__url=url, database__watch=False,
        worker__enabled=False,
    )  # fmt: skip
    lifespan = app.lifespan()
    loop.run_until_complete(lifespan.__aenter__())
    try:
        clock = ManualClock()
        two.db.bind(one.db.backend)
        for ledger in (one, two):
            ledger.account.bind(clock, (), None)
        yield World(loop, clock, [one, two])
    finally:
        loop.run_until_complete(lifespan.__aexit__(None, None, None))
        loop.close()


def judge(folder: Path, url: str, machine: type[Streams], examples: int, steps: int) -> None:
    """Run so many examples; raises what the first one that fails does."""
    with world(folder, url) as made:
        machine.world = made
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
                suppress_health_check=list(HealthCheck), phases=[Phase.generate],
            ),
        )  # fmt: skip
