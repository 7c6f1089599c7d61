"""Whole numbers that are written with a fraction or an exponent: ``2.0`` and ``1e3`` are integers in JSON Schema,
and to msgspec they are not.

Used only once a body was refused: the numbers that stand where an integer is wanted are rewritten, everything else
keeps its text, so that no Decimal loses a digit on the way.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from msgspec import inspect as mi

_FLOAT = re.compile(rb"[0-9][.eE]")
_DIGITS_MAX = 19
"""No integer that is accepted has more."""

_OBJECTS = (mi.StructType, mi.DataclassType, mi.TypedDictType)
_LISTS = (mi.ListType, mi.SetType, mi.FrozenSetType, mi.VarTupleType)


def has_floats(body: bytes) -> bool:
    """Whether there may be anything to rewrite; a look that costs little."""
    return _FLOAT.search(body) is not None


def with_integers(body: bytes, info: mi.Type) -> bytes:
    """``body``, which must be valid JSON of acceptable depth, with whole numbers written as such wherever ``info``
    wants an integer."""
    return msgspec.json.encode(_mended(info, json.loads(body, parse_float=_raw, parse_int=_raw)))


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def _mended(info: mi.Type, value: Any) -> Any:
    if isinstance(info, mi.Metadata):
        return _mended(info.type, value)
    if isinstance(info, mi.UnionType):
        return _in_union(info, value)
    if isinstance(value, msgspec.Raw):
        return _whole(value) if _takes_integers(info) else value
    if isinstance(value, dict):
        return _in_object(info, value)
    if isinstance(value, list):
        return _in_list(info, value)
    return value


def _takes_integers(info: mi.Type) -> bool:
    if isinstance(info, mi.LiteralType):
        return any(isinstance(value, int) for value in info.values)
    return isinstance(info, mi.IntType) or (isinstance(info, mi.EnumType) and issubclass(info.cls, int))


def _in_union(info: mi.UnionType, value: Any) -> Any:
    """A number that another alternative takes as it is, is left as it is."""
    if isinstance(value, msgspec.Raw) and any(
        isinstance(m, (mi.FloatType, mi.DecimalType)) for m in info.types
    ):
        return value
    for choice in info.types:
        tag_field = getattr(choice, "tag_field", None)
        if (
            tag_field is None
            or not isinstance(value, dict)
            or value.get(tag_field) == getattr(choice, "tag", None)
        ):
            value = _mended(choice, value)
    return value


def _in_object(info: Any, value: dict[str, Any]) -> dict[str, Any]:
    if isinstance(info, mi.DictType):
        return {name: _mended(info.value_type, member) for name, member in value.items()}
    if not isinstance(info, _OBJECTS):
        return value
    # A type that contains itself is described by its first mention only.
    fields = info.fields or getattr(mi.type_info(info.cls), "fields", ())
    types = {field.encode_name: field.type for field in fields}
    return {name: _mended(types[name], m) if name in types else m for name, m in value.items()}


def _in_list(info: Any, value: list[Any]) -> list[Any]:
    if isinstance(info, _LISTS):
        return [_mended(info.item_type, member) for member in value]
    if isinstance(info, mi.TupleType) and len(info.item_types) == len(value):
        return [_mended(type_, member) for type_, member in zip(info.item_types, value, strict=True)]
    return value


def _whole(number: msgspec.Raw) -> msgspec.Raw | int:
    try:
        value = Decimal(bytes(number).decode())
    except InvalidOperation:  # an exponent that no Decimal has
        return number
    if value.adjusted() >= _DIGITS_MAX or value != value.to_integral_value():
        return number
    return int(value)
