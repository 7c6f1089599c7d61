"""Reading: snapshots, streams, limits, lists, statements made on the spot, and values as they went in."""

from __future__ import annotations

import datetime as dt
import decimal
from contextlib import aclosing
from typing import Any, cast

import pytest
import sqlalchemy as sa

from tenfold import errors
from tenfold.conformance._database_case import (
    ROUND_TRIPS,
    SUMMER,
    DatabaseCase,
    Order,
    State,
    account,
    add_order,
    count_orders,
    kind,
    number,
    open_accounts,
    order,
    order_by_id,
    place,
)
from tenfold.conformance.kit import together
from tenfold.db.database import Database
from tenfold.db.decode import Row


async def fill(db: Database, count: int) -> None:
    """So many orders, their totals counted from 1."""
    async with db.tx() as tx:
        await tx.execute(sa.insert(order), [{"customer": f"c{n}", "total": n} for n in range(1, count + 1)])


class ReadClaims(DatabaseCase):
    async def test_one_maybe_and_scalar_say_when_there_is_not_exactly_one_row(self, db: Database) -> None:
        """`one` raises NoRow or ManyRows, `maybe` answers None, and `all` gives every row."""
        await fill(db, 2)
        reader = db.read()
        assert await reader.maybe(order_by_id, Order, id=-9) is None
        assert await reader.scalar(count_orders) == 2
        with pytest.raises(errors.NoRow, match="SELECT conf_order"):
            await reader.one(order_by_id, Order, id=-9)
        for many in (reader.one, reader.maybe, reader.scalar):
            with pytest.raises(errors.ManyRows):
                await many(sa.select(order))
        assert [o.total for o in await reader.all(sa.select(order).order_by(order.c.id), Order)] == [1, 2]

    async def test_all_does_not_read_more_rows_than_it_may(
        self, db: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Beyond ``rows_max`` it raises ManyRows, in transactions too, which go on; ``stream`` reads them."""
        await fill(db, 4)
        monkeypatch.setattr(db.backend, "rows_max", 3)
        few, many = sa.select(order).where(order.c.total < 4), sa.select(order)
        assert len(await db.read().all(few)) == 3
        with pytest.raises(errors.ManyRows, match=r"more than 3 rows \(database.rows_max\)"):
            await db.read().all(many)
        async with db.tx() as tx:
            with pytest.raises(errors.ManyRows):
                await tx.all(many)
            assert len(await tx.all(few)) == 3
            assert len([row async for row in tx.stream(many)]) == 4

    async def test_rows_have_names_also_in_textual_sql(self, db: Database) -> None:
        """Columns of `sa.text` are known by the names that the engine gives them."""
        placed = await place(db, "c", 3)
        statement = sa.text("SELECT id, customer, total FROM conf_order WHERE total = :wanted")
        assert await db.read().one(statement, Order, wanted=3) == placed
        row = await db.read().one(statement, wanted=3)
        assert isinstance(row, Row)
        assert row.as_dict() == {"id": placed.id, "customer": "c", "total": 3}
        assert await db.read().all(statement, Order, wanted=4) == []

    async def test_statements_of_a_snapshot_see_one_state(self, db: Database, other: Database) -> None:
        """Inside `async with db.read()` every statement sees the state at the first one; the next block, the new."""
        await fill(db, 1)
        async with db.read() as reader:
            before = await reader.scalar(count_orders)
            await fill(other, 5)
            assert await reader.scalar(count_orders) == before == 1
            assert len(await reader.all(sa.select(order))) == 1
        assert await db.read().scalar(count_orders) == 6

    async def test_a_reader_refuses_to_write(self, db: Database) -> None:
        """A reader changes nothing, and says what to use; textual SQL is refused by the engine."""
        with pytest.raises(errors.TransactionMisuse, match=r"db\.tx"):
            await db.read().one(add_order, Order, customer="x")
        await fill(db, 1)
        async with db.read() as reader:
            await reader.scalar(count_orders)
            with pytest.raises(errors.TransactionMisuse):
                await reader.all(sa.text("DELETE FROM conf_order"))
        with pytest.raises(errors.TransactionMisuse):
            await db.read().all(sa.text("DELETE FROM conf_order"))
        assert await db.read().scalar(count_orders) == 1

    async def test_stream_gives_every_row_in_order_of_one_state(self, db: Database, other: Database) -> None:
        """A stream shows the state at its start, whatever is committed while it is read."""
        await fill(db, 1_203)
        totals: list[int] = []
        async for found in db.read().stream(sa.select(order).order_by(order.c.id), Order):
            totals.append(found.total)
            if found.total == 1:
                async with other.tx() as tx:
                    await tx.execute(sa.delete(order).where(order.c.total > 1_000))
        assert totals == list(range(1, 1_204))
        assert [o async for o in db.read().stream(sa.select(order).where(order.c.id < 0), Order)] == []

    async def test_a_stream_that_is_left_early_gives_everything_back(self, db: Database) -> None:
        """A stream may be left after its first row, any number of times."""
        await fill(db, 1_500)
        for _ in range(30):  # more often than any pool has connections
            rows = db.read().stream(sa.select(order).order_by(order.c.id), Order)
            async with aclosing(cast("Any", rows)) as opened:
                async for found in opened:
                    assert found.total == 1
                    break
        assert await db.read().scalar(count_orders) == 1_500

    async def test_a_stream_in_a_transaction_sees_its_changes(self, db: Database) -> None:
        """In a transaction a stream gives the transaction's own rows, and statements run beside it."""
        async with db.tx() as tx:
            await tx.execute(sa.insert(order), [{"customer": f"c{n}"} for n in range(1_200)])
            count = 0
            async for found in tx.stream(sa.select(order).order_by(order.c.id), Order):
                count += 1
                if count == 1:
                    await tx.execute(sa.update(order).where(order.c.id == found.id).values(total=5))
            assert count == 1_200
        assert await db.read().scalar(sa.select(sa.func.sum(order.c.total))) == 5

    async def test_a_stream_left_open_does_not_keep_the_transaction_from_ending(self, db: Database) -> None:
        """A transaction commits although one of its streams was not read to the end."""
        async with db.tx() as tx:
            await tx.execute(sa.insert(order), [{"customer": f"c{n}"} for n in range(1_200)])
            rows = tx.stream(sa.select(order), Order)
            await anext(rows)
            await tx.one(add_order, Order, customer="beside it")
        assert await db.read().scalar(count_orders) == 1_201

    async def test_limits_and_offsets_may_be_parameters(self, db: Database) -> None:
        """LIMIT and OFFSET take values of the call, and 0 rows are an answer."""
        await fill(db, 5)
        page = (
            sa.select(order.c.total)
            .order_by(order.c.id)
            .limit(sa.bindparam("at_most", type_=sa.Integer))
            .offset(sa.bindparam("after", type_=sa.Integer))
        )
        assert await db.read().all(page, int, at_most=2, after=1) == [2, 3]
        assert await db.read().all(page, int, at_most=0, after=0) == []
        assert await db.read().all(page, int, at_most=9, after=4) == [5]

    async def test_a_list_of_values_may_have_any_length(self, db: Database) -> None:
        """`IN` takes lists of any length, the empty one among them, from one statement."""
        statement = sa.select(number.c.n).where(number.c.n.in_(sa.bindparam("some", expanding=True)))
        for wanted in ([], [7], [3, 1, 2], list(range(1, 251)), [7]):
            assert sorted(await db.read().all(statement, int, some=wanted)) == sorted(wanted)

    async def test_statements_made_on_the_spot_do_not_mix_up_their_values(self, db: Database) -> None:
        """A statement that is built per call gets its own values, also when it has the shape of the last one."""
        await open_accounts(db, a=1, b=2, c=3)
        for n, name in enumerate("abc", 1):
            statement = sa.select(account.c.balance).where(account.c.name == name, account.c.balance < 10 + n)
            assert await db.read().scalar(statement) == n
        found = await together(
            db.read().scalar(sa.select(sa.literal(n) + number.c.n).where(number.c.n == n))
            for n in range(1, 51)
        )
        assert found == [2 * n for n in range(1, 51)]

    async def test_many_readers_at_once_get_their_own_answers(self, db: Database) -> None:
        """No answer ever belongs to another caller."""
        one = sa.select(number.c.n).where(number.c.n == sa.bindparam("n"))
        assert await together(db.read().scalar(one, n=n) for n in range(1, 201)) == list(range(1, 201))


class TypeClaims(DatabaseCase):
    async def through(self, db: Database, **values: Any) -> Any:
        """One value, written and read back in three ways that agree."""
        (name,) = values
        async with db.tx() as tx:
            row = await tx.one(sa.insert(kind).returning(kind), dict, **values)
        assert row == await db.read().one(sa.select(kind).where(kind.c.id == row["id"]), dict)
        async with db.tx() as tx:
            again = (await tx.session.execute(sa.select(kind).where(kind.c.id == row["id"]))).mappings().one()
            assert again[name] == row[name]
            await tx.execute(sa.delete(kind))
        return row[name]

    @pytest.mark.parametrize(("column", "value"), ROUND_TRIPS, ids=lambda v: str(v)[:20])
    async def test_what_goes_in_comes_out(self, db: Database, column: str, value: Any) -> None:
        """A value comes back equal and of its own type."""
        found = await self.through(db, **{column: value})
        assert found == value
        assert isinstance(found, type(value))

    async def test_nothing_comes_back_as_none(self, db: Database) -> None:
        """NULL is None, whatever the column's type."""
        columns = [column.name for column in kind.c if column.name != "id"]
        async with db.tx() as tx:
            await tx.execute(sa.insert(kind), dict.fromkeys(columns))
        row = await db.read().one(sa.select(*(kind.c[name] for name in columns)), dict)
        assert row == dict.fromkeys(columns)

    async def test_numbers_keep_their_scale(self, db: Database) -> None:
        """A Numeric is rounded to its scale, half away from zero, and comes back with it."""
        assert str(await self.through(db, price=decimal.Decimal("1.005"))) == "1.01"
        assert str(await self.through(db, price=decimal.Decimal("-1.005"))) == "-1.01"
        assert str(await self.through(db, price=decimal.Decimal(3))) == "3.00"

    async def test_aware_times_come_back_aware_in_utc_and_compare(self, db: Database) -> None:
        """A time with a zone is a moment: it comes back in UTC and compares with moments of any zone."""
        at = dt.datetime(2026, 7, 1, 12, 0, 0, 5, tzinfo=SUMMER)
        async with db.tx() as tx:
            await tx.execute(sa.insert(kind), {"aware": at})
        found = await db.read().one(sa.select(kind.c.aware), dt.datetime)
        assert found == at
        assert found.utcoffset() == dt.timedelta(0)
        later = sa.select(sa.func.count()).where(
            kind.c.aware > sa.bindparam("since", type_=kind.c.aware.type)
        )
        assert await db.read().scalar(later, since=at - dt.timedelta(microseconds=1)) == 1
        assert await db.read().scalar(later, since=at) == 0

    async def test_a_time_with_the_wrong_kind_of_zone_is_refused(self, db: Database) -> None:
        """A time without a zone is no moment, and a column without zones takes none that has one."""
        with pytest.raises(errors.StatementError):
            await self.through(db, aware=dt.datetime(2026, 1, 1))
        with pytest.raises(errors.StatementError):
            await self.through(db, naive=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))

    async def test_text_is_compared_character_by_character(self, db: Database) -> None:
        """Case, accents and trailing blanks make different texts, in comparisons and in unique keys."""
        texts = ["a", "A", "ä", "a ", "a  ", "ａ"]
        async with db.tx() as tx:
            for text in texts:
                await tx.execute(sa.insert(kind), {"short": text, "text": text})
        same = sa.select(kind.c.text).where(kind.c.short == sa.bindparam("wanted"))
        for text in texts:
            assert await db.read().all(same, str, wanted=text) == [text]
        with pytest.raises(errors.UniqueViolation):
            async with db.tx() as tx:
                await tx.execute(sa.insert(kind), {"short": "A"})

    async def test_an_enum_is_stored_by_its_name_and_found_by_it(self, db: Database) -> None:
        """Enum columns compare with members."""
        async with db.tx() as tx:
            await tx.execute(sa.insert(kind), [{"state": State.OPEN}, {"state": State.CLOSED}])
        found = await db.read().all(sa.select(kind.c.state).where(kind.c.state == State.OPEN), State)
        assert found == [State.OPEN]

    async def test_text_with_nul_is_refused(self, db: Database) -> None:
        """A text cannot hold the character NUL: some engines end there, so every one refuses it."""
        with pytest.raises(errors.StatementError):
            await self.through(db, text="before\x00after")
        assert await db.read().scalar(sa.select(sa.func.count()).select_from(kind)) == 0

    async def test_text_longer_than_its_column_is_refused(self, db: Database) -> None:
        """A text that exceeds the length of its column is an error, never cut off."""
        with pytest.raises(errors.StatementError):
            await self.through(db, short="x" * 21)

    @pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
    async def test_an_integer_that_does_not_fit_is_refused(self, db: Database, value: int) -> None:
        """An integer of more than 64 bits is an error, never wrapped around or rounded."""
        with pytest.raises(errors.StatementError):
            await self.through(db, big=value)

    async def test_a_number_with_too_many_digits_is_refused(self, db: Database) -> None:
        """A Numeric that exceeds its precision is an error."""
        with pytest.raises(errors.StatementError):
            await self.through(db, price=decimal.Decimal("12345678901.00"))

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("big", "seven"), ("big", 1.5), ("real", "warm"), ("text", 7), ("data", "text"), ("price", "cheap"),
            ("flag", "perhaps"), ("day", "tomorrow"), ("clock", 5), ("naive", "now"), ("aware", 0),
            ("span", "long"), ("ident", "me"), ("doc", object()), ("state", "NONE"),
        ],
        ids=lambda v: str(v)[:10],
    )  # fmt: skip
    async def test_a_value_of_another_type_is_refused(self, db: Database, column: str, value: Any) -> None:
        """A value that is not of its column's type is an error, never stored as something else."""
        insert = sa.insert(kind)
        for statement, values in [(insert, {column: value})] * 2 + [(insert.values({column: value}), {})]:
            with pytest.raises(errors.StatementError):
                async with db.tx() as tx:
                    await tx.execute(statement, values)
        assert await db.read().scalar(sa.select(sa.func.count()).select_from(kind)) == 0

    async def test_a_value_of_no_sql_type_is_refused(self, db: Database) -> None:
        """An object that no database can store is an error that leaves the connection usable."""
        with pytest.raises(errors.StatementError):
            await db.read().all(sa.select(number.c.n).where(number.c.n == sa.bindparam("x")), x=object())
        assert await db.read().scalar(sa.select(number.c.n).where(number.c.n == 1)) == 1
