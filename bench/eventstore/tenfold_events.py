"""Tenfold's side: ``tenfold_events.py append URL`` or ``tenfold_events.py rebuild URL EVENTS``; prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import replace

from tenfold import App, Service, Tx
from tenfold.assembly.eventstores import store_of
from tenfold.cli.projections import Progress
from tenfold.eventstore import Recorded
from tenfold.eventstore.rebuild import Rebuild
from tenfold.eventstore.tables import event as event_table

ONE_BY_ONE, BATCHES, BATCH, STREAMS = 2_000, 40, 250, 1_000
APPENDERS, EACH = 16, 250


class Paid(Struct, frozen=True):
    amount: int
    note: str


class Balance(Struct, frozen=True):
    amount: int = 0


service = Service("bank")
metadata = sa.MetaData()
table = sa.Table(
    "balances",
    metadata,
    sa.Column("account", sa.String(40), primary_key=True),
    sa.Column("amount", sa.BigInteger, nullable=False),
)
db = service.database(metadata)
account = service.aggregate(
    "account",
    events=[Paid],
    state=Balance,
    evolve=lambda state, event: replace(state, amount=state.amount + event.amount),
    decide=lambda _state, command: [command],
)
add, known = sa.insert(table), sa.select(table.c.account)
move = (
    sa.update(table)
    .where(table.c.account == sa.bindparam("who"))
    .values(amount=table.c.amount + sa.bindparam("by"))
)


@service.projection(account, mode="sync", tables=[table])
async def balances(events: list[Recorded[Paid]], tx: Tx) -> None:
    """One statement for new accounts, one for all."""
    total: dict[str, int] = {}
    for event in events:
        total[event.stream] = total.get(event.stream, 0) + event.data.amount
    if new := [{"account": e.stream, "amount": 0} for e in events if e.version == 1]:
        await tx.execute(add, new)
    await tx.execute(move, [{"who": who, "by": by} for who, by in total.items()])


async def append() -> dict[str, float]:
    """Events a second, through the aggregate, without its projection: the peer has none."""
    account.bind(app.clock, (), None)
    begun, cpu = time.perf_counter(), time.process_time()
    for n in range(ONE_BY_ONE):
        async with db.tx() as tx:
            await account.handle(tx, "one", Paid(n, "one by one"))
    one_s, one_cpu = time.perf_counter() - begun, time.process_time() - cpu
    begun = time.perf_counter()
    for n in range(BATCHES):
        async with db.tx() as tx:
            await account.append(tx, "many", [Paid(n, "many at once")] * BATCH, expected=n * BATCH)
    many_s = time.perf_counter() - begun
    return {
        "one": ONE_BY_ONE / one_s,
        "cpu_us": one_cpu / ONE_BY_ONE * 1e6,
        "beside": await beside(),
        "many": BATCHES * BATCH / many_s,
    }


async def beside() -> float:
    """Events a second of tasks that append to a stream of their own each."""

    async def pay(name: str) -> None:
        for n in range(EACH):
            async with db.tx() as tx:
                await account.handle(tx, name, Paid(n, "beside others"))

    begun = time.perf_counter()
    await asyncio.gather(*(pay(f"beside{n}") for n in range(APPENDERS)))
    return APPENDERS * EACH / (time.perf_counter() - begun)


async def rebuild(count: int) -> dict[str, float]:
    """Seconds for a rebuild over ``count`` events."""
    now, each = time.time(), count // STREAMS
    rows = (
        {
            "category": account.name, "stream": f"a{n % STREAMS}", "version": n // STREAMS + 1, "type": "Paid",
            "data": '{"version":1,"data":{"amount":1,"note":"loaded"}}', "metadata": None, "at": now,
        }
        for n in range(each * STREAMS)
    )  # fmt: skip
    async with db.tx() as tx:
        await tx.load(event_table, rows)
    [projection] = app.assembly.eventstores.projections
    bar = Progress(projection.name)
    begun = time.perf_counter()
    handled = await Rebuild(projection, db, store_of(db), app.clock).run(bar.at)
    bar.end()
    took_s = time.perf_counter() - begun
    total = await db.read().scalar(sa.select(sa.func.sum(table.c.amount)))
    if not handled == total == each * STREAMS:
        raise SystemExit(f"{handled} events were handled, and they came to {total}")
    return {"events": handled, "seconds": took_s, "rate": handled / took_s}


app = App("bank", [service])


async def main(what: str, url: str, *more: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        app.configure(
            app__data_dir=folder, app__env="development", database__url=url, worker__enabled=False, database__pool_max=APPENDERS,
            database__statement_timeout_s=300.0, database__watch=False,
        )  # fmt: skip
        async with app.lifespan():
            return await (append() if what == "append" else rebuild(int(more[0])))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
