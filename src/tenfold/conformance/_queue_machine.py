"""The life of messages against a model: two workers put in, claim, settle (late ones too), time passes, leases end.

The model is what the contract says, in plain Python; after every step rows, states and fences are compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, TypeVar

import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tenfold.conformance._queue_case import LEASE_S, NOW, QueueCase, Worker, new
from tenfold.db.database import Database
from tenfold.queue.message import Message, Settlement, Verdict
from tenfold.queue.tables import archive, message

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]
Empty = Callable[[Database], Coroutine[Any, Any, None]]

hot_rows = sa.select(message.c.id, message.c.state, message.c.fence)
cold_rows = sa.select(archive.c.id, archive.c.state, archive.c.fence)

SPECS = st.lists(
    st.fixed_dictionaries(
        {
            "delay": st.sampled_from([0, 0, 0, 3, 30]),
            "priority": st.sampled_from([0, 0, 5, -5]),
            "order_key": st.sampled_from([None, None, "a", "b"]),
            "unique_key": st.sampled_from([None, None, None, "u", "v"]),
        }
    ),
    min_size=1,
    max_size=4,
)
VERDICTS: st.SearchStrategy[Verdict] = st.sampled_from(
    ["done", "done", "dead", "cancelled", "retry", "release", "park", "crash"]
)
PENDING = frozenset({"ready", "delayed", "waiting", "parked"})


@dataclass
class Row:
    """What the model knows of one message."""

    id: int
    state: str
    priority: int
    run_at: float
    order_key: str | None
    unique_key: str | None
    fence: int = 0
    lease_until: float = 0.0
    holds_key: bool = True
    """It is the pending one of its unique key."""


@dataclass
class Model:
    """The contract, without a database."""

    now: float = NOW
    rows: dict[int, Row] = field(default_factory=dict[int, Row])

    def hot(self) -> list[Row]:
        return [row for row in self.rows.values() if row.state in PENDING or row.state == "running"]

    def holder(self, unique_key: str | None) -> Row | None:
        """The pending message with this unique key."""
        found = (r for r in self.hot() if r.unique_key == unique_key and r.holds_key and r.state in PENDING)
        return next(found, None) if unique_key is not None else None

    def has_head(self, order_key: str | None) -> bool:
        return any(row.order_key == order_key and row.state != "waiting" for row in self.hot())

    def put(self, id_: int, spec: dict[str, Any]) -> None:
        behind = spec["order_key"] is not None and self.has_head(spec["order_key"])
        state = "waiting" if behind else "delayed" if spec["delay"] else "ready"
        self.rows[id_] = Row(
            id_, state, spec["priority"], self.now + spec["delay"], spec["order_key"], spec["unique_key"]
        )

    def claim(self, limit: int) -> list[Row]:
        ready = sorted((r for r in self.hot() if r.state == "ready"), key=lambda r: (r.priority, r.id))[
            :limit
        ]
        for row in ready:
            row.state, row.fence, row.lease_until = "running", row.fence + 1, self.now + LEASE_S
            row.holds_key = False
        return ready

    def holds(self, id_: int, fence: int) -> bool:
        return self.rows[id_].state == "running" and self.rows[id_].fence == fence

    def settle(self, row: Row, verdict: str, run_at: float) -> None:
        if verdict in ("done", "dead", "cancelled"):
            self.finish(row, verdict)
        elif self.holder(row.unique_key) is not None:
            self.finish(row, "cancelled")  # superseded
        else:
            row.holds_key = True
            row.state = {"retry": "delayed", "park": "parked"}.get(verdict, "ready")
            if verdict == "retry":
                row.run_at = run_at
                row.state = "ready" if run_at <= self.now else "delayed"

    def finish(self, row: Row, state: str) -> None:
        row.state = state
        line = sorted(r.id for r in self.hot() if r.order_key == row.order_key and r.state == "waiting")
        if row.order_key is not None and line and not self.has_head(row.order_key):
            head = self.rows[line[0]]
            head.state = "ready" if head.run_at <= self.now else "delayed"


class Life(RuleBasedStateMachine):
    """Drives the backend and the model side by side."""

    def __init__(self, workers: Sequence[Worker], run: Run[Any], empty: Empty) -> None:
        super().__init__()
        self.workers, self.run = workers, run
        self.model = Model()
        self.held: list[Message] = []
        run(empty(workers[0].db))

    @rule(specs=SPECS, who=st.integers(0, 1), commit=st.sampled_from([True, True, True, False]))
    def put(self, specs: list[dict[str, Any]], who: int, commit: bool) -> None:
        worker = self.workers[who]
        rows = [
            new(
                state="delayed" if spec["delay"] else "ready", run_at=self.model.now + spec["delay"],
                created_at=self.model.now, **{k: v for k, v in spec.items() if k != "delay"},
            )
            for spec in specs
        ]  # fmt: skip

        async def work() -> list[Any]:
            with suppress(ZeroDivisionError):
                async with worker.db.tx() as tx:
                    stored = await worker.queue.insert(tx, rows)
                    if commit:
                        return stored
                    raise ZeroDivisionError
            return []

        for spec, stored in zip(specs, self.run(work()), strict=commit):
            there = self.model.holder(spec["unique_key"])
            assert stored.existed == (there is not None)
            if there is None:
                assert stored.id not in self.model.rows
                self.model.put(stored.id, spec)
            else:
                assert stored.id == there.id

    @rule(seconds=st.sampled_from([1, 4, 16, 40]))
    def time_passes(self, seconds: int) -> None:
        self.model.now += seconds

    @rule(who=st.integers(0, 1))
    def somebody_wakes_what_is_due(self, who: int) -> None:
        due = [r for r in self.model.hot() if r.state == "delayed" and r.run_at <= self.model.now]
        assert self.run(self.workers[who].wake(self.model.now)) == len(due)
        for row in due:
            row.state = "ready"

    @rule(who=st.integers(0, 1), limit=st.integers(1, 4))
    def somebody_claims(self, who: int, limit: int) -> None:
        got: list[Message] = self.run(self.workers[who].claim(limit, now=self.model.now))
        expected = self.model.claim(limit)
        assert [(m.id, m.fence) for m in got] == [(r.id, r.fence) for r in expected]
        self.held += got

    @precondition(lambda self: self.held)
    @rule(data=st.data(), who=st.integers(0, 1))
    def somebody_settles(self, data: st.DataObject, who: int) -> None:
        """In time or long after it; of one unique key only one at once, since no order is promised among them."""
        chosen = data.draw(st.lists(st.sampled_from(self.held), min_size=1, max_size=3, unique_by=_apart))
        run_at = self.model.now + data.draw(st.sampled_from([0, 5, 50]))
        self._settle(who, [Settlement(m.id, m.fence, data.draw(VERDICTS), run_at=run_at) for m in chosen])

    def _settle(self, who: int, settlements: list[Settlement]) -> None:
        lost = self.run(self.workers[who].settle(*settlements, now=self.model.now))
        assert lost == {s.id for s in settlements if not self.model.holds(s.id, s.fence)}
        ending_first = sorted(settlements, key=lambda s: s.verdict not in ("done", "dead", "cancelled"))
        for s in ending_first:
            if s.id not in lost:
                self.model.settle(self.model.rows[s.id], s.verdict, s.run_at)

    @rule(who=st.integers(0, 1))
    def somebody_takes_back_what_has_expired(self, who: int) -> None:
        worker = self.workers[who]

        async def find() -> list[Any]:
            async with worker.db.tx() as tx:
                return await worker.queue.expired(tx, self.model.now, 100)

        found = self.run(find())
        late = [r for r in self.model.hot() if r.state == "running" and r.lease_until < self.model.now]
        assert {(e.id, e.fence) for e in found} == {(r.id, r.fence) for r in late}
        for row in late:
            settlement = Settlement(row.id, row.fence, "crash", crashes=1)
            assert self.run(worker.settle(settlement, now=self.model.now)) == set()
            self.model.settle(row, "crash", 0)

    @precondition(lambda self: self.held)
    @rule(who=st.integers(0, 1))
    def a_worker_is_silent_for_too_long(self, who: int) -> None:
        """Another takes its messages over; then it says that it is done with one of them."""
        late = self.held[-1]
        self.model.now += LEASE_S + 1
        self.somebody_takes_back_what_has_expired(who)
        self.somebody_claims(who, 4)
        self._settle(1 - who, [Settlement(late.id, late.fence, "done")])

    @invariant()
    def rows_states_and_fences_are_the_models(self) -> None:
        hot, cold = self.run(_rows(self.workers[0].db))
        assert sorted(hot + cold) == sorted((r.id, r.state, r.fence) for r in self.model.rows.values())
        assert {id_ for id_, *_ in hot} == {r.id for r in self.model.hot()}


async def _rows(db: Database) -> tuple[list[Any], list[Any]]:
    """The hot and the archived ones."""
    reader = db.read()
    return await reader.all(hot_rows, tuple), await reader.all(cold_rows, tuple)


def _apart(m: Message) -> int:
    return m.id


class MachineClaims(QueueCase):
    examples: ClassVar[int] = 12
    """Random histories, of 25 steps each."""
    shrink: ClassVar[bool] = True
    """Look for the shortest history that goes wrong."""

    async def test_random_histories_end_as_the_contract_says(self, one: Worker, two: Worker) -> None:
        """Whatever callers, workers and time do, rows, states and fences are those of a simple model."""
        loop = asyncio.get_running_loop()

        def run(work: Coroutine[Any, Any, Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(work, loop).result(30)

        phases = [Phase.generate, Phase.shrink] if self.shrink else [Phase.generate]
        bounded = settings(
            phases=phases,
            max_examples=self.examples, stateful_step_count=25, deadline=None, database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        )  # fmt: skip
        made: Any = partial(Life, (one, two), run, self.empty)
        await asyncio.to_thread(run_state_machine_as_test, made, settings=bounded)
