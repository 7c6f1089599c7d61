"""Cached values as bytes, for stores outside of the process. No pickle: only data comes back.

A value is stored with its *shape*, which is read off the value itself: plain data (None, numbers, texts, bytes,
lists and dicts of them), the standard library's value types, and classes that only hold data (Structs,
dataclasses, attrs, NamedTuples, enums, Pydantic models), in containers of any depth. So a value comes back as
the type that it had, whatever the loader's annotations say, as it does from the memory backend.

A shape names a class and a fingerprint of its fields. The reading process takes the class only from a module
that it has imported itself, and only if it holds data; another version of the class (during a deployment) does
not fit the fingerprint. Both are a miss, never a value with fields made up from defaults.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import logging
import sys
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Optional, TypedDict, cast
from uuid import UUID

import msgspec

from tenfold.cache.policy import NEGATIVE_ERRORS, Entry

log = logging.getLogger("tenfold.cache")

Shape = Any
"""A text for a leaf, or a list: a container's name and the shapes inside."""

_PLAIN = {type(None): "none", bool: "any", int: "any", float: "any", str: "any", bytes: "any"}
_LEAVES: dict[str, Any] = {t.__name__: t for t in (datetime, date, time, timedelta, UUID, Decimal, bytearray)}
_SERIES: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_FIELDS_MAX = 64
"""Dicts and tuples with values of several shapes are described field by field, up to this size."""
_TRIALS = 3
"""So many values of every shape are decoded again and compared before the shape is trusted."""


class Undecodable(Exception):
    """The bytes are none of ours, or of a class that this process has not, or has another version of."""


class Codec:
    """Encodes what can come back as it was; the rest is for this process only, with one warning per shape."""

    def __init__(self) -> None:
        self._trials: dict[str, int] = {}
        self._refused: set[str] = set()

    def encode(self, entry: Entry, what: str) -> tuple[str, bytes] | None:
        """``(shape, payload)``, or None for a value that would not come back equal. ``what`` is its key."""
        value: Any = entry.value if entry.error is None else entry.error
        try:
            shape = msgspec.json.encode(shape_of(value)).decode()
            payload = _dump(value)
            if self._trusted(shape) or _same(decode(shape, payload, 0.0), value):
                return shape, payload
            self._refuse(type(value), what, "it does not come back equal")
        except (TypeError, ValueError, OverflowError, RecursionError, Undecodable) as error:
            self._refuse(type(value), what, str(error))
        return None

    def _trusted(self, shape: str) -> bool:
        seen = self._trials.get(shape, 0)
        if seen < _TRIALS:
            self._trials[shape] = seen + 1
            return shape in ('"any"', '"none"')
        return True

    def _refuse(self, type_: type[Any], what: str, why: str) -> None:
        name = f"{type_.__module__}.{type_.__qualname__}"
        if name not in self._refused:
            self._refused.add(name)
            log.warning(
                "a value of %s (%s) cannot be stored outside of this process, and is cached in it only: %s",
                name, what, why,
            )  # fmt: skip


def decode(shape: str, payload: bytes | memoryview, made_at: float) -> Any:
    """The value; an exception (to raise) for an entry that says "there is none".

    ``made_at`` is when its loading began, in this process's monotonic seconds. Raises Undecodable.
    """
    try:
        return _reader(shape)(payload, made_at)
    except (msgspec.MsgspecError, ValueError, TypeError, LookupError) as error:
        raise Undecodable(str(error)) from None


# ── shapes ────────────────────────────────────────────────────────────────────────────────────────


def shape_of(value: Any) -> Shape:
    """What :func:`decode` needs to know. Raises TypeError for what is more than data."""
    type_ = type(value)
    plain = _PLAIN.get(type_)
    if plain is not None:
        return plain
    name = type_.__name__
    if _LEAVES.get(name) is type_:
        return name
    if type_ in (list, set, frozenset):
        return _series(name, value)
    if type_ is tuple:
        return _tuple(value)
    if type_ is dict:
        return _dict(value)
    if type_ in _PORTABLE:
        return ["portable", _PORTABLE[type_]]
    if isinstance(value, NEGATIVE_ERRORS):
        return ["error", _path(type_)]
    if not _holds_data(type_):
        raise TypeError(f"{_path(type_)} is no class that only holds data.")
    return ["class", _path(type_), fingerprint(cast("Any", type_))]


def _series(name: str, value: Iterable[Any]) -> Shape:
    inside = _common([shape_of(item) for item in value])
    return "any" if name == "list" and inside in ("any", "none") else [name, inside]


def _tuple(value: tuple[Any, ...]) -> Shape:
    shapes = [shape_of(item) for item in value]
    if len(shapes) <= _FIELDS_MAX:
        return ["fields", *shapes]
    return ["tuple", _common(shapes)]


def _dict(value: dict[Any, Any]) -> Shape:
    shapes = {key: shape_of(item) for key, item in value.items()}
    if all(type(key) is str for key in shapes):
        if all(shape in ("any", "none") for shape in shapes.values()):
            return "any"
        if len(set(map(repr, shapes.values()))) > 1 and len(shapes) <= _FIELDS_MAX:
            return ["record", shapes]
    return ["dict", _common([shape_of(key) for key in shapes]), _common(list(shapes.values()))]


