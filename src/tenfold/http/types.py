"""Questions about types that binding and documentation ask; answers depend on nothing but the type."""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
import sys
import types
import typing
from collections.abc import Collection, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

import msgspec

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

_SCALARS = (str, int, float, bool, bytes, datetime, date, time, timedelta, Decimal, UUID)
_SEQUENCES = (list, set, frozenset, tuple, Sequence, Collection)


def strip_annotated(hint: Any) -> Any:
    """``Annotated[T, …]`` and ``NewType`` as ``T``."""
    while True:
        if get_origin(hint) is Annotated:
            hint = get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        else:
            return hint


def members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the type itself."""
    hint = strip_annotated(hint)
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def without_none(hint: Any) -> tuple[Any, ...]:
    return tuple(m for m in members(hint) if m is not type(None))


def present(hint: Any) -> Any:
    """The type without None: text has no null, an absent parameter is what None means."""
    if get_origin(hint) is Annotated:
        inner, *extras = get_args(hint)
        return Annotated[(present(inner), *extras)]
    kept = without_none(hint)
    return functools.reduce(operator.or_, kept) if 0 < len(kept) < len(members(hint)) else hint


def is_scalar(hint: Any) -> bool:
    """Text, numbers, times, identifiers, enumerations, and unions of them with None."""
    return all(_is_plain_scalar(strip_annotated(m)) for m in without_none(hint))


def _is_plain_scalar(hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return True
    return isinstance(hint, type) and issubclass(hint, (*_SCALARS, enum.Enum))


def is_sequence_of_scalars(hint: Any) -> bool:
    """``list[int]``, ``set[str] | None`` … : what a repeated query parameter can be."""
    found = without_none(hint)
    if len(found) != 1:
        return False
    inner = strip_annotated(found[0])
    if inner in _SEQUENCES:
        return True
    args = get_args(inner)
    return get_origin(inner) in _SEQUENCES and all(a is Ellipsis or is_scalar(a) for a in args)


def is_pydantic(hint: Any) -> bool:
    return isinstance(hint, type) and hasattr(hint, "__pydantic_validator__")


def is_attrs(hint: Any) -> bool:
    return isinstance(hint, type) and "__attrs_attrs__" in vars(hint)


def is_model(hint: Any) -> bool:
    """A class with named, typed fields: Struct, dataclass, attrs, TypedDict, Pydantic model (or None)."""
    found = without_none(hint)
    if len(found) != 1:
        return False
    inner = strip_annotated(found[0])
    inner = get_origin(inner) or inner
    return isinstance(inner, type) and (
        issubclass(inner, msgspec.Struct)
        or dataclasses.is_dataclass(inner)
        or typing.is_typeddict(inner)
        or is_attrs(inner)
        or is_pydantic(inner)
    )


def parts(hint: Any) -> Iterator[Any]:
    """The type and every type inside its brackets, fields of models not included."""
    hint = strip_annotated(hint)
    yield hint
    if get_origin(hint) is not Literal:
        for inner in get_args(hint):
            yield from parts(inner)


def has_pydantic(hint: Any) -> bool:
    return any(is_pydantic(part) for part in parts(hint))


_BOUNDS: dict[Any, tuple[Any, Any]] = {
    int: (INT64_MIN, INT64_MAX),
    float: (-sys.float_info.max, sys.float_info.max),
}


def bounded(hint: Any) -> Any:
    """The type with every open ``int`` limited to 64 bits and every open ``float`` to finite numbers.

    Integers beyond that fit no database column, and JSON has no word for infinity and NaN, so they are refused
    where they come in.
    """
    if hint is int or hint is float:
        return Annotated[(hint, *_missing_bounds(hint, ()))]
    origin, args = get_origin(hint), get_args(hint)
    generic: Any = origin
    if origin is Annotated:
        inner, extras = args[0], args[1:]
        if inner is int or inner is float:
            return Annotated[(inner, *extras, *_missing_bounds(inner, extras))]
        return Annotated[(bounded(inner), *extras)]
    if origin in (Union, types.UnionType):
        return functools.reduce(operator.or_, (bounded(a) for a in args))
    if origin in (list, set, frozenset, tuple) and args:
        return generic[tuple(a if a is Ellipsis else bounded(a) for a in args)]
    if origin is dict:
        return generic[args[0], bounded(args[1])]
    return hint


def _missing_bounds(number: Any, extras: tuple[Any, ...]) -> tuple[msgspec.Meta, ...]:
    metas = [m for m in extras if isinstance(m, msgspec.Meta)]
    least, most = _BOUNDS[number]
    lower = msgspec.Meta(ge=least) if all(m.ge is None and m.gt is None for m in metas) else None
    upper = msgspec.Meta(le=most) if all(m.le is None and m.lt is None for m in metas) else None
    return tuple(meta for meta in (lower, upper) if meta is not None)
