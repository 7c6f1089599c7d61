"""Rows into the type that was asked for: one generated expression per type and set of columns.

msgspec Structs, dataclasses, attrs classes, TypedDicts, Pydantic models, ``dict``, ``tuple``, scalars, and
:class:`Row` when no type was named. Columns are matched to fields by name; when they do not fit,
:class:`~tenfold.errors.RowMismatch` names both. A value is converted only where the column's type and the
field's differ (an enum in a text column, a Struct in a JSON column); otherwise it is handed over as it is.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import types
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Annotated, Any, NamedTuple, get_args, get_origin

import msgspec

from tenfold._core.text import nearest
from tenfold.errors import RowMismatch

Processor = Callable[[Any], Any]
Decoder = Callable[[tuple[Any, ...]], Any]


class Column(NamedTuple):
    """One column of a result: its name, how the driver's value becomes Python's, and which type that has."""

    name: str
    processor: Processor | None = None
    python_type: type | None = None


class Row(tuple[Any, ...]):
    """A row without a declared type: a tuple whose columns are attributes too (``row.id``)."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()

    if typing.TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def as_dict(self) -> dict[str, Any]:
        """Column names to values."""
        return dict(zip(self._fields, self, strict=True))

    def __repr__(self) -> str:
        pairs = ", ".join(f"{name}={value!r}" for name, value in self.as_dict().items())
        return f"Row({pairs})"


class _Field(NamedTuple):
    name: str
    type: Any
    required: bool
    keyword: str = ""


_SCALARS = (
    int, float, str, bytes, bool, decimal.Decimal, uuid.UUID,
    dt.datetime, dt.date, dt.time, dt.timedelta, enum.Enum,
)  # fmt: skip
_NATIVE = (int, float, str, bytes)
"""What the driver gives for a column of which nothing is known."""


def decoder(type_: Any, columns: Sequence[Column]) -> Decoder:
    """A function from the driver's tuple to ``type_``."""
    bare = _strip(type_)
    if bare is Row:
        return _row_decoder(columns)
    if bare is tuple or get_origin(bare) is tuple:
        return _tuple_decoder(bare, columns)
    if bare is dict or get_origin(bare) is dict:
        return _compiled(columns, {}, "{%s}", [f"{c.name!r}: {{{i}}}" for i, c in enumerate(columns)])
    if _is_scalar(bare):
        return _scalar_decoder(type_, columns)
    return _model_decoder(bare, columns)


def _row_decoder(columns: Sequence[Column]) -> Decoder:
    names = tuple(c.name for c in columns)
    members: dict[str, Any] = {n: property(itemgetter(i)) for i, n in enumerate(names) if n.isidentifier()}
    made = type("Row", (Row,), {"__slots__": (), "_fields": names, **members})
    if not any(c.processor for c in columns):
        return made
    values = ", ".join(f"{{{i}}}" for i in range(len(columns)))
    return _compiled(columns, {}, f"T(({values},))", [], made)


def _tuple_decoder(type_: Any, columns: Sequence[Column]) -> Decoder:
    inner = get_args(type_)
    if len(inner) == 2 and inner[1] is Ellipsis:
        inner = (inner[0],) * len(columns)
    if inner and len(inner) != len(columns):
        raise RowMismatch(
            f"{type_} has {len(inner)} elements, but the statement gives {len(columns)} columns: {_list(columns)}."
        )
    if not inner and not any(c.processor for c in columns):
        return tuple
    wanted = {c.name: t for c, t in zip(columns, inner, strict=bool(inner))}
    values = ", ".join(f"{{{i}}}" for i in range(len(columns)))
    return _compiled(columns, wanted, f"({values},)", [])


def _scalar_decoder(type_: Any, columns: Sequence[Column]) -> Decoder:
    if len(columns) != 1:
        raise RowMismatch(
            f"{_name(type_)} takes one column, but the statement gives {len(columns)}: {_list(columns)}."
        )
    return _compiled(columns, {columns[0].name: type_}, "{0}", [])


def _model_decoder(type_: Any, columns: Sequence[Column]) -> Decoder:
    fields = _fields(type_)
    _check_fit(type_, fields, columns)
    by_name = {f.name: f for f in fields}
    index = {c.name: i for i, c in enumerate(columns)}
    if typing.is_typeddict(type_):
        pairs = [f"{f.name!r}: {{{index[f.name]}}}" for f in fields if f.name in index]
        return _compiled(columns, _types(fields), "{%s}", pairs)
    if hasattr(type_, "model_validate"):  # Pydantic converts and checks by itself
        pairs = [f"{c.name!r}: {{{i}}}" for i, c in enumerate(columns)]
        return _compiled(columns, {}, "T({%s})", pairs, type_.model_validate)
    positional: tuple[str, ...] = getattr(type_, "__match_args__", ())
    if positional[: len(columns)] == tuple(c.name for c in columns):
        arguments = [f"{{{i}}}" for i in range(len(columns))]
    else:
        arguments = [f"{by_name[c.name].keyword or c.name}={{{i}}}" for i, c in enumerate(columns)]
    return _compiled(columns, _types(fields), "T(%s)", arguments, type_)


