"""The tables and fixtures of the database suite: two instances of a backend on one database."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from tenfold._core.clock import Clock, SystemClock
from tenfold._core.resolve import backend_class
from tenfold._core.sections import DatabaseSettings
from tenfold.conformance.kit import Conformance
from tenfold.db.contract import Capabilities, DatabaseBackend
from tenfold.db.database import Database, Tx


class State(enum.Enum):
    OPEN = 1
    CLOSED = 2


class Base(DeclarativeBase):
    pass


metadata = Base.metadata
order = sa.Table(
    "conf_order",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("customer", sa.String(200), nullable=False),
    sa.Column("total", sa.Integer, nullable=False, default=0),
    sa.CheckConstraint("total >= 0", name="conf_total_not_negative"),
)
line = sa.Table(
    "conf_line",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("order_id", sa.ForeignKey("conf_order.id", name="conf_line_order"), nullable=False),
    sa.Column("product", sa.String(50), nullable=False),
    sa.UniqueConstraint("order_id", "product", name="conf_line_once"),
)
account = sa.Table(
    "conf_account",
    metadata,
    sa.Column("name", sa.String(50), primary_key=True),
    sa.Column("balance", sa.Integer, nullable=False, server_default="0"),
)
kind = sa.Table(
    "conf_kind",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("text", sa.Text),
    sa.Column("short", sa.String(20), unique=True),
    sa.Column("big", sa.BigInteger),
    sa.Column("real", sa.Double),
    sa.Column("price", sa.Numeric(12, 2)),
    sa.Column("flag", sa.Boolean),
    sa.Column("day", sa.Date),
    sa.Column("clock", sa.Time),
    sa.Column("naive", sa.DateTime),
    sa.Column("aware", sa.DateTime(timezone=True)),
    sa.Column("span", sa.Interval),
    sa.Column("ident", sa.Uuid),
    sa.Column("doc", sa.JSON),
    sa.Column("state", sa.Enum(State, name="conf_state")),
    sa.Column("data", sa.LargeBinary),
)
number = sa.Table("conf_number", metadata, sa.Column("n", sa.Integer, primary_key=True, autoincrement=False))
"""Filled once: what takes long is a join of it with itself, which every engine can do and interrupt."""
NUMBERS = 300


class Author(Base):
    __tablename__ = "conf_author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(50))
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "conf_book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(sa.ForeignKey("conf_author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


class Order(msgspec.Struct):
    id: int
    customer: str
    total: int


add_order = sa.insert(order).returning(order)
count_orders = sa.select(sa.func.count()).select_from(order)
order_by_id = sa.select(order).where(order.c.id == sa.bindparam("id"))
customers = sa.select(order.c.customer).order_by(order.c.id)
balance_of = sa.select(account.c.balance).where(account.c.name == sa.bindparam("who"))
set_balance = (
    sa.update(account).where(account.c.name == sa.bindparam("who")).values(balance=sa.bindparam("to"))
)

_a, _b, _c, _d = (number.alias(name) for name in "abcd")
_never = _a.c.n + _b.c.n * _c.c.n + _d.c.n < 0
endless = sa.select(sa.func.count()).select_from(_a, _b, _c, _d).where(_never)
"""A read of eight thousand million combinations, none of which fits."""
endless_write = sa.insert(order).from_select(
    ["customer", "total"], sa.select(sa.literal("endless"), _a.c.n).where(_never)
)

OpenDatabase = Callable[..., AbstractAsyncContextManager[Database]]
"""``open_db(**settings)``: one more instance on the same database, with other settings."""


class Instances(NamedTuple):
    first: Database
    second: Database


class WrongUrl(NamedTuple):
    """A URL that cannot work, and words of the sentence that ``start`` must raise."""

    what: str
    url: str
    words: str
    """A regular expression."""


class DatabaseCase(Conformance):
    """Fixtures. A third party overrides ``url``, and ``backend_type`` unless its scheme is registered."""

    backend_type: ClassVar[type[DatabaseBackend] | None] = None
    """The backend's class; None: the one that is registered for the URL's scheme."""
    settings: ClassVar[dict[str, Any]] = {}
    """Settings of ``[database]`` that the backend cannot work without."""
    tables: ClassVar[sa.MetaData] = metadata
    """What the suite makes once, and empties before each test (but for the numbers)."""

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        """The URL of an empty database that the suite may fill."""
        raise NotImplementedError(f"{cls.__name__} needs a fixture `url` of scope class.")

    @pytest.fixture(scope="class")
    @classmethod
    def data_dir(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Where a backend without a server keeps its files."""
        return tmp_path_factory.mktemp("database")

    @classmethod
    def wrong_urls(cls, url: str) -> list[WrongUrl]:
        """URLs made from the right one that cannot work: another host, password, database."""
        return []

    @classmethod
    def make_backend(
        cls, url: str, data_dir: Path, clock: Clock | None = None, **settings: Any
    ) -> DatabaseBackend:
        """A backend that is not started."""
        type_ = cls.backend_type or backend_class("db", url, where="url")
        chosen = DatabaseSettings(url=url, **{**cls.settings, **settings})
        made = type_.from_url(url, settings=chosen, data_dir=data_dir, clock=clock or SystemClock())
        return cast("DatabaseBackend", made)

    @pytest.fixture(scope="class")
    @classmethod
    async def instances(cls, url: str, data_dir: Path, anyio_backend: str) -> AsyncGenerator[Instances]:
        """Two instances, as in two processes; the tables are there and empty, but for the numbers."""
        async with AsyncExitStack() as stack:
            backends = [cls.make_backend(url, data_dir) for _ in range(2)]
            for backend in backends:
                await backend.start()
                stack.push_async_callback(backend.stop)
            await asyncio.to_thread(_make_tables, backends[0], cls.tables)
            first, second = (_bound(backend) for backend in backends)
            if cls.tables is metadata:
                async with first.tx() as tx:
                    await tx.execute(sa.insert(number), [{"n": n} for n in range(1, NUMBERS + 1)])
            yield Instances(first, second)

    @pytest.fixture
    async def db(self, instances: Instances) -> Database:
        """The database, with empty tables."""
        await self.empty(instances.first)
        return instances.first

    @classmethod
    async def empty(cls, db: Database) -> None:
        """Remove what other tests have left."""
        async with db.tx() as tx:
            for table in reversed(cls.tables.sorted_tables):
                if table is not number:
                    await tx.execute(sa.delete(table))

    @pytest.fixture
    def other(self, db: Database, instances: Instances) -> Database:
        """The same database as another process has it open."""
        return instances.second

    @pytest.fixture
    def declared(self, instances: Instances) -> Capabilities:
        """What the backend declares."""
        return instances.first.backend.capabilities

    @pytest.fixture
    def open_db(self, db: Database, url: str, data_dir: Path) -> OpenDatabase:
        """Opens further instances."""

        @asynccontextmanager
        async def opened(**settings: Any) -> AsyncGenerator[Database]:
            backend = self.make_backend(url, data_dir, **settings)
            await backend.start()
            try:
                yield _bound(backend)
            finally:
                await backend.stop()

        return opened


