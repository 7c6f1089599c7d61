"""Fixtures of the guards' suites: two instances on one store, a database beside them, and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import sqlalchemy as sa

from tenfold._core.clock import ManualClock
from tenfold._core.resolve import backend_class
from tenfold._core.sections import DatabaseSettings, GuardSettings
from tenfold.conformance.kit import Conformance
from tenfold.db.backends.sqlite import Backend as Sqlite
from tenfold.db.contract import DatabaseBackend
from tenfold.db.database import Database
from tenfold.db.schema import framework
from tenfold.guard.backends._sql import DatabaseGuards
from tenfold.guard.contract import GuardBackend, GuardStores

metadata = sa.MetaData()
effect = sa.Table(
    "conf_effect",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("note", sa.String(200), nullable=False),
)
add_effect = sa.insert(effect)
effects = sa.select(effect.c.note).order_by(effect.c.id)

Elapse = Callable[[float], Awaitable[None]]


class Instance(NamedTuple):
    """The stores as one process has them, and the database that its operations write to."""

    stores: GuardStores
    db: Database


class Pair(NamedTuple):
    first: Instance
    second: Instance


class GuardCase(Conformance):
    """A third party's guard overrides ``url``; a database's author sets ``on_database`` and gives its URL."""

    on_database: ClassVar[bool] = False
    """``url`` is that of a database, in which the guards are to live."""
    settings: ClassVar[dict[str, Any]] = {}
    """Settings of ``[guard]``, or ``[database]``, that it cannot work without."""

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        """The URL of an empty store that the suite may fill."""
        raise NotImplementedError(f"{cls.__name__} needs a fixture `url` of scope class.")

    @pytest.fixture(scope="class")
    @classmethod
    def clock(cls) -> ManualClock:
        """What the instances are given; a store with a clock of its own does not look at it."""
        return ManualClock()

    @pytest.fixture(scope="class")
    @classmethod
    async def pair(
        cls, url: str, clock: ManualClock, tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
    ) -> AsyncGenerator[Pair]:
        """Two instances, as in two processes. A store that is not shared is the same in both."""
        folder = tmp_path_factory.mktemp("guard")
        async with AsyncExitStack() as stack:
            if cls.on_database:
                first, second = [
                    await stack.enter_async_context(cls._database(url, folder, clock)) for _ in "ab"
                ]
                yield Pair(Instance(DatabaseGuards(first), first), Instance(DatabaseGuards(second), second))
                return
            db = await stack.enter_async_context(cls._database("sqlite:///effects.db", folder, clock))
            one, two = [await stack.enter_async_context(cls._backend(url, clock)) for _ in "ab"]
            shared = one.limits().shared
            yield Pair(Instance(one, db), Instance(two if shared else one, db))

    @pytest.fixture
    def elapse(self, pair: Pair, clock: ManualClock) -> Elapse:
        """Let time pass for the store: the manual clock's, or real time where it has a clock of its own."""
        return asyncio.sleep if pair.first.stores.own_clock else clock.advance

    @pytest.fixture
    def name(self, request: pytest.FixtureRequest, clock: ManualClock) -> str:
        """A name that no other test of the suite uses."""
        return f"{request.node.name[5:90]}-{clock.random.randrange(10**9)}"

    @classmethod
    @asynccontextmanager
    async def _database(cls, url: str, folder: Path, clock: ManualClock) -> AsyncGenerator[Database]:
        if cls.on_database:
            chosen = DatabaseSettings(url=url, **cls.settings)
            backend: DatabaseBackend = backend_class("db", url, where="url").from_url(
                url, settings=chosen, data_dir=folder, clock=clock
            )
        else:
            backend = Sqlite.from_url(url, settings=DatabaseSettings(), data_dir=folder, clock=clock)
        await backend.start()
        try:
            await asyncio.to_thread(_make_tables, backend)
            database = Database("conformance", metadata)
            database.bind(backend)
            yield database
        finally:
            await backend.stop()

    @classmethod
    @asynccontextmanager
    async def _backend(cls, url: str, clock: ManualClock) -> AsyncGenerator[GuardBackend]:
        chosen = GuardSettings(url=url, **cls.settings)
        backend: GuardBackend = backend_class("guard", url, where="url").from_url(
            url, settings=chosen, clock=clock
        )
        await backend.start()
        try:
            yield backend
        finally:
            await backend.stop()


def _make_tables(backend: DatabaseBackend) -> None:
    engine = backend.sync_engine()
    try:
        framework.create_all(engine)
        metadata.create_all(engine)
    finally:
        engine.dispose()


NAMES = [
    "plain",
    "Plain",
    "PLAIN",
    "plain ",
    "plä in",
    "plä ın",
    "漢字🦆",
    "x" * 180,
    "x" * 181,
    "a:b",
    "a b",
    "%_*?[]",
]
"""No two are the same: not for their case, their accents, their blanks or their length."""
