"""What is wrong with one value, as a sentence that continues "The field …"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import inspect as mi

from tenfold._core.text import plural
from tenfold.http.types import INT64_MAX, INT64_MIN

WANTED: dict[type[mi.Type], str] = {
    mi.BoolType: "true or false",
    mi.IntType: "a whole number",
    mi.FloatType: "a number",
    mi.StrType: "text",
    mi.BytesType: "base64 text",
    mi.ByteArrayType: "base64 text",
    mi.MemoryViewType: "base64 text",
    mi.DateTimeType: "a time such as 2026-01-31T12:00:00Z",
    mi.DateType: "a date such as 2026-01-31",
    mi.TimeType: "a time of day such as 12:30:00",
    mi.TimeDeltaType: "a duration such as PT15M",
    mi.UUIDType: "a UUID",
    mi.DecimalType: "a decimal number",
    mi.NoneType: "null",
    mi.ListType: "a list",
    mi.SetType: "a list",
    mi.FrozenSetType: "a list",
    mi.VarTupleType: "a list",
    mi.TupleType: "a list",
    mi.DictType: "an object",
    mi.StructType: "an object",
    mi.DataclassType: "an object",
    mi.TypedDictType: "an object",
    mi.NamedTupleType: "a list",
}

_PYTHON: dict[type[mi.Type], Any] = {
    mi.BoolType: bool,
    mi.IntType: int,
    mi.FloatType: float,
    mi.StrType: str,
    mi.BytesType: bytes,
    mi.ByteArrayType: bytearray,
    mi.MemoryViewType: memoryview,
    mi.NoneType: None,
}


_WRITTEN = (
    mi.StrType, mi.BytesType, mi.ByteArrayType, mi.MemoryViewType, mi.DateTimeType, mi.DateType, mi.TimeType,
    mi.TimeDeltaType, mi.UUIDType, mi.DecimalType,
)  # fmt: skip
"""Types whose values are text in JSON."""


def wanted(info: mi.Type) -> str:
    """What a type accepts, in words."""
    if isinstance(info, mi.Metadata):
        return wanted(info.type)
    if isinstance(info, (mi.EnumType, mi.LiteralType)):
        return "one of " + ", ".join(_shown(choice) for choice in choices(info))
    if isinstance(info, mi.UnionType):
        return " or ".join(dict.fromkeys(wanted(member) for member in info.types))
    return WANTED.get(type(info), "another kind of value")


def choices(info: mi.EnumType | mi.LiteralType) -> list[Any]:
    return [m.value for m in info.cls] if isinstance(info, mi.EnumType) else list(info.values)


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    for type_, words in ((int, "a number"), (float, "a number"), (str, "text"), (list, "a list")):
        if isinstance(value, type_):
            return words
    return "an object"


def wrong_kind(info: mi.Type, value: Any, *, lax: bool) -> str:
    """Text from a query string cannot be of another kind, so there only what is wanted is said."""
    if lax and isinstance(value, list):
        return "was given more than once; it takes a single value."
    same_kind = isinstance(value, str) and isinstance(info, _WRITTEN)
    return f"must be {wanted(info)}." if lax or same_kind else f"must be {wanted(info)}, not {kind(value)}."


def leaf(info: mi.Type, value: Any, *, lax: bool) -> str:
    """The sentence for a scalar that its type refuses, or an empty string when it is good."""
    if isinstance(value, str) and "\x00" in value:
        return "has a NUL character in it, which no text may have."
    if isinstance(info, (mi.AnyType, mi.RawType, mi.CustomType, mi.ExtType)):
        return ""
    if isinstance(info, (mi.EnumType, mi.LiteralType)):
        return "" if _converts(value, _type(info), lax) else f"must be {wanted(info)}."
    if not _converts(value, _type(info), lax):
        return wrong_kind(info, value, lax=lax)
    return _limits(info, msgspec.convert(value, _type(info), strict=not lax))


def _converts(value: Any, type_: Any, lax: bool) -> bool:
    try:
        msgspec.convert(value, type_, strict=not lax)
    except (msgspec.ValidationError, ValueError):
        return False
    return True


def _type(info: mi.Type) -> Any:
    """The Python type of a scalar, without its limits: those are judged apart, for better sentences."""
    if isinstance(info, mi.EnumType):
        return info.cls
    if isinstance(info, mi.LiteralType):
        from typing import Literal

        return Literal[tuple(info.values)]
    if isinstance(info, (mi.DateTimeType, mi.TimeType)):
        from datetime import datetime, time

        base: Any = datetime if isinstance(info, mi.DateTimeType) else time
        return base if info.tz is None else Annotated[base, msgspec.Meta(tz=info.tz)]
    if type(info) in _PYTHON:
        return _PYTHON[type(info)]
    return _standard(info)


def _standard(info: mi.Type) -> Any:
    import datetime
    import decimal
    import uuid

    table: dict[type[mi.Type], Any] = {
        mi.DateType: datetime.date,
        mi.TimeDeltaType: datetime.timedelta,
        mi.UUIDType: uuid.UUID,
        mi.DecimalType: decimal.Decimal,
    }
    return table.get(type(info), Any)


def _limits(info: mi.Type, value: Any) -> str:
    if isinstance(info, (mi.IntType, mi.FloatType)):
        return _number(info, value)
    if isinstance(info, mi.StrType):
        return length(info, len(value), "character") or _pattern(info, value)
    if isinstance(info, (mi.BytesType, mi.ByteArrayType, mi.MemoryViewType)):
        return length(info, len(value), "byte")
    return ""


def _number(info: mi.IntType | mi.FloatType, value: Any) -> str:
    if isinstance(info, mi.FloatType) and value - value != 0:
        return "must be a finite number."
    bounds: tuple[tuple[Any, str, Callable[[Any, Any], bool]], ...] = (
        (info.ge, "at least", lambda v, b: v >= b),
        (info.gt, "greater than", lambda v, b: v > b),
        (info.le, "at most", lambda v, b: v <= b),
        (info.lt, "less than", lambda v, b: v < b),
    )
    for bound, words, holds in bounds:
        if bound is not None and not holds(value, bound):
            return f"must be {words} {bound:,}."
    if info.multiple_of is not None and not _converts(
        value, Annotated[type(value), msgspec.Meta(multiple_of=info.multiple_of)], lax=False
    ):
        return f"must be a multiple of {info.multiple_of}."
    if isinstance(info, mi.IntType) and not INT64_MIN <= value <= INT64_MAX:
        return "is out of range: whole numbers have at most 64 bits."
    return ""


def length(info: Any, size: int, noun: str) -> str:
    """The sentence for something too short or too long, or an empty string."""
    if info.min_length is not None and size < info.min_length:
        return f"must have at least {plural(info.min_length, noun)}, not {size:,}."
    if info.max_length is not None and size > info.max_length:
        return f"must have at most {plural(info.max_length, noun)}, not {size:,}."
    return ""


def _pattern(info: mi.StrType, value: str) -> str:
    if info.pattern is None or _converts(
        value, Annotated[str, msgspec.Meta(pattern=info.pattern)], lax=False
    ):
        return ""
    return f"must match the pattern {info.pattern}"


def from_msgspec(message: str) -> str:
    """msgspec's own message as a sentence, for what no rule here foresees."""
    text = message.partition(" - at `")[0].replace("`", "")
    return f"is not valid: {text[:1].lower()}{text[1:]}."


def _shown(choice: Any) -> str:
    return str(choice) if isinstance(choice, str) else msgspec.json.encode(choice).decode()
