"""A running app changes its database: what begins waits, what has begun ends, and the mark in the old file decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import httpx2
import pytest
import sqlalchemy as sa

from support.grow_app import app, child_table, count, db, parent_table
from tenfold.errors import DatabaseUnavailable
from tenfold.grow import capture

pytestmark = pytest.mark.anyio

ID = "the-move"
COUNT = sa.select(sa.func.count()).select_from(parent_table)
ADD = sa.insert(parent_table)


class Moving:
    """The app on ``old.db``; ``new.db`` is a copy that is made when everything is held."""

    def __init__(self, folder: Path, ops: httpx2.AsyncClient) -> None:
        self.old, self.new = folder / "old.db", folder / "new.db"
        self._ops = ops

    async def on_old(self, *statements: str) -> list[Any]:
        """Through the app's own SQLite library: a second one in one process would break the file's locks."""
        return await asyncio.to_thread(self._on_old, statements)

    def _on_old(self, statements: tuple[str, ...]) -> list[Any]:
        with closing(apsw.Connection(str(self.old))) as connection:
            connection.set_busy_timeout(5_000)
            return [connection.execute(one).fetchall() for one in statements]

    async def copy(self) -> None:
        """What the copy at the cut-over would leave: the same schema and the same rows, without the notes."""
        await asyncio.to_thread(self._copy)

    def _copy(self) -> None:
        with closing(apsw.Connection(str(self.new))) as new:
            new.execute("PRAGMA journal_mode=WAL").fetchall()
            new.execute("ATTACH ? AS old", (str(self.old),))
            made = {name for (name,) in new.execute("SELECT name FROM main.sqlite_master")}
            wanted = new.execute(
                "SELECT name, type, sql FROM old.sqlite_master WHERE sql IS NOT NULL AND type <> 'trigger' "
                "AND name NOT LIKE 'sqlite%' AND name <> 'tenfold_grow' ORDER BY type DESC"
            ).fetchall()
            with new:
                for name, kind, sql in wanted:
                    if name not in made:
                        new.execute(sql)
                    if kind == "table":
                        columns = ", ".join(
                            column
                            for column, hidden in new.execute(
                                "SELECT name, hidden FROM pragma_table_xinfo(?)", (name,)
                            )
                            if not hidden
                        )
                        new.execute(f"DELETE FROM main.{name}")
                        new.execute(f"INSERT INTO main.{name} ({columns}) SELECT {columns} FROM old.{name}")

    async def mark(self) -> None:
        tables = [
            name for (name,) in (await self.on_old("SELECT name FROM sqlite_master WHERE type = 'table'"))[0]
        ]
        fenced = [name for name in tables if not name.startswith(("sqlite_", "tenfold_grow"))]
        await self.on_old(*capture.fence(fenced, "there"), "UPDATE tenfold_grow SET moved_at = 1.0")

    async def ask(self, what: str, expect: int = 200, **body: Any) -> dict[str, Any]:
        answer = await self._ops.post(f"/grow/{what}", json={"id": ID, **body})
        assert answer.status_code == expect, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def prepare(self) -> None:
        await self.on_old(
            capture.STATE_TABLE, f"INSERT INTO tenfold_grow VALUES ('{ID}', 'there', 0, 0, NULL)"
        )
        await self.copy()
        await self.ask("prepare", url=f"sqlite:///{self.new.name}")


@pytest.fixture
async def moving(tmp_path: Path) -> AsyncIterator[Moving]:
    app.configure(
        environ={}, app__data_dir=str(tmp_path), app__env="test", database__url="sqlite:///old.db",
        database__migrate="auto",
    )  # fmt: skip
    await app.start(worker=True)
    transport = httpx2.ASGITransport(app=app.ops)
    try:
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as ops:
            yield Moving(tmp_path, ops)
    finally:
        await app.stop()


async def add(key: str) -> None:
    async with db.tx() as tx:
        await tx.execute(ADD, key=key)


async def number() -> int:
    return int(await db.read().scalar(COUNT))


async def until_ended(task: asyncio.Task[Any]) -> bool:
    """False when it still waits after several rounds of the loop, and a look at the database would be over."""
    done, _ = await asyncio.wait([task], timeout=0.05)
    return bool(done)


async def test_held_transactions_and_reads_wait_and_then_run_on_the_new_database(moving: Moving) -> None:
    await moving.prepare()
    await add("before")
    assert (await moving.ask("hold", hold_s=5))["state"] == "held"
    writing, reading = asyncio.create_task(add("meanwhile")), asyncio.create_task(number())
    assert not await until_ended(writing)
    assert not await until_ended(reading)
    await moving.copy()
    await moving.mark()
    after = await moving.ask("resume")
    assert (after["state"], after["waited"] >= 2, after["database"]) == ("moved", True, "sqlite:///new.db")
    await writing
    assert await reading in (1, 2)
    assert await number() == 2
    assert await moving.on_old("SELECT key FROM parent") == [[("before",)]]


async def test_a_block_of_reads_that_waited_sees_one_state_of_the_new_database(moving: Moving) -> None:
    await moving.prepare()
    await moving.ask("hold", hold_s=5)

    async def twice() -> tuple[int, int]:
        async with db.read() as reader:
            first = await reader.scalar(COUNT)
            await add("between")
            return first, await reader.scalar(COUNT)

    reading = asyncio.create_task(twice())
    assert not await until_ended(reading)
    await moving.copy()
    await moving.mark()
    await moving.ask("resume")
    assert await reading == (0, 0)
    assert [row.key async for row in db.read().stream(sa.select(parent_table))] == ["between"]


async def test_who_has_a_transaction_open_passes_and_is_waited_for(moving: Moving) -> None:
    await moving.prepare()
    async with db.tx() as tx:
        holding = asyncio.create_task(moving.ask("hold", quiet_s=5, hold_s=0.2))
        assert not await until_ended(holding)
        assert await number() == 0
        await tx.execute(ADD, key="mine")
    assert (await holding)["state"] == "held"
    assert await moving.on_old("SELECT key FROM parent") == [[("mine",)]]


async def test_a_transaction_that_does_not_end_is_no_reason_to_keep_others_waiting(moving: Moving) -> None:
    await moving.prepare()
    async with db.tx() as tx:
        await tx.execute(ADD, key="long")
        refusal = await moving.ask("hold", expect=409, quiet_s=0.02)
        assert "1 transaction did not end within 0.02 s" in refusal["error"]
    await add("next")
    assert await number() == 2


async def test_a_hold_without_a_mark_ends_by_itself(moving: Moving) -> None:
    await moving.prepare()
    await moving.ask("hold", hold_s=0.1)
    async with asyncio.timeout(5):
        await add("later")
    assert await moving.on_old("SELECT key FROM parent") == [[("later",)]]


async def test_a_mark_is_found_although_nobody_tells_of_it(moving: Moving) -> None:
    """The command was killed right after the cut-over."""
    await moving.prepare()
    await moving.copy()
    await moving.ask("hold", hold_s=1.0)
    await moving.mark()
    async with asyncio.timeout(5):
        await add("new")
    assert await moving.on_old("SELECT key FROM parent") == [[]]
    assert await number() == 1


async def test_a_process_whose_hold_was_over_loses_no_write_to_the_mark(moving: Moving) -> None:
    """Its late writes are refused by the fence until it looks at the mark, and then are made in the new database."""
    await moving.prepare()
    await moving.copy()
    await moving.mark()
    with pytest.raises(DatabaseUnavailable, match="has moved to there"):
        await add("late")
    await moving.ask("resume")
    await add("later")
    assert await moving.on_old("SELECT key FROM parent") == [[]]


async def test_jobs_enqueued_before_and_after_run_once_in_the_new_database(moving: Moving) -> None:
    await moving.prepare()
    async with db.tx() as tx:
        for parent in (1, 2):
            await tx.execute(ADD, key=str(parent))
            await tx.execute(sa.insert(child_table), parent_id=parent, place=1)
    await moving.ask("hold", hold_s=5)
    await moving.copy()
    await moving.mark()
    await moving.ask("resume")
    for parent in (1, 2):
        async with db.tx() as tx:
            await count.enqueue(tx, parent=parent)
    async with asyncio.timeout(10):
        while await db.read().scalar(sa.select(sa.func.sum(child_table.c.ran))) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await moving.on_old("SELECT sum(ran) FROM child") == [[(0,)]]


async def test_only_who_can_read_the_file_may_ask(moving: Moving) -> None:
    await moving.prepare()
    assert "no move of this name" in (await moving.ask("hold", expect=403, id="guessed"))["error"]
    assert "not an order" in (await moving.ask("hold", expect=400, quiet_s="soon"))["error"]
    assert "POST /grow/prepare" in (await moving.ask("explode", expect=400))["error"]


async def test_a_move_that_is_given_up_leaves_the_app_as_it_was(moving: Moving) -> None:
    await moving.prepare()
    await moving.ask("hold", hold_s=5)
    assert (await moving.ask("forget"))["state"] == "idle"
    await add("here")
    assert await number() == 1
    assert "cannot hold: it is idle" in (await moving.ask("hold", expect=409))["error"]


async def test_a_new_database_without_its_tables_is_refused(moving: Moving) -> None:
    await moving.on_old(capture.STATE_TABLE, f"INSERT INTO tenfold_grow VALUES ('{ID}', 'there', 0, 0, NULL)")
    refusal = await moving.ask("prepare", expect=409, url="sqlite:///empty.db")
    assert "lacks changes" in refusal["error"]
    await add("goes on")
