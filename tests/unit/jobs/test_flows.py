"""Flows: steps that are not repeated, retries of steps, waiting without a worker, changed code."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.queues import add_effect, rig
from tenfold import Flow
from tenfold._core.container import injected
from tenfold.db import Tx
from tenfold.errors import (
    DeclarationError,
    JobFailed,
    StepFailed,
    WaitTimedOut,
    WrongArguments,
)
from tenfold.jobs import Job, Retry, current_job
from tenfold.queue.testing import run_pending

pytestmark = pytest.mark.anyio

NEVER = Retry(attempts=1)


class Payment(msgspec.Struct):
    order: int
    amount: float


def job(fn: Any, **options: Any) -> Job[Any, Any]:
    return Job("s", fn, **{"name": "flow", "result_ttl": 600, **options})


class Calls(Counter[str]):
    """Step functions that count their runs."""

    async def charge(self, order: int) -> Payment:
        self["charge"] += 1
        return Payment(order, 9.5)

    async def ship(self, payment: Payment) -> str:
        self["ship"] += 1
        return f"shipped {payment.order}"


async def test_a_step_is_run_once_and_its_result_comes_back_in_its_type(tmp_path: Path) -> None:
    calls, runs = Calls(), []

    async def flow(order: int, flow: Flow = injected()) -> str:
        runs.append(current_job().attempt)
        payment = await flow.step("charge", calls.charge, order)
        assert isinstance(payment, Payment)
        if len(runs) < 3:
            raise ValueError("the power is out")
        return await flow.step("ship", calls.ship, payment)

    fulfil = job(flow, retry=Retry(base_s=0))
    async with rig(tmp_path, fulfil) as r:
        handle = await fulfil.enqueue(r.db, order=7)
        await run_pending(r.worker())
        assert await handle.result() == "shipped 7"
        assert (len(runs), calls) == (3, {"charge": 1, "ship": 1})


async def test_a_step_with_a_transaction_commits_together_with_its_record(tmp_path: Path) -> None:
    async def write(what: str, tx: Tx = injected()) -> int:
        await tx.execute(add_effect, what=what)
        if len(attempts) == 0:
            attempts.append(1)
            raise ValueError("after the effect")
        return 1

    attempts: list[int] = []

    async def flow(flow: Flow = injected()) -> int:
        return await flow.step("write", write, "once") + await flow.step("again", write, "twice")

    made = job(flow, retry=Retry(base_s=0))
    async with rig(tmp_path, made) as r:
        handle = await made.enqueue(r.db)
        await run_pending(r.worker())
        assert await handle.result() == 2
        assert await r.did() == ["once", "twice"]


async def test_the_second_use_of_a_name_is_another_step(tmp_path: Path) -> None:
    calls = Calls()

    async def flow(flow: Flow = injected()) -> None:
        for order in range(3):
            await flow.step("charge", calls.charge, order)

    made = job(flow)
    async with rig(tmp_path, made) as r:
        handle = await made.enqueue(r.db)
        await run_pending(r.worker())
        assert [step.name for step in await handle.steps()] == ["charge", "charge#2", "charge#3"]
        assert calls["charge"] == 3


async def test_steps_run_side_by_side(tmp_path: Path) -> None:
    meeting = asyncio.Barrier(3)

    async def meet(n: int) -> int:
        await meeting.wait()
        return n

    async def flow(flow: Flow = injected()) -> list[int]:
        return await asyncio.gather(*(flow.step(f"meet {n}", meet, n) for n in range(3)))

    made = job(flow)
    async with rig(tmp_path, made) as r:
        handle = await made.enqueue(r.db)
        await run_pending(r.worker())
        assert await handle.result() == [0, 1, 2]


async def test_each_step_has_the_attempts_of_its_own_policy_and_waits_without_a_worker(
    tmp_path: Path,
) -> None:
    tried: list[tuple[int, float]] = []
    keys: set[str] = set()

    async def flaky() -> str:
        tried.append((current_job().attempt, r.clock.now()))
        keys.add(current_job().idempotency_key)
        if len(tried) < 3:
            raise ConnectionError("no route")
        return "there"

    async def flow(flow: Flow = injected()) -> str:
        return await flow.options(retry=Retry(attempts=3, base_s=10, jitter=False)).step("call", flaky)

    made = job(flow, retry=NEVER)
    async with rig(tmp_path, made) as r:
        worker = r.worker()
        begun = r.clock.now()
        handle = await made.enqueue(r.db)
        await run_pending(worker)
        status = await handle.status()
        assert (status.state, status.error.split("\n")[0]) == ("delayed", "ConnectionError: no route")
        assert worker.runs.running == 0
        for seconds in (10, 20):
            await r.clock.advance(seconds)
            await run_pending(worker)
        assert await handle.result() == "there"
        assert [(n, at - begun) for n, at in tried] == [(1, 0), (2, 10), (3, 30)]
        assert len(keys) == 1


async def test_a_flow_may_handle_a_step_that_failed_for_good_and_sees_the_same_in_every_run(
    tmp_path: Path,
) -> None:
    seen: list[tuple[str, str, str]] = []
    runs: list[int] = []

    async def charge() -> None:
        raise ValueError("the card is not valid")

    async def refuse() -> str:
        return "refused"

    async def flow(flow: Flow = injected()) -> str:
        try:
            await flow.step("charge", charge)
        except StepFailed as error:
            seen.append((error.step, error.kind, error.reason))
        runs.append(1)
        if len(runs) == 1:
            raise OSError("again")
        return await flow.step("refuse", refuse)

    made = job(flow, retry=Retry(attempts=2, base_s=0))
    async with rig(tmp_path, made) as r:
        handle = await made.enqueue(r.db)
        await run_pending(r.worker())
        assert await handle.result() == "refused"
        assert seen == [("charge", "ValueError", "the card is not valid")] * 2


async def test_a_fatal_error_has_no_other_attempt(tmp_path: Path) -> None:
    tried: list[int] = []

    async def charge() -> None:
        tried.append(1)
        raise PermissionError("stolen card")

    async def flow(flow: Flow = injected()) -> None:
        await flow.options(fatal=(PermissionError,)).step("charge", charge)

    made = job(flow)
    async with rig(tmp_path, made) as r:
        handle = await made.enqueue(r.db)
        await run_pending(r.worker())
        status = await handle.status()
        assert status.state == "dead"
        assert "step 'charge' failed 1 times: PermissionError: stolen card" in status.error
        assert tried == [1]


async def test_a_dead_flow_that_is_retried_tries_again_what_failed_and_repeats_nothing(
    tmp_path: Path,
) -> None:
    calls = Calls()

    async def ship(payment: Payment) -> str:
        calls["ship"] += 1
        if calls["ship"] == 1:
            raise ValueError("no van")
        return "gone"

    async def flow(flow: Flow = injected()) -> str:
        payment = await flow.step("charge", calls.charge, 1)
        return await flow.step("ship", ship, payment)

    made = job(flow, retry=NEVER)
    async with rig(tmp_path, made) as r:
        worker = r.worker()
        handle = await made.enqueue(r.db)
        await run_pending(worker)
        assert (await handle.status()).state == "dead"
        await r.admin.retry(handle.id)
        await run_pending(worker)
        assert await handle.result() == "gone"
        assert calls == {"charge": 1, "ship": 2}


async def test_a_flow_sleeps_without_a_worker(tmp_path: Path) -> None:
    calls = Calls()

    async def flow(flow: Flow = injected()) -> str:
        payment = await flow.step("charge", calls.charge, 1)
        await flow.sleep(timedelta(hours=1))
        return await flow.step("ship", calls.ship, payment)

    made = job(flow)
    async with rig(tmp_path, made) as r:
        worker = r.worker()
        handle = await made.enqueue(r.db)
        await run_pending(worker)
        assert (await handle.status()).state == "delayed"
        assert not worker.runs.held
        await r.clock.advance(3599)
        assert await run_pending(worker) == 0
        await r.clock.advance(1)
        await run_pending(worker)
        assert await handle.result() == "shipped 1"
        assert calls == {"charge": 1, "ship": 1}


async def test_a_flow_waits_until_a_moment(tmp_path: Path) -> None:
    async def flow(at: float, flow: Flow = injected()) -> None:
        await flow.until(datetime.fromtimestamp(at, UTC))

    made = job(flow)
    async with rig(tmp_path, made) as r:
        worker = r.worker()
        handle = await made.enqueue(r.db, at=r.clock.now() + 60)
        await run_pending(worker)
        await r.clock.advance(60)
        await run_pending(worker)
        assert (await handle.status()).state == "done"


async def test_waits_and_steps_side_by_side(tmp_path: Path) -> None:
    calls = Calls()

    async def slowly(flow: Flow) -> str:
        await flow.sleep(60)
        return await flow.step("ship", calls.ship, Payment(1, 1))

    async def flow(flow: Flow = injected()) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            slow = group.create_task(slowly(flow))
            quick = group.create_task(flow.step("charge", calls.charge, 2))
        return [slow.result(), quick.result().order]

    made = job(flow)
    async with rig(tmp_path, made) as r:
        worker = r.worker()
        handle = await made.enqueue(r.db)
        await run_pending(worker)
        assert calls == {"charge": 1}
        await r.clock.advance(60)
        await run_pending(worker)
        assert await handle.result() == ["shipped 1", 2]
        assert calls == {"charge": 1, "ship": 1}


class Approval(msgspec.Struct):
    by: str


async def approving(flow: Flow = injected()) -> str:
    try:
        approval = await flow.signal("approved", Approval, timeout=timedelta(days=1))
    except WaitTimedOut:
        return "too late"
    return approval.by


async def test_a_signal_wakes_the_flow_that_waits_for_it(tmp_path: Path) -> None:
    made = job(approving)
    async with rig(tmp_path, made) as r:
        worker = r.worker()
        handle = await made.enqueue(r.db)
        await run_pending(worker)
        async with r.db.tx() as tx:
            assert await handle.signal(tx, "approved", Approval("Ada"))
        await run_pending(worker)
        assert await handle.result() == "Ada"


async def test_a_signal_that_comes_before_the_wait_is_kept(tmp_path: Path) -> None:
    made = job(approving)
    async with rig(tmp_path, made) as r:
        async with r.db.tx() as tx:
            handle = await made.enqueue(tx)
            await handle.signal(tx, "approved", Approval("Ada"))
            await handle.signal(tx, "approved", Approval("Grace"))
        await run_pending(r.worker())
        assert await handle.result() == "Ada"


async def test_a_signal_that_is_rolled_back_was_never_sent(tmp_path: Path) -> None:
    made = job(approving)
    async with rig(tmp_path, made) as r:
        worker = r.worker()
        handle = await made.enqueue(r.db)
        await run_pending(worker)
        with pytest.raises(ValueError, match="no"):
            async with r.db.tx() as tx:
                await handle.signal(tx, "approved", Approval("Ada"))
                raise ValueError("no")
        assert await run_pending(worker) == 0
        await r.clock.advance(86_400)
        await run_pending(worker)
        assert await handle.result() == "too late"


async def test_a_signal_to_a_flow_that_has_ended_is_refused(tmp_path: Path) -> None:
    async def flow(flow: Flow = injected()) -> None: ...

    made = job(flow)
    async with rig(tmp_path, made) as r:
        handle = await made.enqueue(r.db)
        await run_pending(r.worker())
        async with r.db.tx() as tx:
            assert not await handle.signal(tx, "approved")


async def test_a_signal_does_not_wake_who_waits_for_another(tmp_path: Path) -> None:
    made = job(approving)
    async with rig(tmp_path, made) as r:
        worker = r.worker()
        handle = await made.enqueue(r.db)
        await run_pending(worker)
        async with r.db.tx() as tx:
            await handle.signal(tx, "other")
        assert await run_pending(worker) == 0


async def changed(tmp_path: Path, first: Any, second: Any) -> str:
    """The error of a flow that began with the code ``first`` and went on with ``second``."""
    before, after = job(first), job(second)
    async with rig(tmp_path, before) as r:
        handle = await before.enqueue(r.db)
        await run_pending(r.worker())
        after.bind(r.queues, r.container, r.db)
        await r.clock.advance(60)
        worker = r.worker(handlers={"s.flow": after.bind(r.queues, r.container, r.db)})
        await run_pending(worker)
        status = await handle.status()
        assert status.state == "dead"
        return status.error or ""


async def test_a_step_that_was_renamed_is_not_run_and_the_message_is_kept(tmp_path: Path) -> None:
    calls = Calls()

    async def before(flow: Flow = injected()) -> None:
        await flow.step("charge", calls.charge, 1)
        await flow.sleep(60)

    async def after(flow: Flow = injected()) -> None:
        await flow.step("pay", calls.charge, 1)
        await flow.sleep(60)

    error = await changed(tmp_path, before, after)
    assert error.startswith(
        "tenfold.errors.FlowChanged: s.flow 1 does not follow the steps that it has recorded: "
    )
    assert "'charge' is recorded, but the code that is running came to 'pay'" in error
    assert calls == {"charge": 1}


async def test_a_recorded_step_that_the_code_does_not_come_to_any_more_is_told(tmp_path: Path) -> None:
    async def before(flow: Flow = injected()) -> None:
        await flow.step("charge", Calls().charge, 1)
        await flow.sleep(60)

    async def after(flow: Flow = injected()) -> None: ...

    assert "did not come to the recorded step 'charge'" in await changed(tmp_path, before, after)


async def test_a_recorded_result_that_does_not_fit_the_type_any_more_is_told(tmp_path: Path) -> None:
    async def number() -> int:
        return 1

    async def text() -> str:
        return "1"

    async def before(flow: Flow = injected()) -> None:
        await flow.step("read", number)
        await flow.sleep(60)

    async def after(flow: Flow = injected()) -> None:
        await flow.step("read", text)

    assert "the result of 'read' does not fit any more" in await changed(tmp_path, before, after)


async def test_a_step_that_has_become_a_wait_is_told(tmp_path: Path) -> None:
    async def before(flow: Flow = injected()) -> None:
        await flow.step("pause", Calls().charge, 1)
        await flow.sleep(60)

    async def after(flow: Flow = injected()) -> None:
        await flow.sleep(1, name="pause")

    assert "'pause' is recorded as a step" in await changed(tmp_path, before, after)


async def test_a_flow_that_went_back_to_its_code_goes_on_where_it_was(tmp_path: Path) -> None:
    calls = Calls()

    async def right(flow: Flow = injected()) -> str:
        payment = await flow.step("charge", calls.charge, 1)
        await flow.sleep(60)
        return await flow.step("ship", calls.ship, payment)

    async def wrong(flow: Flow = injected()) -> str:
        return await flow.step("other", calls.ship, Payment(1, 1))

    good, bad = job(right), job(wrong)
    async with rig(tmp_path, good) as r:
        handle = await good.enqueue(r.db)
        await run_pending(r.worker())
        await r.clock.advance(60)
        await run_pending(r.worker(handlers={"s.flow": bad.bind(r.queues, r.container, r.db)}))
        await r.admin.retry(handle.id)
        await run_pending(r.worker())
        assert await handle.result() == "shipped 1"
        assert calls == {"charge": 1, "ship": 1}


async def test_a_cancelled_flow_does_not_wake_again(tmp_path: Path) -> None:
    made = job(approving)
    async with rig(tmp_path, made) as r:
        worker = r.worker()
        handle = await made.enqueue(r.db)
        await run_pending(worker)
        assert await handle.cancel()
        await r.clock.advance(86_400)
        assert await run_pending(worker) == 0
        assert (await handle.status()).state == "cancelled"


async def test_nothing_is_done_while_a_flow_is_put_to_sleep(tmp_path: Path) -> None:
    calls = Calls()

    async def flow(flow: Flow = injected()) -> None:
        try:
            await flow.sleep(60)
        finally:
            await flow.step("charge", calls.charge, 1)

    made = job(flow)
    async with rig(tmp_path, made) as r:
        worker = r.worker()
        handle = await made.enqueue(r.db)
        await run_pending(worker)
        assert not calls
        await r.clock.advance(60)
        await run_pending(worker)
        assert (await handle.status()).state == "done"
        assert calls == {"charge": 1}


class Bank:
    name = "the bank"


async def test_dependencies_and_plain_functions_in_steps(tmp_path: Path) -> None:
    def charge(order: int, bank: Bank = injected()) -> str:
        return f"{order} by {bank.name}"

    async def flow(flow: Flow = injected()) -> str:
        return await flow.step("charge", charge, 4)

    made = job(flow)
    async with rig(tmp_path) as r:
        r.container.provide(Bank, Bank)
        r.handlers[made.name] = made.bind(r.queues, r.container, r.db)
        handle = await made.enqueue(r.db)
        await run_pending(r.worker())
        assert await handle.result() == "4 by the bank"


@pytest.mark.parametrize(
    ("options", "fault"),
    [({"cpu": True}, "another process"), ({"unique": True}, "unique")],
)
async def test_what_a_flow_cannot_have_is_said_at_start(
    tmp_path: Path, options: dict[str, Any], fault: str
) -> None:
    with pytest.raises(DeclarationError, match=fault):
        async with rig(tmp_path, job(approving, **options)):
            pass


async def test_a_flow_does_not_take_a_transaction(tmp_path: Path) -> None:
    async def flow(tx: Tx, flow: Flow) -> None: ...

    with pytest.raises(DeclarationError, match="Tx"):
        async with rig(tmp_path, job(flow)):
            pass


async def test_a_name_that_cannot_be_recorded_is_refused(tmp_path: Path) -> None:
    async def flow(flow: Flow = injected()) -> None:
        await flow.step("a#2", Calls().charge, 1)

    made = job(flow, retry=NEVER)
    async with rig(tmp_path, made) as r:
        handle = await made.enqueue(r.db)
        await run_pending(r.worker())
        with pytest.raises(JobFailed, match=WrongArguments.__name__):
            await handle.result()
