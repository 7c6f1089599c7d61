"""The life of messages against a simple model: random enqueues, workers that crash or are late, time, admins.

Invariants: a message is in exactly one place; its effect exists exactly once if it is done and never otherwise,
and is never that of a run which had lost its lease;
messages of one key take effect in order; only one pending message holds a unique key; nothing is stuck.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support.queues import Rig, add_effect, rig
from support.trials import soak
from tenfold.db import Tx
from tenfold.errors import RetryLater
from tenfold.jobs import Job, Retry, current_job
from tenfold.queue.admin import Filter
from tenfold.queue.message import Message
from tenfold.queue.testing import run_pending
from tenfold.queue.worker import Worker

late: list[Message] = []
"""Claimed messages whose worker had lost the lease before it went on."""

plan: dict[int, list[str]] = {}
"""What each numbered job does in its next runs; ok when there is nothing more."""


async def act(n: int, tx: Tx) -> None:
    step = plan[n].pop(0) if plan[n] else "ok"
    message = current_job()._message
    was_late = any(message is m for m in late)
    await tx.execute(add_effect, what=f"{n} {message.id}{' late' if was_late else ''}")
    if step == "fail":
        raise ValueError("planned")
    if step == "later":
        raise RetryLater(5)


class Life(RuleBasedStateMachine):
    """Drives the real queue; ``self.enqueued`` and ``self.gone`` are the model."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.folder = tempfile.TemporaryDirectory()
        self.job: Job[Any, None] = Job("s", act, timeout=None, retry=Retry(attempts=3, base_s=4))
        self.narrow: Job[Any, None] = Job("s", act, name="narrow", timeout=None, concurrency=1)
        self.r: Rig = self.run(
            self.stack.enter_async_context(rig(Path(self.folder.name), self.job, self.narrow))
        )
        self.enqueued: dict[int, int] = {}
        """Message id → number of the job."""
        self.stopped: list[tuple[Worker, list[Message]]] = []
        self.n = 0
        plan.clear()
        late.clear()

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    specs = st.lists(
        st.fixed_dictionaries(
            {
                "steps": st.lists(st.sampled_from(["ok", "fail", "later"]), max_size=3),
                "delay": st.sampled_from([0, 0, 0, 3, 30]),
                "key": st.sampled_from([None, None, "a", "b"]),
                "unique": st.sampled_from([False, False, "u"]),
                "narrow": st.booleans(),
            }
        ),
        min_size=1,
        max_size=5,
    )

    @rule(specs=specs, commit=st.sampled_from([True, True, True, False]))
    def enqueue(self, specs: list[dict[str, Any]], commit: bool) -> None:
        async def work() -> None:
            handles: list[tuple[int, dict[str, Any], Any]] = []
            try:
                async with self.r.db.tx() as tx:
                    for spec in specs:
                        self.n += 1
                        job = self.narrow if spec["narrow"] else self.job
                        job = job.options(delay=spec["delay"], key=spec["key"], unique=spec["unique"])
                        handles.append((self.n, spec, await job.enqueue(tx, self.n)))
                    if not commit:
                        raise ValueError("rolled back")
            except ValueError:
                return
            for n, spec, handle in handles:
                if not handle.existed:
                    plan[n] = list(spec["steps"])
                    self.enqueued[handle.id] = n

        self.run(work())

    @rule(seconds=st.sampled_from([1, 4, 40]))
    def time_passes(self, seconds: int) -> None:
        self.run(self.r.clock.advance(seconds))

    @rule()
    def a_worker_works(self) -> None:
        self.run(run_pending(self.r.worker()))

    @rule(rivals=st.sampled_from([0, 1, 2]))
    def a_worker_claims_and_is_stopped(self, rivals: int) -> None:
        """``rivals``: then its lease runs out, another claims what it held, and is stopped too."""

        async def claim() -> None:
            worker = self.r.worker()
            async with self.r.db.tx() as tx:
                claimed = await worker._claimer.claim(tx, 5, 0)
            if claimed.messages:
                self.stopped.append((worker, claimed.messages))

        async def work() -> None:
            await claim()
            for _ in range(rivals):
                await self.r.clock.advance(16)
                await claim()

        self.run(work())

    @precondition(lambda self: self.stopped)
    @rule(data=st.data())
    def a_stopped_worker_goes_on(self, data: st.DataObject) -> None:
        """Within its lease or long after it."""
        worker, messages = self.stopped.pop(data.draw(st.integers(0, len(self.stopped) - 1)))

        async def work() -> None:
            mine = sa.text("SELECT id FROM tenfold_message WHERE state = 'running' AND worker = :worker")
            held = await self.r.db.read().all(mine, int, worker=worker.name)
            late.extend(m for m in messages if m.id not in held)
            worker.runs.accept(messages, worker, "")
            await run_pending(worker)

        self.run(work())

    @precondition(lambda self: self.stopped)
    @rule()
    def a_stopped_worker_dies(self) -> None:
        self.stopped.pop()

    @precondition(lambda self: self.enqueued)
    @rule(data=st.data())
    def somebody_cancels(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(sorted(self.enqueued)))
        self.run(self.r.admin.cancel(id_))

    @rule()
    def somebody_retries_what_is_dead(self) -> None:
        self.run(self.r.admin.retry_all(Filter(state="dead")))

    @invariant()
    def every_message_is_in_one_place_and_its_effect_fits_its_state(self) -> None:
        states, did = self.run(self.r.states()), self.run(self.r.did())
        assert set(states) == set(self.enqueued)
        expected = Counter(f"{n} {id_}" for id_, n in self.enqueued.items() if states[id_] == "done")
        assert Counter(did) == expected  # nothing of a late run among it

    @invariant()
    def a_key_has_one_head_and_a_limit_one_run(self) -> None:
        heads = sa.text(
            "SELECT count(*) FROM tenfold_message WHERE order_key IS NOT NULL AND state <> 'waiting' "
            "GROUP BY order_key"
        )
        waiting = sa.text(
            "SELECT count(*) FROM tenfold_message w WHERE state = 'waiting' AND NOT EXISTS "
            "(SELECT 1 FROM tenfold_message h WHERE h.order_key = w.order_key AND h.state <> 'waiting')"
        )
        running = sa.text(
            "SELECT count(*) FROM tenfold_message WHERE state = 'running' AND handler = 's.narrow'"
        )
        read = self.r.db.read()
        assert all(count == 1 for count in self.run(read.all(heads, int)))
        assert self.run(read.scalar(waiting)) == 0
        assert self.run(read.scalar(running)) <= 1

    def teardown(self) -> None:
        """Given time and a worker that lives, everything ends."""

        async def finish() -> None:
            for _ in range(40):
                await self.r.clock.advance(20)
                await run_pending(self.r.worker())
            assert set((await self.r.states()).values()) <= {"done", "dead", "cancelled"}

        try:
            self.run(finish())
            self.every_message_is_in_one_place_and_its_effect_fits_its_state()
        finally:
            self.run(self.stack.aclose())
            self.loop.close()
            self.folder.cleanup()


def judged(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


Life.TestCase.settings = judged(15)
TestLife = Life.TestCase


@pytest.mark.soak
def test_a_long_life() -> None:
    run_state_machine_as_test(Life, settings=judged(soak(2_000)))
