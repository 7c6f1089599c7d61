"""Which changes of a type are understood by readers of the other side, and how the others are told."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct
from pydantic import BaseModel

from tenfold.events.compat import misfits
from tenfold.events.released import schema_of


def struct(**fields: Any) -> Any:
    """A Struct named Event; a field's value is its type, or a pair of type and default."""
    items = [(name, *value) if isinstance(value, tuple) else (name, value) for name, value in fields.items()]
    return msgspec.defstruct("Event", items, kw_only=True)


class Line(Struct):
    sku: str
    more: list[Line] = []


class LongerLine(Struct):
    sku: str
    note: str = ""
    more: list[LongerLine] = []


class StricterLine(Struct):
    sku: str
    note: str
    more: list[StricterLine] = []


class Closed(Struct, forbid_unknown_fields=True):
    a: int


class Cat(Struct, tag=True):
    lives: int


class Dog(Struct, tag=True):
    tricks: list[str]


class Wolf(Struct, tag=True):
    pack: str


class Typed(TypedDict):
    a: int


class Model(BaseModel):
    a: int
    when: datetime


class MoreModel(BaseModel):
    a: int
    when: datetime
    note: str = ""


UNDERSTOOD = [
    ("the same", struct(a=int), struct(a=int)),
    ("a new field with a default", struct(a=int), struct(a=int, b=(str, ""))),
    ("an optional field is gone", struct(a=int, b=(str, "")), struct(a=int)),
    ("another name and order", struct(a=int, b=str), msgspec.defstruct("Other", [("b", str), ("a", int)])),
    ("a Struct for a TypedDict", Typed, struct(a=int)),
    ("inside a list, of a type that holds itself", Line, LongerLine),
    ("new field of a Pydantic model", Model, MoreModel),
    ("bounds said differently", struct(a=Annotated[int, Meta(ge=1)]), struct(a=Annotated[int, Meta(ge=1)])),
]


@pytest.mark.parametrize(("change", "old", "new"), UNDERSTOOD, ids=[u[0] for u in UNDERSTOOD])
def test_a_change_that_both_sides_understand_passes(change: str, old: Any, new: Any) -> None:
    assert misfits(schema_of(old), schema_of(new)) == []
    assert misfits(schema_of(new), schema_of(old)) == []


# what a writer of the first type may write that a reader of the second does not understand
MISUNDERSTOOD = [
    (struct(a=int), struct(a=int, b=str), "$.b", "may be missing", "require it"),
    (struct(a=(int, 0)), struct(a=int), "$.a", "may be missing", "require it"),
    (struct(a=str), struct(a=int), "$.a", "may be string", "read integer only"),
    (struct(a=float), struct(a=int), "$.a", "may be number", "read integer only"),
    (struct(a=int | None), struct(a=int), "$.a", "may be null", "read integer only"),
    (struct(a=str), struct(a=datetime), "$.a", "has no format", "read format date-time only"),
    (struct(a=Any), struct(a=int), "$.a", "may be anything", "read integer only"),
    (struct(a=str), struct(a=Literal["x", "y"]), "$.a", "may be any string", "know only 'x', 'y'"),
    (struct(a=Literal["x", "z"]), struct(a=Literal["x", "y"]), "$.a", "may be 'z'", "read 'x', 'y' only"),
    (struct(a=Literal["x", 1]), struct(a=str), "$.a", "may be 1", "read string only"),
    (struct(a=int), struct(a=Annotated[int, Meta(ge=1)]), "$.a", "is not bound by minimum 1", "refuse"),
    (struct(a=Annotated[int, Meta(le=9)]), struct(a=Annotated[int, Meta(lt=9)]), "$.a", "exclusiveMaximum 9", "re"),
    (struct(a=str), struct(a=Annotated[str, Meta(max_length=3)]), "$.a", "maxLength 3", "refuse"),
    (struct(a=list[Line]), struct(a=list[StricterLine]), "$.a[*].note", "may be missing", "require it"),
    (struct(a=dict[str, str]), struct(a=dict[str, int]), "$.a.*", "may be string", "read integer only"),
    (struct(a=tuple[int, str]), struct(a=tuple[int, int]), "$.a[1]", "may be string", "read integer only"),
    (struct(a=list[str]), struct(a=list[int]), "$.a[*]", "may be string", "read integer only"),
    (struct(a=int, b=(int, 0)), Closed, "$.b", "may be there", "refuse members"),
    (struct(a=Cat | Dog | Wolf), struct(a=Cat | Dog), "$.a", "", ""),
    (int, str, "$", "may be integer", "read string only"),
]  # fmt: skip


