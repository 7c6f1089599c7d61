"""Values leave the process as bytes and come back as what they were, or not at all."""

from __future__ import annotations

import dataclasses
import enum
import logging
import random
import sys
import types
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.cache import codec
from tenfold.cache.codec import Codec, Undecodable, decode
from tenfold.cache.policy import Entry
from tenfold.errors import NotFound


class Colour(enum.Enum):
    RED = "red"


class Item(msgspec.Struct):
    name: str
    at: datetime
    parts: tuple[int, ...] = ()


@dataclasses.dataclass
class Point:
    x: int
    colour: Colour


class Pair(NamedTuple):
    left: str
    right: Decimal


class Model(pydantic.BaseModel):
    id: int
    tags: set[str]


NOW = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
VALUES: list[Any] = [
    None, True, 7, -1.5, "text ż\0", b"\0\xff", bytearray(b"x"), NOW, date(2026, 1, 2), time(3, 4), timedelta(days=-1),
    UUID(int=7), Decimal("1.10"), Colour.RED, Item("a", NOW, (1, 2)), Point(1, Colour.RED), Pair("l", Decimal(2)),
    Model(id=1, tags={"a"}), [], {}, (), set[int](), [None, 1, "mixed"], [Item("a", NOW), None], (1, "two", NOW),
    {1, 2}, frozenset({"a"}), {"a": 1}, {"a": NOW, "b": 1}, {1: Item("a", NOW)}, {UUID(int=1): [Pair("l", Decimal(1))]},
    [[(1, Point(2, Colour.RED))]],
]  # fmt: skip


def entry(value: Any, error: BaseException | None = None) -> Entry:
    return Entry(value, fresh_until=1.0, stale_until=1.0, error=error)


def there_and_back(value: Any) -> Any:
    encoded = Codec().encode(entry(value), "key")
    assert encoded is not None, value
    return decode(*encoded, 0.0)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_equal_and_of_its_own_type(value: Any) -> None:
    back = there_and_back(value)
    assert back == value
    assert type(back) is type(value)


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
TYPED = st.uuids() | st.dates() | st.timedeltas() | st.decimals(allow_nan=False, allow_infinity=False)


@given(
    st.recursive(
        PLAIN | TYPED,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_whatever_is_encoded_comes_back_equal(value: Any) -> None:
    """What would not is refused."""
    encoded = Codec().encode(entry(value), "key")
    if encoded is not None:
        back = decode(*encoded, 0.0)
        assert back == value
        assert type(back) is type(value)


class Open:
    """Holds more than data."""


@pytest.mark.parametrize(
    "value",
    [Open(), object(), lambda: 1, [1, Open()], OrderedDict(a=1), 2**70, [NOW, "mixed"]],
    ids=["open struct", "object", "function", "inside a list", "ordered dict", "large number", "mixed list"],
)
def test_what_would_not_come_back_is_refused_with_one_warning(
    value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made = Codec()
    with caplog.at_level(logging.WARNING, "tenfold.cache"):
        assert made.encode(entry(value), "first") is None
        assert made.encode(entry(value), "second") is None
    assert [record.getMessage().count("(first)") for record in caplog.records] == [1]
    assert "is cached in it only" in caplog.text


def test_nothing_is_imported_for_bytes_in_a_store() -> None:
    """A class that this process has not imported is unknown to it, whatever a store says."""
    module = "wsgiref.handlers"
    sys.modules.pop(module, None)
    with pytest.raises(Undecodable, match="no class in this process"):
        decode(f'["class", "{module}:SimpleHandler", "0"]', b"\x90", 0.0)
    assert module not in sys.modules


@pytest.mark.parametrize(
    "shape",
    [
        '["class", "subprocess:Popen", "0"]', '["error", "builtins:SystemExit"]', '["class", "builtins:eval", "0"]',
        '["class", "os:system", "0"]', '["portable", "nobody"]', '"nonsense"', '["unknown", "any"]', "not json", "[]",
        '["class"]', "7",
    ],
)  # fmt: skip
def test_a_shape_that_names_no_data_is_undecodable(shape: str) -> None:
    with pytest.raises(Undecodable):
        decode(shape, msgspec.msgpack.encode(["touch", "/"]), 0.0)


def test_another_version_of_a_class_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when the bytes would: a field with a default would be made up."""
    old = types.ModuleType("versions")
    monkeypatch.setitem(sys.modules, "versions", old)
    old.Thing = msgspec.defstruct("Thing", [("a", int)], module="versions")  # type: ignore[attr-defined]
    encoded = Codec().encode(entry(old.Thing(1)), "key")
    assert encoded is not None
    assert decode(*encoded, 0.0) == old.Thing(1)
    new = types.ModuleType("versions")
    new.Thing = msgspec.defstruct("Thing", [("a", int), ("b", int, 0)], module="versions")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "versions", new)
    codec._reader.cache_clear()
    with pytest.raises(Undecodable, match="other fields here"):
        decode(*encoded, 0.0)


def test_an_error_that_says_that_there_is_nothing_comes_back() -> None:
    encoded = Codec().encode(entry(None, NotFound("No such thing.", sku="a")), "key")
    assert encoded is not None
    back = decode(*encoded, 0.0)
    assert (type(back), back.detail, back.extra) == (NotFound, "No such thing.", {"sku": "a"})


@pytest.mark.parametrize("seed", range(20))
def test_damaged_bytes_are_undecodable_or_a_value_of_the_shape(seed: int) -> None:
    """Never another exception, and never another type."""
    rng = random.Random(seed)
    encoded = Codec().encode(entry([Item("a" * 20, NOW, (1, 2, 3))] * 3), "key")
    assert encoded is not None
    shape, payload = encoded
    for _ in range(200):
        damaged = bytearray(payload)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            back = decode(shape, bytes(damaged[: rng.randint(0, len(damaged))]), 0.0)
        except Undecodable:
            continue
        assert all(type(item) is Item for item in back)
