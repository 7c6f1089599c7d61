"""The life of a backend: start, stop, health, figures, hints, sandboxes, and URLs that cannot work."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import sqlalchemy as sa

from tenfold import errors
from tenfold._core.sections import DatabaseSettings
from tenfold.conformance._database_case import (
    DatabaseCase,
    OpenDatabase,
    Order,
    account,
    add_order,
    count_orders,
    customers,
    order,
    place,
)
from tenfold.conformance.kit import until
from tenfold.db.contract import Capabilities
from tenfold.db.database import Database


class LifeClaims(DatabaseCase):
    async def test_a_backend_connects_at_start_and_says_when_it_is_not_connected(
        self, url: str, data_dir: Path
    ) -> None:
        """Before `start` and after `stop` every use is refused, health included; `stop` twice is harmless."""
        backend = self.make_backend(url, data_dir)

        async def refused() -> None:
            with pytest.raises(errors.DatabaseUnavailable):
                await backend.health()
            for use in (backend.reader, backend.snapshot, backend.transaction):
                with pytest.raises(errors.NotBound):
                    use()

        await refused()
        await backend.start()
        await backend.health()
        await backend.stop()
        await backend.stop()
        await refused()

    async def test_an_unbound_database_says_so(self) -> None:
        """A database that no app has started names itself and the way out."""
        db = Database("shop", sa.MetaData())
        for use in (db.read, db.tx, db.stats):
            with pytest.raises(errors.NotBound, match="database 'shop' was used before its app started"):
                use()

    async def test_stopping_waits_for_open_transactions(self, db: Database, open_db: OpenDatabase) -> None:
        """`stop` lets open transactions end first."""
        entered, go_on = asyncio.Event(), asyncio.Event()
        async with open_db() as third:

            async def slow() -> None:
                async with third.tx() as tx:
                    await tx.one(add_order, Order, customer="slow")
                    entered.set()
                    await go_on.wait()

            task = asyncio.create_task(slow())
            await entered.wait()
            stopping = asyncio.create_task(third.backend.stop())
            for _ in range(20):
                await asyncio.sleep(0)
            assert not stopping.done()
            go_on.set()
            await task
            await stopping
        assert await db.read().scalar(count_orders) == 1

    async def test_figures_are_numbers_and_grow(self, db: Database) -> None:
        """`stats` has numbers by name, and work shows in them."""
        before = dict(db.stats())
        await place(db, "c")
        after = dict(db.stats())
        assert all(isinstance(value, int | float) for value in after.values())
        assert set(before) == set(after)
        assert any(after[name] > before[name] for name in before)

    async def test_two_databases_of_one_url_share_everything(self, db: Database) -> None:
        """Several `Database` objects on one backend see each other's commits at once."""
        twin = Database("twin", db.metadata)
        twin.bind(db.backend)
        placed = await place(twin, "c")
        assert await db.read().all(sa.select(order), Order) == [placed]

    async def test_the_sync_engine_sees_and_makes_what_everybody_sees(self, db: Database) -> None:
        """Migrations on the blocking engine work on the same database, and undo what failed where they can."""

        def work() -> int:
            engine = db.backend.sync_engine()
            try:
                with engine.begin() as connection:
                    connection.execute(sa.insert(account), {"name": "made", "balance": 1})
                with suppress(ZeroDivisionError), engine.begin() as connection:
                    connection.execute(sa.insert(account), {"name": "undone", "balance": 1})
                    raise ZeroDivisionError
                with engine.connect() as connection:
                    return int(connection.execute(sa.select(sa.func.count()).select_from(order)).scalar_one())
            finally:
                engine.dispose()

        await place(db, "c")
        assert await asyncio.to_thread(work) == 1
        assert await db.read().all(sa.select(account.c.name), str) == ["made"]


