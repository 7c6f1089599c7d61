"""The ORM on the transaction that everything else is in."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

from support.orders_db import opened
from tenfold import errors
from tenfold.db import Database

pytestmark = pytest.mark.anyio


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(sa.ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


@pytest.fixture
async def db(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Database]:
    async with opened(tmp_path, metadata=Base.metadata) as database:
        yield database


async def names(db: Database) -> list[str]:
    return await db.read().all(sa.select(Author.name).order_by(Author.id), str)


async def test_objects_are_written_before_the_commit_without_being_asked(db: Database) -> None:
    async with db.tx() as tx:
        tx.session.add(Author(name="Austen", books=[Book(), Book()]))
    async with db.tx() as tx:
        found = (await tx.session.scalars(sa.select(Author).options(selectinload(Author.books)))).one()
        assert (found.name, len(found.books)) == ("Austen", 2)
        found.name = "Jane Austen"
    assert await names(db) == ["Jane Austen"]


async def test_core_and_orm_see_each_other_in_one_transaction(db: Database) -> None:
    async with db.tx() as tx:
        await tx.execute(sa.insert(Author), {"name": "Core"})
        assert (await tx.session.scalars(sa.select(Author.name))).all() == ["Core"]
        tx.session.add(Author(name="Orm"))
        await tx.session.flush()
        assert await tx.scalar(sa.select(sa.func.count()).select_from(Author)) == 2
    assert await names(db) == ["Core", "Orm"]


async def test_an_error_undoes_what_the_session_wrote(db: Database) -> None:
    with suppress(ZeroDivisionError):
        async with db.tx() as tx:
            tx.session.add(Author(name="Lost"))
            await tx.session.commit()  # flushes only
            raise ZeroDivisionError
    assert await names(db) == []


async def test_constraints_raise_tenfolds_errors(db: Database) -> None:
    with pytest.raises(errors.ForeignKeyViolation):
        async with db.tx() as tx:
            tx.session.add(Book(author_id=404))


async def test_savepoints_of_both_kinds_undo_their_part(db: Database) -> None:
    async with db.tx() as tx:
        tx.session.add(Author(name="Outer"))
        with suppress(errors.ForeignKeyViolation):
            async with tx.savepoint():
                tx.session.add(Author(name="Undone"))
                tx.session.add(Book(author_id=404))
        with suppress(ZeroDivisionError):
            async with tx.session.begin_nested():
                tx.session.add(Author(name="Undone too"))
                raise ZeroDivisionError
        async with tx.session.begin_nested():
            tx.session.add(Author(name="Nested"))
    assert await names(db) == ["Outer", "Nested"]


async def test_a_session_that_begins_inside_a_savepoint_ends_with_it(db: Database) -> None:
    async with db.tx() as tx:
        with suppress(ZeroDivisionError):
            async with tx.savepoint():
                tx.session.add(Author(name="Undone"))
                await tx.session.flush()
                raise ZeroDivisionError
        tx.session.add(Author(name="Kept"))
    assert await names(db) == ["Kept"]


async def test_rolling_back_the_session_is_refused_with_the_way_out(db: Database) -> None:
    with pytest.raises(errors.TransactionMisuse, match="Leave the `async with"):
        async with db.tx() as tx:
            tx.session.add(Author(name="x"))
            await tx.session.rollback()
    assert await names(db) == []