def _compiled(
    columns: Sequence[Column], wanted: Mapping[str, Any], shape: str, parts: Sequence[str], target: Any = None
) -> Decoder:
    """The function whose body is ``shape`` with ``parts`` in it, ``{0}`` standing for the first value."""
    scope: dict[str, Any] = {"T": target}
    source = shape % ", ".join(parts) if "%s" in shape else shape
    for i, column in enumerate(columns):
        value = f"r[{i}]"
        if column.processor is not None:
            scope[f"p{i}"], value = column.processor, f"p{i}({value})"
        if column.name in wanted and _differs(wanted[column.name], column.python_type):
            scope[f"c{i}"] = _converter(column.name, wanted[column.name], target)
            value = f"c{i}({value})"
        source = source.replace(f"{{{i}}}", value)
    if source == "T(%s)" % ", ".join(f"r[{i}]" for i in range(len(columns))):
        source = "T(*r)"
    # The source consists of names that were checked to be fields, or of their repr, and of our own numbers.
    return typing.cast("Decoder", eval(f"lambda r: {source}", scope))  # noqa: S307


def _converter(column: str, type_: Any, target: Any) -> Processor:
    where = f"{_name(target)}.{column}" if target is not None else column

    def convert(value: Any) -> Any:
        try:
            return msgspec.convert(value, type_, strict=False)
        except msgspec.ValidationError as error:
            raise RowMismatch(f"the column {column!r} does not fit {where}: {error}.") from None

    return convert


def _differs(field: Any, python_type: type | None) -> bool:
    """True when the column's value may not be an instance of the field's type."""
    bare = _strip(field)
    options = get_args(bare) if get_origin(bare) in (typing.Union, types.UnionType) else (bare,)
    for option in options:
        plain = _strip(option)
        plain = get_origin(plain) if get_args(plain) == () or Any in get_args(plain) else plain
        plain = plain or _strip(option)
        if plain is Any or plain is object or isinstance(plain, typing.TypeVar):
            return False
        if python_type is None and plain in _NATIVE:
            return False
        if python_type is not None and (plain is python_type or _is_subclass(python_type, plain)):
            return False
    return True


def _is_subclass(python_type: type, plain: Any) -> bool:
    return isinstance(plain, type) and issubclass(python_type, plain)


def _is_scalar(type_: Any) -> bool:
    if type_ is Any or type_ is object:
        return True
    if get_origin(type_) in (typing.Union, types.UnionType, typing.Literal, list):
        return True
    return isinstance(type_, type) and (issubclass(type_, _SCALARS) or type_ is list)


def _fields(type_: Any) -> list[_Field]:
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return [_Field(f.name, f.type, f.required) for f in msgspec.structs.fields(type_)]
    if typing.is_typeddict(type_):
        hints = typing.get_type_hints(type_)
        return [_Field(n, t, n in type_.__required_keys__) for n, t in hints.items()]
    if hasattr(type_, "model_fields"):
        return [
            _Field(f.validation_alias if isinstance(f.validation_alias, str) else n, f.annotation, f.is_required())
            for n, f in type_.model_fields.items()
        ]
    if hasattr(type_, "__attrs_attrs__"):
        hints, missing = typing.get_type_hints(type_), type_.__attrs_attrs__.__class__
        del missing
        import attrs

        return [
            _Field(a.name, hints.get(a.name, Any), a.default is attrs.NOTHING, a.alias or "")
            for a in type_.__attrs_attrs__
            if a.init
        ]
    if dataclasses.is_dataclass(type_):
        hints = typing.get_type_hints(type_)
        return [
            _Field(f.name, hints[f.name], _is_required(f)) for f in dataclasses.fields(type_) if f.init
        ]
    raise RowMismatch(
        f"rows cannot be decoded into {_name(type_)}. Use a msgspec Struct, a dataclass, an attrs class, a "
        "TypedDict, a Pydantic model, dict, tuple or a scalar."
    )


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _types(fields: Sequence[_Field]) -> dict[str, Any]:
    return {f.name: f.type for f in fields}


def _check_fit(type_: Any, fields: Sequence[_Field], columns: Sequence[Column]) -> None:
    names, known = [c.name for c in columns], [f.name for f in fields]
    missing = [f.name for f in fields if f.required and f.name not in names]
    extra = [name for name in names if name not in known]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not missing and not extra and not twice:
        return
    said = [
        f"no column for the field {_quoted(missing)}" if missing else "",
        f"no field for the column {_quoted(extra)}" if extra else "",
        f"more than one column named {_quoted(twice)}" if twice else "",
    ]
    hint = nearest(extra[0], missing) if extra and missing else ""
    raise RowMismatch(
        f"the columns ({', '.join(names)}) do not fit {_name(type_)} ({', '.join(known)}): "
        f"{'; '.join(filter(None, said))}.{hint} Name the columns in the statement, or label them."
    )


def _strip(type_: Any) -> Any:
    """Without ``Annotated`` and ``| None``."""
    while get_origin(type_) is Annotated:
        type_ = get_args(type_)[0]
    if get_origin(type_) in (typing.Union, types.UnionType):
        rest = [a for a in get_args(type_) if a is not type(None)]
        return _strip(rest[0]) if len(rest) == 1 else type_
    return type_


def _name(type_: Any) -> str:
    return getattr(type_, "__name__", None) or str(type_)


def _list(columns: Sequence[Column]) -> str:
    return ", ".join(c.name for c in columns)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
