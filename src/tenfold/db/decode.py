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
from collections.abc import Callable, Sequence
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
    """A function from the driver's tuple to ``type_``. Raises RowMismatch when the columns do not fit."""
    bare = _strip(type_)
    if bare is Row:
        return _row_decoder(columns)
    if bare is tuple or get_origin(bare) is tuple:
        return _tuple_decoder(bare, columns)
    if bare is dict or get_origin(bare) is dict:
        values = _Values(columns)
        return values.function("{" + ", ".join(f"{c.name!r}: {v}" for c, v in values.pairs()) + "}")
    if _is_scalar(bare):
        return _scalar_decoder(type_, columns)
    return _model_decoder(bare, columns)


class _Values:
    """The expressions of a row's values, and the function made from them."""

    def __init__(
        self, columns: Sequence[Column], wanted: Sequence[Any] | None = None, target: Any = None
    ) -> None:
        self._columns = columns
        self._scope: dict[str, Any] = {"T": target}
        types_ = wanted or (Any,) * len(columns)
        self.expressions = [
            self._value(i, c, t, target) for i, (c, t) in enumerate(zip(columns, types_, strict=True))
        ]
        self.plain = self.expressions == [f"r[{i}]" for i in range(len(columns))]

    def pairs(self) -> zip[tuple[Column, str]]:
        return zip(self._columns, self.expressions, strict=True)

    def function(self, source: str) -> Decoder:
        # The source consists of our own expressions and of the repr of column and field names.
        return typing.cast("Decoder", eval(f"lambda r: {source}", self._scope))  # noqa: S307

    def _value(self, i: int, column: Column, wanted: Any, target: Any) -> str:
        value = f"r[{i}]"
        if column.processor is not None:
            self._scope[f"p{i}"], value = column.processor, f"p{i}({value})"
        if _differs(wanted, column.python_type):
            self._scope[f"c{i}"], value = _converter(column.name, wanted, target), f"c{i}({value})"
        return value


def _row_decoder(columns: Sequence[Column]) -> Decoder:
    names = tuple(c.name for c in columns)
    members: dict[str, Any] = {}
    for i, name in enumerate(names):
        if name.isidentifier() and not name.startswith("_") and not hasattr(tuple, name):
            members.setdefault(name, property(itemgetter(i)))
    made = type("Row", (Row,), {"__slots__": (), "_fields": names, **members})
    values = _Values(columns, target=made)
    return made if values.plain else values.function(f"T(({', '.join(values.expressions)},))")


def _tuple_decoder(type_: Any, columns: Sequence[Column]) -> Decoder:
    inner = get_args(type_)
    if len(inner) == 2 and inner[1] is Ellipsis:
        inner = (inner[0],) * len(columns)
    if inner and len(inner) != len(columns):
        raise RowMismatch(
            f"{type_} has {len(inner)} elements, but the statement gives {len(columns)} columns: {_list(columns)}."
        )
    values = _Values(columns, inner or None)
    return tuple if values.plain else values.function(f"({', '.join(values.expressions)},)")


def _scalar_decoder(type_: Any, columns: Sequence[Column]) -> Decoder:
    if len(columns) != 1:
        raise RowMismatch(
            f"{_name(type_)} takes one column, but the statement gives {len(columns)}: {_list(columns)}."
        )
    values = _Values(columns, [type_])
    return values.function(values.expressions[0])


def _model_decoder(type_: Any, columns: Sequence[Column]) -> Decoder:
    fields = {f.name: f for f in _fields(type_)}
    _check_fit(type_, list(fields.values()), columns)
    if hasattr(type_, "model_validate"):  # Pydantic converts and checks by itself
        values = _Values(columns, target=type_.model_validate)
        return values.function("T({" + ", ".join(f"{c.name!r}: {v}" for c, v in values.pairs()) + "})")
    values = _Values(columns, [fields[c.name].type for c in columns], type_)
    if typing.is_typeddict(type_):
        return values.function("{" + ", ".join(f"{c.name!r}: {v}" for c, v in values.pairs()) + "}")
    positional: tuple[str, ...] = getattr(type_, "__match_args__", ())
    if positional[: len(columns)] == tuple(c.name for c in columns):
        return values.function("T(*r)" if values.plain else f"T({', '.join(values.expressions)})")
    arguments = [f"{fields[c.name].keyword or c.name}={v}" for c, v in values.pairs()]
    return values.function(f"T({', '.join(arguments)})")


def _converter(column: str, type_: Any, target: Any) -> Processor:
    if get_origin(type_) in (typing.Required, typing.NotRequired):
        (type_,) = get_args(type_)
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
    return not any(_accepts(_strip(option), python_type) for option in options)


def _accepts(plain: Any, python_type: type | None) -> bool:
    if plain is Any or plain is object or isinstance(plain, typing.TypeVar):
        return True
    if plain is dict or (get_origin(plain) is dict and get_args(plain) == (str, Any)):
        return python_type is dict
    if python_type is None:
        return plain in _NATIVE
    return plain is python_type or (isinstance(plain, type) and issubclass(python_type, plain))


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
        hints = typing.get_type_hints(type_, include_extras=True)
        return [_Field(n, t, _key_is_required(type_, n, t)) for n, t in hints.items()]
    if hasattr(type_, "model_fields"):
        return [
            _Field(
                f.validation_alias if isinstance(f.validation_alias, str) else n,
                f.annotation,
                f.is_required(),
            )
            for n, f in type_.model_fields.items()
        ]
    if hasattr(type_, "__attrs_attrs__"):
        import attrs  # the class comes from it, so it is installed

        hints = typing.get_type_hints(type_)

        return [
            _Field(a.name, hints.get(a.name, Any), a.default is attrs.NOTHING, a.alias or "")
            for a in type_.__attrs_attrs__
            if a.init
        ]
    if dataclasses.is_dataclass(type_):
        hints = typing.get_type_hints(type_)
        return [_Field(f.name, hints[f.name], _is_required(f)) for f in dataclasses.fields(type_) if f.init]
    raise RowMismatch(
        f"rows cannot be decoded into {_name(type_)}. Use a msgspec Struct, a dataclass, an attrs class, a "
        "TypedDict, a Pydantic model, dict, tuple or a scalar."
    )


def _key_is_required(type_: Any, name: str, hint: Any) -> bool:
    """``__required_keys__`` is wrong where annotations are strings; the hint's own marker is right."""
    origin = get_origin(hint)
    return (name in type_.__required_keys__ and origin is not typing.NotRequired) or origin is typing.Required


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


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
    """Without ``Annotated``, ``Required`` and ``| None``."""
    while get_origin(type_) in (Annotated, typing.Required, typing.NotRequired):
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
