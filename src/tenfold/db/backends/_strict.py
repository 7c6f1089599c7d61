"""What a column takes, checked before anything is sent.

SQLite stores any value in any column, and MySQL turns many a value into another; a server that is strict would refuse
it the day the application moves there. What is compared with a column is not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.util import memoized_property

from tenfold.errors import StatementError, ValueRefused

Check = Callable[[Any], Any]
"""Returns the value, as it goes to the driver, or raises StatementError."""


class Strict:
    """For a statement compiler: checks values of INSERT and UPDATE after their types have processed them."""

    isinsert: bool
    isupdate: bool
    statement: Any
    bind_names: dict[Any, str]

    @memoized_property
    def _bind_processors(self) -> Any:
        processors: dict[str, Any] = dict(super()._bind_processors)  # type: ignore[misc] # the compiler's
        if self.isinsert or self.isupdate:
            given = _given(self.statement)
            for bind, name in self.bind_names.items():
                type_: Any = bind.type if bind._is_crud else given.get(bind.key)
                strict = _strict(type_, bind.key, processors.get(name))
                if strict is not None:
                    processors[name] = strict
        return processors


def _given(statement: Any) -> dict[str, Any]:
    """The columns' types by the keys of the parameters that ``values(column=bindparam(key))`` names."""
    types: dict[str, Any] = {}
    for column, value in (getattr(statement, "_values", None) or {}).items():
        if isinstance(value, sa.BindParameter):
            known = statement.table.columns[column] if isinstance(column, str) else column
            types[value.key] = known.type
    return types


def _strict(type_: Any, name: str, process: Check | None) -> Check | None:
    while isinstance(type_, sa.TypeDecorator):
        type_ = type_.impl_instance
    if isinstance(type_, sa.DateTime) and process is not None:
        return _moment(name, process)
    if isinstance(type_, sa.Date | sa.Time) and process is None:
        return _instance(type_.python_type, name)
    check = _check(type_, name)
    if check is None or process is None:
        return check or process
    return lambda value: check(process(value))


def _check(type_: Any, name: str) -> Check | None:
    if isinstance(type_, sa.Enum):
        return _member(frozenset(type_.enums), name) if type_.native_enum else _text(None, name)
    if isinstance(type_, sa.String):
        return _text(type_.length, name)
    if isinstance(type_, sa.Integer):
        bits = 64 if isinstance(type_, sa.BigInteger) else 16 if isinstance(type_, sa.SmallInteger) else 32
        return _integer(bits, name)
    if isinstance(type_, sa.Float | sa.Double):
        return _number(None, name)
    if isinstance(type_, sa.Numeric):
        whole = None if type_.precision is None else 10 ** (type_.precision - (type_.scale or 0))
        return _number(whole, name)
    return _binary(name) if isinstance(type_, sa.LargeBinary) else None


def _text(length: int | None, name: str) -> Check:
    def check(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, str):
            raise _misfit(name, "text", value)
        if "\0" in value:
            raise ValueRefused(f"the text for {name!r} contains the character NUL, which no database keeps.")
        if length is not None and len(value) > length:
            raise ValueRefused(
                f"the text for {name!r} has {len(value)} characters; its column takes {length}."
            )
        return value

    return check


def _integer(bits: int, name: str) -> Check:
    end = 1 << (bits - 1)

    def check(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, int):
            raise _misfit(name, "an integer", value)
        if not -end <= value < end:
            wider = "" if bits == 64 else " Declare the column as sa.BigInteger."
            raise ValueRefused(f"the integer for {name!r} does not fit into {bits} bits.{wider}")
        return value

    return check


def _number(whole: int | None, name: str) -> Check:
    def check(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, float | int):
            raise _misfit(name, "a number", value)
        if value != value:  # NaN, for which not every database has a value
            raise ValueRefused(f"the number for {name!r} is NaN, which the database does not keep.")
        if whole is not None and not -whole < value < whole:
            raise ValueRefused(f"the number for {name!r} has more digits than its column takes.")
        return value

    return check


def _instance(wanted: type, name: str) -> Check:
    def check(value: Any) -> Any:
        if value is None or isinstance(value, wanted):
            return value
        raise _misfit(name, f"a {wanted.__name__}", value)

    return check


def _binary(name: str) -> Check:
    def check(value: Any) -> Any:
        if value is None or isinstance(value, bytes | bytearray | memoryview):
            return value
        raise _misfit(name, "bytes", value)

    return check


def _member(names: frozenset[str], name: str) -> Check:
    def check(value: Any) -> Any:
        if value is None or value in names:
            return value
        raise ValueRefused(f"the value for {name!r} is none of the members of its column's enum.")

    return check


def _moment(name: str, process: Check) -> Check:
    """The type takes text too, which comparisons in migrations need; a column of times does not."""

    def check(value: Any) -> Any:
        if isinstance(value, str):
            raise _misfit(name, "a datetime", value)
        return process(value)

    return check


def _misfit(name: str, wanted: str, value: Any) -> StatementError:
    return StatementError(
        f"the value for {name!r} is of type {type(value).__name__}; its column takes {wanted}."
    )
