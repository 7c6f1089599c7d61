"""Flows on each database, with workers that run: no wake-up is lost, and statements are few."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from support.queue_fire import finished, until
from support.queues import Rig, add_effect, rig
from tenfold import BatchStatus, Flow, batch
from tenfold._core.clock import SystemClock
from tenfold._core.container import injected
from tenfold.db import Tx
from tenfold.db.contract import TxChannel
from tenfold.errors import WaitTimedOut
from tenfold.events import Topic
from tenfold.jobs import Job
from tenfold.jobs.delivery import Delivery
from tenfold.queue.testing import run_pending

pytestmark = pytest.mark.anyio

SECONDS = 30.0


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return "sqlite:///app.db"
    fixture = "postgres_url" if request.param == "postgresql" else "mariadb_url"
    url: str = request.getfixturevalue(fixture)
    return url


@asynccontextmanager
async def working(folder: Path, database: str, *declared: Any, workers: int = 2) -> AsyncGenerator[Rig]:
    """A queue and workers that run."""
    async with rig(folder, *declared, clock=SystemClock(), database=database) as r:
        made = [r.worker(settings={"poll_s": 0.2}) for _ in range(workers)]
        for worker in made:
            await worker.start()
        try:
            yield r
        finally:
            for worker in made:
                await worker.stop()


async def twice(n: int) -> int:
    return 2 * n


async def note(what: str, tx: Tx = injected()) -> None:
    await tx.execute(add_effect, what=what)


async def test_a_signal_is_not_lost_however_it_meets_the_wait(tmp_path: Path, database: str) -> None:
    async def flow(flow: Flow = injected()) -> int:
        return sum([await flow.signal("number", int) for _ in range(3)])

    made = Job[Any, int]("s", flow, result_ttl=60)
    async with working(tmp_path, database, made) as r:

        async def one(n: int) -> int:
            handle = await made.enqueue(r.db)
            for part in range(3):
                await asyncio.sleep(0.003 * (n % 7))
                async with r.db.tx() as tx:
                    await handle.signal(tx, "number", n + part)
            return await handle.result(SECONDS)

        assert await asyncio.gather(*map(one, range(30))) == [3 * n + 3 for n in range(30)]


class Shipped(msgspec.Struct):
    order: int


async def test_an_event_is_not_lost_however_it_meets_the_wait(tmp_path: Path, database: str) -> None:
    shipped = Topic("s", "shipped", Shipped)
    delivery = Delivery("s", shipped)

    async def flow(order: int, flow: Flow = injected()) -> int:
        first = await flow.event(shipped, key=order)
        second = await flow.event(shipped, key=order)
        return first.order + second.order

    made = Job[Any, int]("s", flow, result_ttl=60, deliveries=[delivery])
    async with working(tmp_path, database, made, delivery) as r:

        async def one(n: int) -> int:
            handle = await made.enqueue(r.db, order=n)
            for _ in range(2):
                await asyncio.sleep(0.004 * (n % 7))
                async with r.db.tx() as tx:
                    await shipped.publish(tx, Shipped(n), key=str(n))
            return await handle.result(SECONDS)

        assert await asyncio.gather(*map(one, range(20))) == [2 * n for n in range(20)]


async def test_every_flow_that_waits_for_an_event_gets_it_and_the_others_time_out(
    tmp_path: Path, database: str
) -> None:
    shipped = Topic("s", "shipped", Shipped)
    delivery = Delivery("s", shipped)

    async def flow(order: int, flow: Flow = injected()) -> int:
        try:
            return (await flow.event(shipped, key=order, timeout=60)).order
        except WaitTimedOut:
            return -1

    made = Job[Any, int]("s", flow, result_ttl=600, deliveries=[delivery])
    async with rig(tmp_path, made, delivery, database=database) as r:
        worker = r.worker()
        handles = [await made.enqueue(r.db, order=order) for order in (1, 1, 2)]
        await run_pending(worker)
        async with r.db.tx() as tx:
            await shipped.publish(tx, Shipped(1), key="1")
        await run_pending(worker)
        await r.clock.advance(60)
        await run_pending(worker)
        assert [await handle.result() for handle in handles] == [1, 1, -1]


async def test_a_batch_ends_exactly_once_with_many_workers(tmp_path: Path, database: str) -> None:
    doubled, noted = Job[Any, int]("s", twice), Job[Any, None]("s", note)

    async def told(status: BatchStatus, tx: Tx = injected()) -> None:
        await tx.execute(add_effect, what=f"end of {status.total}: {status.done}")

    tell = Job[Any, None]("s", told)
    async with working(tmp_path, database, doubled, noted, tell, workers=3) as r:
        handles = []
        for size in (1, 7, 300):
            async with r.db.tx() as tx, batch(tx, on_done=tell) as b:
                await b.add_many(doubled, [{"n": n} for n in range(size)])
                await b.add(noted, "member")
            handles.append(b.handle)
        for handle in handles:
            [*_, last] = [status async for status in handle.watch(timeout=SECONDS)]
            assert last.state == "done"
        assert await until(lambda: finished(r))
        done = Counter(await r.did())
        assert done == {"member": 3, "end of 2: 2": 1, "end of 8: 8": 1, "end of 301: 301": 1}


async def test_flows_run_jobs_and_wait_for_them(tmp_path: Path, database: str) -> None:
    doubled = Job[Any, int]("s", twice)

    async def flow(n: int, flow: Flow = injected()) -> int:
        numbers = await flow.run_all([doubled.call(i) for i in range(n)])
        await flow.sleep(0.05)
        return sum(numbers)

    made = Job[Any, int]("s", flow, result_ttl=60)
    async with working(tmp_path, database, doubled, made) as r:
        handles = [await made.enqueue(r.db, n=n) for n in range(1, 11)]
        assert [await handle.result(SECONDS) for handle in handles] == [n * (n - 1) for n in range(1, 11)]


async def test_a_batch_of_thousands_is_put_together_and_ended_by_few_statements(
    tmp_path: Path, database: str
) -> None:
    doubled = Job[Any, int]("s", twice)
    async with rig(tmp_path, doubled, database=database) as r:
        worker = r.worker()
        async with r.db.tx() as tx, batch(tx) as b:
            await b.add_many(doubled, [{"n": n} for n in range(2_000)])
        with counted(r) as statements:
            await run_pending(worker)
        assert (await b.handle.status()).state == "done"
        looks = [sql for sql in statements if "tenfold_member" in sql or "tenfold_group" in sql]
        assert len(looks) < 200


class counted:
    """The statements of transactions inside the block."""

    def __init__(self, r: Rig) -> None:
        self._backend = r.db.backend
        self.statements: list[str] = []

    def __enter__(self) -> list[str]:
        real, statements = self._backend.transaction, self.statements

        def transaction(**options: Any) -> TxChannel:
            channel = real(**options)
            return Counting(channel, statements)  # type: ignore[return-value]

        self._real = real
        self._backend.transaction = transaction  # type: ignore[method-assign]
        return statements

    def __exit__(self, *_: object) -> None:
        self._backend.transaction = self._real  # type: ignore[method-assign]


class Counting:
    """A channel that notes what goes through."""

    def __init__(self, channel: TxChannel, statements: list[str]) -> None:
        self._channel = channel
        self._statements = statements

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def _note(self, plan: Any) -> None:
        self._statements.append(" ".join(plan.sql.split()))

    def run_now(self, plan: Any, args: Any) -> Any:
        self._note(plan)
        return self._channel.run_now(plan, args)

    def fetch_now(self, plan: Any, args: Any, limit: int) -> Any:
        self._note(plan)
        return self._channel.fetch_now(plan, args, limit)

    async def commit(self) -> Any:
        self._statements.append("COMMIT")
        return await self._channel.commit()


async def test_a_step_costs_one_write_and_one_with_a_transaction_nothing_but_its_record(
    tmp_path: Path, database: str
) -> None:
    async def flow(flow: Flow = injected()) -> None:
        await flow.step("twice", twice, 4)
        begun.append(len(statements))
        await flow.step("note", note, "x")

    begun: list[int] = []
    made = Job[Any, None]("s", flow)
    async with rig(tmp_path, made, database=database) as r:
        await made.enqueue(r.db)
        with counted(r) as statements:
            await run_pending(r.worker())
        record = next(i for i, sql in enumerate(statements) if "INTO tenfold_step" in sql)
        assert begun[0] == record + 2
        assert statements[record + 1] == "COMMIT"
        effect, step, commit = statements[record + 2 : record + 5]
        assert ("INTO effect" in effect, "INTO tenfold_step" in step, commit) == (True, True, "COMMIT")
        assert not [sql for sql in statements[: record - 1] if "tenfold_step" in sql and "flow_id = " in sql]


async def test_what_flows_and_batches_leave_behind_is_removed_after_its_time(
    tmp_path: Path, database: str
) -> None:
    shipped = Topic("s", "shipped", Shipped)
    delivery = Delivery("s", shipped)

    async def flow(flow: Flow = injected()) -> None:
        await flow.step("twice", twice, 4)
        await flow.run(doubled.call(1))
        await flow.event(shipped, key=1)

    doubled = Job[Any, int]("s", twice)
    made = Job[Any, None]("s", flow, deliveries=[delivery])
    async with rig(tmp_path, made, doubled, delivery, database=database) as r:
        worker = r.worker(settings={"retention_s": 60.0})
        handle = await made.enqueue(r.db)
        async with r.db.tx() as tx:
            await shipped.publish(tx, Shipped(1), key="1")
            await handle.signal(tx, "nobody asked")
        await run_pending(worker)
        assert (await handle.status()).state == "done"
        assert await left(r) == {"step": 3, "signal": 1, "arrival": 1, "group": 1, "member": 1}
        await r.clock.advance(8 * 86_400)
        await worker.keeper.prune()
        await run_pending(worker)
        assert not any((await left(r)).values())


async def left(r: Rig) -> dict[str, int]:
    """Rows by table."""
    names = ("step", "signal", "arrival", "group", "member")
    reader = r.db.read()
    return {n: await reader.scalar(sa.text(f"SELECT count(*) FROM tenfold_{n}")) for n in names}
