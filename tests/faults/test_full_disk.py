"""G23: on a disk that is really full reads serve, writes are refused with a sentence, nothing is half there, and the
service resumes by itself within 5 s of there being room.

A database lies on a small disk of its own (a file with an ext4, through a loop device), which somebody else's file
fills. With its limit of pages instead of a disk, SQLite is asked more in test_sqlite_full.py. What
an app keeps of its own work (telemetry) is lost meanwhile, and requests are answered as if nothing were.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.asgi import serving
from support.orders_db import opened
from support.power import Disk, disk
from support.servers import MariaDB, Postgres, running
from support.trials import Trials
from tenfold import App, Service, errors, public
from tenfold.db import Database
from tenfold.telemetry.store import writer

pytestmark = pytest.mark.mounts

BIG = "x" * 20_000
TRIES = 12
RESUMES_S = 5.0
metadata = sa.MetaData()
notes = sa.Table(
    "notes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
)


@contextmanager
def somewhere(kind: str, mine: Disk) -> Iterator[str]:
    """The URL of a database of this kind on that disk."""
    if kind == "sqlite":
        yield f"sqlite:///{mine.folder / 'full.db'}"
        return
    # Durable, so that what is written takes its place on the disk at once.
    with running(Postgres(durable=True).keep_in(mine.folder / "server")) as server:
        yield server.url()


def fill(path: Path) -> None:
    """Take all the room there is, as the log of another program does."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
        os.fsync(file.fileno())


async def write(db: Database, *texts: str) -> None:
    async with db.tx() as tx:
        for text in texts:
            await tx.execute(sa.insert(notes).values(text=text))


async def first(db: Database) -> str:
    return str(await db.read().scalar(sa.select(notes.c.text).order_by(notes.c.id).limit(1)))


async def while_full(db: Database) -> tuple[int, list[str]]:
    """How many notes were taken, and how the others were refused. Reads go on throughout."""
    taken, refused = 0, list[str]()
    for _ in range(TRIES):
        try:
            await write(db, BIG, BIG)
            taken += 2
        except errors.DatabaseUnavailable as error:
            refused.append(str(error))
        assert await first(db) == "before"
    return taken, refused


async def resumed_after_s(db: Database) -> float:
    """Seconds until writes are taken again."""
    began = time.monotonic()
    while True:
        try:
            await write(db, BIG, BIG)
        except errors.DatabaseUnavailable:
            assert time.monotonic() - began < RESUMES_S
            await asyncio.sleep(0.05)
        else:
            return time.monotonic() - began


async def outage(folder: Path, url: str, ballast: Path) -> int:
    """Writes that were tried while the disk was full, and once it was not."""
    async with opened(folder, url=url, metadata=metadata) as db:
        await write(db, "before")
        fill(ballast)
        tries, taken, refused = 0, 0, list[str]()
        while not refused:  # what lies free inside of the files is used up first
            more, refused = await while_full(db)
            taken, tries = taken + more, tries + TRIES
        assert all("full" in sentence and "nothing was written" in sentence for sentence in refused)
        await asyncio.to_thread(ballast.unlink)
        assert await resumed_after_s(db) < RESUMES_S
        found = await db.read().all(sa.select(notes.c.text), str)
        assert sorted(found) == sorted(["before", *[BIG] * (taken + 2)])
        return tries + 1


@pytest.mark.parametrize(("kind", "megabytes"), [("sqlite", 16), ("postgresql", 160)])
def test_a_full_disk_refuses_writes_serves_reads_and_ends_by_itself(
    kind: str, megabytes: int, tmp_path: Path, trials: Trials
) -> None:
    with disk(megabytes) as mine, somewhere(kind, mine) as url:
        trials("G23", asyncio.run(outage(tmp_path, url, mine.folder / "ballast")), kind)


@pytest.mark.soak
def test_mariadb_refuses_and_has_what_it_took_although_it_may_stop(tmp_path: Path, trials: Trials) -> None:
    """MariaDB ends itself when it cannot undo a statement for want of room (10.11: `Out of disk space in rollback`), so
    reads do not go on for sure. Whoever keeps the server running starts it again, and nothing is lost."""
    with disk(320) as mine:
        server = MariaDB(durable=True).keep_in(mine.folder / "server")
        with running(server):
            ballast, url = mine.folder / "ballast", server.url()
            taken, refused = asyncio.run(stopping_outage(tmp_path, url, ballast))
            assert refused
            ballast.unlink()
            if not server.ready():
                server.kill()
                server.start()
            asyncio.run(has_exactly(tmp_path, url, 1 + taken))
            trials("G23", TRIES, "mariadb")


async def stopping_outage(folder: Path, url: str, ballast: Path) -> tuple[int, list[str]]:
    """How many notes were taken and how the others were refused, by a server that may stop."""
    taken, refused = 1, list[str]()
    async with opened(folder, url=url, metadata=metadata) as db:
        await write(db, "before")
        fill(ballast)
        for _ in range(TRIES):
            try:
                await write(db, BIG, BIG)
                taken += 2
            except errors.DatabaseUnavailable as error:
                refused.append(str(error))
    return taken, refused


async def has_exactly(folder: Path, url: str, count: int) -> None:
    async with opened(folder, url=url, metadata=metadata) as db:
        await write(db, "after")
        assert await db.read().scalar(sa.select(sa.func.count()).select_from(notes)) == count


# ── telemetry ─────────────────────────────────────────────────────────────────────────────────────


async def watched(folder: Path) -> None:
    """An app whose telemetry lies on that disk, while it is full and once it is not."""
    shop = Service("shop", auth=public)

    @shop.get("/items/{item_id}")
    async def get_item(item_id: int) -> int:
        return item_id

    app = App("shop", [shop])
    settings = {"telemetry__store": True, "telemetry__requests_per_s": 10_000, "log__access": False}
    app.configure(environ={}, app__data_dir=str(folder), **settings)
    async with serving(app) as client:
        store = app.assembly.telemetry.store
        assert store is not None
        records, sent = store.records, 0

        async def ask(count: int) -> str:
            """What the store says of itself after so many requests, all of which are answered."""
            nonlocal sent
            for n in range(count):
                assert (await client.get(f"/items/{n}")).status == 200
            sent += count
            await asyncio.to_thread(store.writer.turn)
            return (await records.status()).sentence

        async def lost() -> int:
            dropped = (await records.status()).dropped
            return sum(count for reason, count in dropped.items() if reason.startswith("request"))

        assert await ask(20) == ""
        fill(folder / "ballast")
        said = ""
        for _ in range(TRIES):  # what lies free inside of the files is used up first
            said = said or await ask(100)
        assert "full" in said
        await ask(300)
        before = await lost()
        assert before >= 300
        assert not store.feed._requests  # what is lost does not pile up
        assert store.feed.dropped["request disk"] == before

        (folder / "ballast").unlink()
        began = time.monotonic()
        while await ask(1):
            assert time.monotonic() - began < RESUMES_S
            await asyncio.sleep(0.05)
        await ask(5)
        kept = (await records.requests(limit=1000)).items
        assert len(kept) == min(1000, sent - await lost())


def test_telemetry_is_lost_and_counted_while_the_disk_is_full_and_requests_do_not_notice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        writer, "FREE_MIN_BYTES", 0
    )  # else it would have stopped before, for the app's own data
    with disk(16) as mine:
        asyncio.run(watched(mine.folder))