class HintClaims(DatabaseCase):
    async def test_a_hint_wakes_those_who_wait_for_its_topic(
        self, db: Database, other: Database, declared: Capabilities
    ) -> None:
        """A hint reaches the callbacks of its topic in this process, and in others where `listen` is declared."""
        here, there = asyncio.Event(), asyncio.Event()
        ends = [
            db.backend.on_hint("conf:topic", here.set),
            other.backend.on_hint("conf:topic", there.set),
        ]

        def arrived() -> bool:
            db.backend.hint("conf:topic")  # one may be lost, and listening takes a moment to begin
            return here.is_set() and (there.is_set() or not declared.listen)

        for _ in range(2):  # the first may have come without a cause: listening has just begun
            here.clear()
            there.clear()
            await until(arrived, "a hint", every_s=0.05)
        for end in ends:
            end()
        here.clear()
        db.backend.hint("conf:topic")
        for _ in range(10):
            await asyncio.sleep(0)
        assert not here.is_set()

    async def test_many_hints_become_few_calls(self, db: Database) -> None:
        """Hints of one moment are coalesced, and giving one neither waits nor fails."""
        calls: list[int] = []
        heard = asyncio.Event()

        def wake() -> None:
            calls.append(1)
            heard.set()

        end = db.backend.on_hint("conf:many", wake)
        try:
            calls.clear()
            for _ in range(1_000):
                db.backend.hint("conf:many")
            async with asyncio.timeout(5):
                await heard.wait()
            await asyncio.sleep(0)
            assert len(calls) < 20
        finally:
            end()


class SandboxClaims(DatabaseCase):
    async def test_in_a_sandbox_commits_are_seen_and_then_undone(self, db: Database) -> None:
        """Inside a sandbox everything works as outside, and at its end nothing has happened."""
        await place(db, "before")
        async with db.sandbox():
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="inside")
            with suppress(ZeroDivisionError):
                async with db.tx() as tx:
                    await tx.one(add_order, Order, customer="rolled back")
                    raise ZeroDivisionError
            assert await db.read().all(customers, str) == ["before", "inside"]
            async with db.read() as reader:
                streamed = [
                    o.customer async for o in reader.stream(sa.select(order).order_by(order.c.id), Order)
                ]
                assert streamed == ["before", "inside"]
        assert await db.read().all(customers, str) == ["before"]
        await place(db, "after")
        assert await db.read().scalar(count_orders) == 2

    async def test_errors_and_savepoints_in_a_sandbox_stay_where_they_are(self, db: Database) -> None:
        """A transaction that fails in a sandbox undoes itself, not the sandbox."""
        async with db.sandbox():
            placed = await place(db, "kept")
            with pytest.raises(errors.UniqueViolation):
                async with db.tx() as tx:
                    await tx.execute(sa.insert(order), {"id": placed.id, "customer": "again"})
            async with db.tx() as tx:
                with suppress(ZeroDivisionError):
                    async with tx.savepoint():
                        await tx.one(add_order, Order, customer="undone")
                        raise ZeroDivisionError
                await tx.one(add_order, Order, customer="kept too")
            assert await db.transact(lambda tx: tx.scalar(count_orders)) == 2
        assert await db.read().scalar(count_orders) == 0


class UrlClaims(DatabaseCase):
    async def test_urls_that_cannot_work_are_refused_with_a_sentence(self, url: str, data_dir: Path) -> None:
        """A wrong host, password or database raises ConfigError or DatabaseUnavailable at start, soon, with a
        sentence that names what is wrong and never the password."""
        password = unquote(urlsplit(url).password or "")
        for wrong in self.wrong_urls(url):
            with pytest.raises((errors.ConfigError, errors.DatabaseUnavailable)) as caught:
                async with asyncio.timeout(10):
                    backend = self.make_backend(wrong.url, data_dir, connect_timeout_s=2)
                    try:
                        await backend.start()
                    finally:
                        await backend.stop()
            sentence = str(caught.value)
            assert re.search(wrong.words, sentence), (wrong.what, sentence)
            secrets = {password, unquote(urlsplit(wrong.url).password or "")} - {"", urlsplit(url).username}
            assert not any(f":{secret}@" in sentence or f"{secret!r}" in sentence for secret in secrets)

    async def test_a_url_of_another_kind_is_refused_before_anything_is_opened(
        self, url: str, data_dir: Path
    ) -> None:
        """`from_url` checks the URL and raises ConfigError that names the setting."""
        backend = self.make_backend(url, data_dir)
        with pytest.raises(errors.ConfigError, match=r"database\.url"):
            type(backend).from_url(
                "nonsense://host/db", settings=DatabaseSettings(), data_dir=data_dir, clock=backend.clock
            )