def _common(shapes: list[Shape]) -> Shape:
    """The one shape of all; with Nones among them, an optional one."""
    found = {repr(shape): shape for shape in shapes}
    has_none = found.pop("'none'", None) is not None
    if not found:
        return "none" if has_none else "any"
    if len(found) > 1:
        raise TypeError("it holds values of several types.")
    (shape,) = found.values()
    return ["maybe", shape] if has_none and shape != "any" else shape


def _holds_data(type_: Any) -> bool:
    return (
        issubclass(type_, msgspec.Struct | enum.Enum)
        or dataclasses.is_dataclass(type_)
        or hasattr(type_, "__attrs_attrs__")
        or (issubclass(type_, tuple) and hasattr(type_, "_fields"))
        or _is_model(type_)
    )


def _is_model(type_: Any) -> bool:
    """A Pydantic model, told by its shape: Pydantic itself is an extra."""
    return hasattr(type_, "model_validate") and hasattr(type_, "model_dump")


def _path(type_: type[Any]) -> str:
    return f"{type_.__module__}:{type_.__qualname__}"


@functools.lru_cache(1024)
def fingerprint(type_: Any) -> str:
    """Eight bytes that differ when the fields of the class, or of those inside of it, do."""
    if _is_model(type_):
        schema: Any = type_.model_json_schema()
    else:
        schema = msgspec.json.schema(type_, schema_hook=lambda inner: {"title": repr(inner)})
    return hashlib.blake2b(msgspec.json.encode(schema), digest_size=8).hexdigest()


# ── there and back ────────────────────────────────────────────────────────────────────────────────

_PORTABLE: dict[type[Any], str] = {}
_LOADERS: dict[str, Callable[[Any, float], Any]] = {}
_DUMPERS: dict[type[Any], Callable[[Any], Any]] = {}


def portable(
    type_: type[Any], name: str, dump: Callable[[Any], Any], load: Callable[[Any, float], Any]
) -> None:
    """Teach the codec a class with more than data in it: ``load(dump(value), made_at)`` is the value again."""
    _PORTABLE[type_], _DUMPERS[type_], _LOADERS[name] = name, dump, load


def _dump(value: Any) -> bytes:
    dump = _DUMPERS.get(type(value))
    if dump is not None:
        value = dump(value)
    elif isinstance(value, NEGATIVE_ERRORS):
        value = (value.args, value.__dict__)
    return msgspec.msgpack.encode(value, enc_hook=_unknown)


def _unknown(value: Any) -> Any:
    if _is_model(type(value)):
        return value.model_dump(mode="python")
    raise TypeError(f"{_path(type(value))} is no class that only holds data.")


def _known(type_: Any, value: Any) -> Any:
    if _is_model(type_):
        return type_.model_validate(value)
    raise TypeError(f"{type_!r} is no class that only holds data.")


@functools.lru_cache(4096)
def _reader(shape: str) -> Callable[[Any, float], Any]:
    described = msgspec.json.decode(shape)
    if described[0] == "portable":
        load = _LOADERS[described[1]]
        return lambda payload, made_at: load(msgspec.msgpack.decode(payload), made_at)
    if described[0] == "error":
        error = _class(described[1])
        if not issubclass(error, NEGATIVE_ERRORS):
            raise TypeError(f"{described[1]} does not say that something is absent.")
        return lambda payload, _: _error(error, *msgspec.msgpack.decode(payload))
    decoder = msgspec.msgpack.Decoder(_type(described), dec_hook=_known)
    return lambda payload, _: decoder.decode(payload)


def _error(type_: type[BaseException], args: list[Any], attributes: dict[str, Any]) -> BaseException:
    error = type_.__new__(type_)
    error.args = tuple(args)
    error.__dict__.update(attributes)
    return error


def _type(shape: Shape) -> Any:
    """The type that msgspec is to decode into."""
    if isinstance(shape, str):
        return {"any": Any, "none": Any}.get(shape) or _LEAVES[shape]
    kind, *inside = shape
    match kind:
        case "class":
            return _data_class(inside[0], inside[1])
        case "maybe":
            return Optional[_type(inside[0])]  # noqa: UP045 - built at run time
        case "fields":
            return tuple[tuple(_type(field) for field in inside)] if inside else tuple[()]  # type: ignore[misc]
        case "tuple":
            return tuple[_type(inside[0]), ...]  # type: ignore[misc]
        case "record":
            fields = {name: _type(field) for name, field in inside[0].items()}
            return TypedDict("Record", fields)  # type: ignore[operator]
        case "dict":
            return dict[_type(inside[0]), _type(inside[1])]  # type: ignore[misc]
        case _:
            return _SERIES[kind][_type(inside[0])]


def _data_class(path: str, expected: str) -> Any:
    found = _class(path)
    if not _holds_data(found):
        raise TypeError(f"{path} is no class that only holds data.")
    if fingerprint(cast("Any", found)) != expected:
        raise TypeError(f"{path} has other fields here.")
    return found


def _class(path: str) -> type[Any]:
    """The class, from what is imported already: bytes in a store import nothing."""
    module, _, name = path.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise TypeError(f"{path} is no class in this process.")
    return cast("type[Any]", found)


def _same(back: Any, value: Any) -> bool:
    if type(value) in _PORTABLE:
        return True
    if isinstance(value, BaseException):
        return type(back) is type(value) and back.args == value.args and back.__dict__ == value.__dict__
    return type(back) is type(value) and bool(back == value)
