"""Projections on the servers: rebuilt while the old rows serve and events are appended; events that cannot be handled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.ledger import Draw, Ledger, Paid, Pay
from tenfold import App, Tx
from tenfold.assembly.eventstores import store_of
from tenfold.eventstore import Recorded, progress
from tenfold.eventstore.rebuild import Rebuild
from tenfold.eventstore.tables import event as event_table

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

ACCOUNTS = ["a", "b", "c"]


@pytest.fixture(params=["postgres_url", "mariadb_url"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


class Entries(Ledger):
    """Its projection adds a row per event, whose key the database makes."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = sa.Table(
            "entry",
            self.metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("amount", sa.Integer, nullable=False),
            sa.Index("ix_entry_amount", "amount"),
        )
        self.add = sa.insert(self.entry)
        self.total = sa.select(sa.func.coalesce(sa.func.sum(self.entry.c.amount), 0))

    async def enter(self, events: list[Recorded[Any]], tx: Tx) -> None:
        await tx.execute(self.add, [{"amount": event.data.amount} for event in events])


@asynccontextmanager
async def running(ledger: Ledger, folder: Path, url: str) -> AsyncGenerator[App]:
    app = ledger.app()
    app.configure(
        app__data_dir=str(folder), app__env="development", database__url=url, database__watch=False,
        worker__enabled=False,
    )  # fmt: skip
    async with app.lifespan():
        yield app


async def over_and_over(act: Callable[[], Awaitable[None]], done: asyncio.Event) -> int:
    """Do it until ``done``; how often it was."""
    times = 0
    while not done.is_set():
        await act()
        times += 1
    return times


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_rebuild_is_seen_by_nobody_who_reads_and_misses_nothing_that_is_appended(
    tmp_path: Path, url: str, mode: Any
) -> None:
    """In each state of the database the rows are what the events up to the projection's position come to."""
    ledger = Entries()
    ledger.service.projection(ledger.account, mode=mode, tables=[ledger.entry], batch=7)(ledger.enter)
    async with running(ledger, tmp_path, url) as app:
        stores = app.assembly.eventstores
        rebuild = Rebuild(stores.projections[0], ledger.db, store_of(ledger.db), app.clock)
        rebuild._batch = 20
        done = asyncio.Event()

        async def append() -> None:
            async with ledger.db.tx() as tx:
                await ledger.account.handle_many(tx, dict.fromkeys(ACCOUNTS, Pay(1)))
            await stores.pump()

        async def look() -> None:
            async with ledger.db.read() as reader:
                row = await progress.read(reader, "bank.enter")
                if mode == "sync":
                    events = await reader.scalar(sa.select(sa.func.count()).select_from(event_table))
                else:
                    assert row is not None
                    events = len(await store_of(ledger.db).follow(reader, [], 0, row.position, 10**6))
                assert await reader.scalar(ledger.total) == events

        for _ in range(30):
            await append()
        doing = [asyncio.create_task(over_and_over(act, done)) for act in (append, look)]
        for _ in range(2):
            await rebuild.run()
        done.set()
        appended, looked = await asyncio.gather(*doing)
        assert appended
        assert looked
        await append()
        assert await ledger.db.read().scalar(ledger.total) == (31 + appended) * len(ACCOUNTS)
        assert not [name for name in await names(ledger) if "shadow" in name]


async def names(ledger: Ledger) -> list[str]:
    """The tables there are."""

    def inspect() -> list[str]:
        engine = ledger.db.backend.sync_engine(write=False)
        try:
            return sa.inspect(engine).get_table_names()
        finally:
            engine.dispose()

    return await asyncio.to_thread(inspect)


@pytest.mark.parametrize(("policy", "handled"), [("stop", 1), ("skip", 2)])
async def test_an_event_that_fails_three_times_stops_its_projection_or_is_left_out(
    tmp_path: Path, url: str, policy: Any, handled: int
) -> None:
    ledger, tried = Ledger(), list[int]()

    async def keep(event: Recorded[Any], tx: Tx) -> None:
        await ledger.keep(event, tx)
        if not isinstance(event.data, Paid):
            tried.append(event.version)
            raise ValueError("it cannot be drawn")

    ledger.service.projection(ledger.account, tables=[ledger.table], on_poison=policy)(keep)
    async with running(ledger, tmp_path, url) as app:
        async with ledger.db.tx() as tx:
            for command in (Pay(5), Draw(2), Pay(1)):
                await ledger.account.handle(tx, "a", command)
        await app.assembly.eventstores.pump()
        assert len(tried) == 4, "once in the batch, three times by itself"
        assert await ledger.rows() == {"a": ({1: 5, 2: 6}[handled], handled)}
        row = await progress.read(ledger.db.read(), "bank.keep")
        assert row is not None
        assert (row.state, "it cannot be drawn" in (row.error or "")) == (
            ("failed", True) if policy == "stop" else ("running", False)
        )
