"""A second, cheap decoder that knows what the first one lets pass: unknown fields and huge integers.

msgspec rejects unknown fields only in Structs declared with ``forbid_unknown_fields=True``, and takes integers
of any size. For a type that has such gaps, :func:`shape_of` makes a twin made of Structs that forbid unknown
fields, with 64-bit integers, and with everything else left as raw JSON. Decoding a body into the twin costs
about half of decoding it into the type, and no object of the user's is touched.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import inspect as mi

from tenfold.http.types import INT64_MAX, INT64_MIN

_INT64 = Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX)]
_LEAF: Any = msgspec.Raw
_LIST: Any = list
_DICT: Any = dict
_OBJECTS = (mi.StructType, mi.DataclassType, mi.TypedDictType)


class Recursive(Exception):
    """The type contains itself: no finite twin exists."""


def shape_of(type_: Any, *, unknown_fields: bool) -> Any:
    """The twin of ``type_``, or None when its own decoder lets nothing pass.

    ``unknown_fields`` tells whether these are to be found, too. Raises :class:`Recursive` for types that
    contain themselves; the slow collector checks those.
    """
    shape = _shape(mi.type_info(type_), unknown_fields, ())
    return None if shape is _LEAF else shape


def _shape(info: mi.Type, unknown: bool, path: tuple[Any, ...]) -> Any:
    if isinstance(info, mi.Metadata):
        return _shape(info.type, unknown, path)
    if isinstance(info, mi.IntType):
        open_ended = (info.ge is None and info.gt is None) or (info.le is None and info.lt is None)
        return _INT64 if open_ended else _LEAF
    if isinstance(info, _OBJECTS):
        return _object(info, unknown, path)
    if isinstance(info, (mi.ListType, mi.SetType, mi.FrozenSetType, mi.VarTupleType)):
        inner: Any = _shape(info.item_type, unknown, path)
        return _LEAF if inner is _LEAF else _LIST[inner]
    if isinstance(info, mi.DictType):
        inner = _shape(info.value_type, unknown, path)
        return _LEAF if inner is _LEAF else _DICT[str, inner]
    if isinstance(info, mi.UnionType):
        return _union(info, unknown, path)
    return _LEAF


def _object(info: Any, unknown: bool, path: tuple[Any, ...]) -> Any:
    if info.cls in path:
        raise Recursive
    fields = [(f.encode_name, _shape(f.type, unknown, (*path, info.cls))) for f in info.fields]
    is_struct = isinstance(info, mi.StructType)
    strict = not unknown or (is_struct and info.forbid_unknown_fields)
    if strict and all(shape is _LEAF for _, shape in fields):
        return _LEAF
    if is_struct and info.array_like:
        return _LEAF  # positions have no names to be unknown
    tag: Any = {"tag": info.tag, "tag_field": info.tag_field} if is_struct and info.tag is not None else {}
    return msgspec.defstruct(
        f"{info.cls.__name__}Shape",
        # Names on the wire need not be identifiers, so the twin's own are numbered and renamed.
        [(f"f{i}", shape, None) for i, (_, shape) in enumerate(fields)],
        rename={f"f{i}": name for i, (name, _) in enumerate(fields)},
        forbid_unknown_fields=unknown,
        **tag,
    )


def _union(info: mi.UnionType, unknown: bool, path: tuple[Any, ...]) -> Any:
    shapes = [_shape(member, unknown, path) for member in info.types]
    if all(shape is _LEAF for shape in shapes):
        return _LEAF
    # A twin stands in for its own kind of JSON value; the others keep theirs, as loosely as can be.
    union: Any = None
    for member, shape in zip(info.types, shapes, strict=True):
        kind = _loose(member) if shape is _LEAF else shape
        if kind is None:
            return _LEAF
        union = kind if union is None else union | kind
    return union


def _loose(member: mi.Type) -> Any:
    """The plain JSON type that a member without a twin decodes from; None when several would do."""
    if isinstance(member, mi.Metadata):
        return _loose(member.type)
    if isinstance(member, mi.NoneType):
        return type(None)
    if isinstance(member, mi.BoolType):
        return bool
    if isinstance(member, (mi.ListType, mi.SetType, mi.FrozenSetType, mi.VarTupleType, mi.TupleType)):
        return list[Any]
    if isinstance(member, (mi.FloatType, mi.IntType)):
        return float
    return str if isinstance(member, (mi.StrType, mi.DateTimeType, mi.UUIDType, mi.DecimalType)) else None
