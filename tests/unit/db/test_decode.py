"""Where a column's type and a field's differ, the value is converted or the difference is named."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
import pytest

from tenfold.db.decode import Column, decoder
from tenfold.errors import RowMismatch


class State(enum.Enum):
    OPEN = "open"


class Address(msgspec.Struct):
    city: str


class Wide(msgspec.Struct, kw_only=True):
    state: State
    address: Address | None = None
    amount: decimal.Decimal | None = None
    at: dt.datetime | None = None
    count: Annotated[int, msgspec.Meta(ge=0)] = 0
    loose: Any = None


class Partial(TypedDict):
    id: int
    note: NotRequired[str]


def columns(*names: str, **types: type) -> list[Column]:
    return [Column(name, None, types.get(name)) for name in names]


def test_values_become_what_the_fields_declare() -> None:
    decode = decoder(
        Wide, columns("state", "address", "amount", "at", "count", "loose", state=str, address=dict)
    )
    made = decode(("open", {"city": "Hull"}, "12.30", "2026-11-22T10:00:00", 3, b"x"))
    assert made == Wide(
        state=State.OPEN,
        address=Address("Hull"),
        amount=decimal.Decimal("12.30"),
        at=dt.datetime(2026, 11, 22, 10),
        count=3,
        loose=b"x",
    )


def test_a_value_that_does_not_fit_is_named_with_its_field() -> None:
    decode = decoder(Wide, columns("state", state=str))
    with pytest.raises(
        RowMismatch, match=r"the column 'state' does not fit Wide\.state: Invalid enum value 'shut'"
    ):
        decode(("shut",))


def test_fields_with_defaults_need_no_column() -> None:
    assert decoder(Wide, columns("state", state=State))((State.OPEN,)) == Wide(state=State.OPEN)
    assert decoder(Partial, columns("id"))((1,)) == {"id": 1}


def test_processors_run_before_conversion() -> None:
    decode = decoder(int, [Column("n", lambda v: v * 2, str)])
    assert decode(("2",)) == 22


@pytest.mark.parametrize("type_", [int, int | None, Annotated[int, "x"]])
def test_scalars_take_one_column(type_: Any) -> None:
    assert decoder(type_, columns("n"))((5,)) == 5
    with pytest.raises(RowMismatch, match="takes one column, but the statement gives 2: a, b"):
        decoder(type_, columns("a", "b"))


def test_booleans_of_textual_sql_are_booleans() -> None:
    assert decoder(bool, columns("flag"))((1,)) is True


def test_column_names_that_are_not_identifiers_cannot_reach_the_generated_code() -> None:
    hostile = '"}] + print("x") #'
    assert decoder(dict, [Column(hostile)])((1,)) == {hostile: 1}
    from tenfold.db.decode import Row

    assert decoder(Row, [Column(hostile), Column("count")])((1, 2)) == (1, 2)


def test_a_column_that_comes_twice_is_refused() -> None:
    @dataclasses.dataclass
    class Id:
        id: int

    with pytest.raises(RowMismatch, match="more than one column named 'id'"):
        decoder(Id, columns("id", "id"))


def test_a_class_that_is_no_model_is_refused() -> None:
    class Plain:
        pass

    with pytest.raises(RowMismatch, match="rows cannot be decoded into Plain"):
        decoder(Plain, columns("id"))


def test_a_tuple_has_as_many_elements_as_there_are_columns() -> None:
    assert decoder(tuple[State, ...], columns("a", "b"))(("open", "open")) == (State.OPEN, State.OPEN)
    with pytest.raises(RowMismatch, match="has 1 elements, but the statement gives 2 columns: a, b"):
        decoder(tuple[int], columns("a", "b"))