@pytest.mark.parametrize(("writer", "reader", "path", "written", "read"), MISUNDERSTOOD)
def test_a_change_that_readers_do_not_understand_is_named_with_its_path(
    writer: Any, reader: Any, path: str, written: str, read: str
) -> None:
    found = misfits(schema_of(writer), schema_of(reader))
    assert found
    assert found[0].path.startswith(path)
    assert written in found[0].written
    assert read in found[0].read


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        (struct(a=int), struct(a=float)),
        (struct(a=int), struct(a=int | None)),
        (struct(a=int), struct(a=int | str)),
        (struct(a=datetime), struct(a=str)),
        (struct(a=Literal["x"]), struct(a=Literal["x", "y"])),
        (struct(a=Literal["x"]), struct(a=str)),
        (struct(a=Annotated[int, Meta(ge=5)]), struct(a=Annotated[int, Meta(gt=4)])),
        (struct(a=Annotated[str, Meta(max_length=3)]), struct(a=Annotated[str, Meta(max_length=4)])),
        (struct(a=Cat | Dog), struct(a=Cat | Dog | Wolf)),
        (struct(a=tuple[int, int]), struct(a=list[int])),
        (struct(a=Line), struct(a=Any)),
        (struct(a=Typed), struct(a=dict[str, int])),
    ],
)
def test_a_wider_reader_understands_a_narrower_writer_and_not_the_other_way_round(
    writer: Any, reader: Any
) -> None:
    assert misfits(schema_of(writer), schema_of(reader)) == []
    assert misfits(schema_of(reader), schema_of(writer)) != []


# ── against the decoder itself ──

LEAVES = {
    int: st.integers(-9, 9),
    float: st.floats(-9, 9, width=16),
    str: st.text("ab", max_size=3),
    bool: st.booleans(),
    int | None: st.none() | st.integers(-9, 9),
    int | str: st.integers(-9, 9) | st.text("ab", max_size=3),
    list[int]: st.lists(st.integers(-9, 9), max_size=2),
    dict[str, int]: st.dictionaries(st.text("ab", max_size=1), st.integers(0, 9), max_size=2),
    Literal["a", "b"]: st.sampled_from(["a", "b"]),
    Literal["a", "c"]: st.sampled_from(["a", "c"]),
    Annotated[int, Meta(ge=0, lt=5)]: st.integers(0, 4),
    Annotated[str, Meta(max_length=2)]: st.text("ab", max_size=2),
}
FIELDS = st.dictionaries(
    st.sampled_from("xyz"), st.tuples(st.sampled_from(list(LEAVES)), st.booleans()), min_size=1
)


def _type(fields: dict[str, tuple[Any, bool]]) -> Any:
    return struct(
        **{n: (kind, msgspec.UNSET) if optional else kind for n, (kind, optional) in fields.items()}
    )


@settings(max_examples=300, deadline=None)
@given(FIELDS, FIELDS, st.data())
def test_what_is_said_to_be_understood_is_decoded(writes: Any, reads: Any, data: st.DataObject) -> None:
    """Whatever a writer may write, a reader that is said to understand it decodes."""
    if misfits(schema_of(_type(writes)), schema_of(_type(reads))):
        return
    document = {
        name: data.draw(LEAVES[kind])
        for name, (kind, optional) in writes.items()
        if not (optional and data.draw(st.booleans()))
    }
    msgspec.json.decode(msgspec.json.encode(document), type=_type(reads))