def _make_tables(backend: DatabaseBackend, tables: sa.MetaData) -> None:
    engine = backend.sync_engine()
    try:
        tables.create_all(engine)
    finally:
        engine.dispose()


def _bound(backend: DatabaseBackend) -> Database:
    database = Database("conformance", metadata)
    database.bind(backend)
    return database


async def place(db: Database, customer: str, total: int = 0) -> Order:
    """An order in a transaction of its own."""
    async with db.tx() as tx:
        return await tx.one(add_order, Order, customer=customer, total=total)


async def open_accounts(db: Database, **balances: int) -> None:
    """Rows that transactions meet at."""
    async with db.tx() as tx:
        await tx.execute(sa.insert(account), [{"name": n, "balance": b} for n, b in balances.items()])


async def add_to(tx: Tx, who: str, amount: int) -> None:
    """Read, think, write: what loses updates where nothing prevents it."""
    balance = await tx.scalar(balance_of, who=who)
    await asyncio.sleep(0)
    await tx.execute(set_balance, who=who, to=balance + amount)


SUMMER = dt.timezone(dt.timedelta(hours=2))

ROUND_TRIPS: list[tuple[str, Any]] = [
    ("text", ""),
    ("text", "Zażółć gęślą jaźń, 漢字, 🦆👩‍👩‍👧"),
    ("text", "trailing blanks  "),
    ("text", "quote ' \" ` \\ % :x ? $1 ;--"),
    ("text", "x" * 300_000),
    ("short", "twenty characters 🦆!"[:20]),
    ("big", 2**63 - 1),
    ("big", -(2**63)),
    ("real", 0.1),
    ("real", 1.7976931348623157e308),
    ("real", -5e-324),
    ("price", decimal.Decimal("12.30")),
    ("price", decimal.Decimal("-9999999999.99")),
    ("flag", True),
    ("flag", False),
    ("day", dt.date(2026, 1, 2)),
    ("day", dt.date(1583, 12, 31)),
    ("clock", dt.time(23, 59, 59, 999_999)),
    ("naive", dt.datetime(2026, 1, 2, 3, 4, 5, 6)),
    ("naive", dt.datetime(1583, 1, 2)),
    ("naive", dt.datetime(9999, 12, 31, 23, 59, 59, 999_999)),
    ("span", dt.timedelta(days=1, microseconds=3)),
    ("ident", uuid.UUID(int=7)),
    ("doc", {"a": [1, None, "🦆", 2.5, True], "b": {}}),
    ("doc", ["x"]),
    ("doc", "a string"),
    ("state", State.CLOSED),
    ("data", b""),
    ("data", bytes(range(256))),
    ("data", b"\x00" * 300_000),
]
