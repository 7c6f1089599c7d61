"""What words a setting may have, for sentences: its type, read. Pure."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from msgspec import Struct

from tenfold._core.text import nearest


def type_below(type_: Any, path: str) -> Any:
    """The type of a field that is reached by names with dots; None where that is no path of structs."""
    for name in path.split(".") if path else ():
        if not (isinstance(type_, type) and issubclass(type_, Struct)):
            return None
        type_ = get_type_hints(type_, include_extras=True).get(name)
    return type_


def expected(type_: Any, value: Any) -> str | None:
    """``expected 'open', 'closed' or 'local', …`` for a type that is words, or a number or words; else None."""
    words = [repr(word) for word in _words(type_)]
    if not words:
        return None
    number = "a number, " if any(each in (int, float) for each in _members(type_)) else ""
    *first, last = words
    listed = f"{', '.join(first)} or {last}" if first else f"{'or ' if number else ''}{last}"
    close = nearest(value, _words(type_)) if isinstance(value, str) else ""
    return f"expected {number}{listed}.{close}"


def _words(type_: Any) -> list[str]:
    return [word for each in _members(type_) if get_origin(each) is Literal for word in get_args(each)]


def _members(type_: Any) -> Iterator[Any]:
    if get_origin(type_) is Annotated:
        yield from _members(get_args(type_)[0])
    elif get_origin(type_) in (Union, types.UnionType):
        for each in get_args(type_):
            yield from _members(each)
    else:
        yield type_
