"""Types of the model as TypeScript: interfaces, unions of literals, and names for the texts of times and bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tenfold.clients.model import (
    Alias,
    Api,
    Declared,
    Enumeration,
    Field,
    Kind,
    Literals,
    Many,
    Mapping,
    Record,
    Ref,
    Row,
    Scalar,
    Type,
    Union,
    every_type,
)
from tenfold.clients.naming import members
from tenfold.clients.text import plain, wrapped

_SCALARS: dict[Kind, str] = {
    "any": "unknown", "none": "null", "bool": "boolean", "int": "number", "float": "number", "str": "string",
    "file": "Blob", "bytes": "Base64", "datetime": "DateTime", "date": "DateOnly", "time": "TimeOfDay",
    "duration": "Duration", "decimal": "DecimalText", "uuid": "Uuid",
}  # fmt: skip
_TEXTS: dict[Kind, tuple[str, str]] = {
    "datetime": ("DateTime", "A moment (RFC 3339), such as `new Date().toISOString()`."),
    "date": ("DateOnly", "A day, such as `2026-11-22`."),
    "time": ("TimeOfDay", "A time of day, such as `09:30:00`."),
    "duration": ("Duration", "A length of time (ISO 8601), such as `PT90S`."),
    "decimal": ("DecimalText", "An exact decimal number, such as `19.99`. `Number()` rounds it."),
    "uuid": ("Uuid", "A UUID, such as `6ba7b810-9dad-11d1-80b4-00c04fd430c8`."),
    "bytes": ("Base64", "Bytes in base64; see `toBase64` and `fromBase64`."),
}
_BYTES = """/** Bytes as the API writes them. */
export function toBase64(bytes: Uint8Array): Base64 {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

/** What `toBase64` wrote, back. */
export function fromBase64(written: Base64): Uint8Array {
  return Uint8Array.from(atob(written), (letter) => letter.charCodeAt(0));
}"""
_EVENT = """/** One event of a stream. */
export interface ServerEvent<T> {
  data: T;
  event: string;
  id: string;
}"""
_IDENTIFIER = re.compile(r"^[A-Za-z_$][\w$]*$", re.ASCII)

TEXT_NAMES = frozenset(name for name, _ in _TEXTS.values())


def literal(value: Any) -> str:
    """A value as JavaScript writes it."""
    return json.dumps(value, ensure_ascii=False)


def key(name: str) -> str:
    """A name as a member of an object."""
    return name if _IDENTIFIER.match(name) else literal(name)


def comment(lines: Sequence[str], indent: int) -> Iterator[str]:
    """A doc comment, or nothing."""
    pad = " " * indent
    lines = [line.replace("*/", "*\\/") for line in lines]
    if len(lines) == 1:
        yield f"{pad}/** {lines[0]} */"
    elif lines:
        yield f"{pad}/**"
        yield from (f"{pad} * {line}".rstrip() for line in lines)
        yield f"{pad} */"


class TypeScriptTypes:
    """Types and declarations of one API."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def name(self, type_: Type) -> str:
        """The type as it is written."""
        match type_:
            case Scalar(kind=kind):
                return _SCALARS[kind]
            case Ref(name=name):
                return name
            case Literals(values=values):
                return " | ".join(map(literal, values))
            case Many(item=item):
                inner = self.name(item)
                return f"({inner})[]" if isinstance(item, (Union, Literals)) else f"{inner}[]"
            case Row(items=items):
                return f"[{', '.join(map(self.name, items))}]"
            case Mapping(value=value):
                return f"{{ [key: string]: {self.name(value)} }}"
            case Union(options=options):
                return " | ".join(map(self.name, options))

    def is_file(self, type_: Type) -> bool:
        """Whether it is a file, or several."""
        return "Blob" in self.name(type_)

    def declarations(self) -> Iterator[str]:
        """Every declared type, and the names of texts that occur."""
        kinds = {type_.kind for type_ in every_type(self._api) if isinstance(type_, Scalar)}
        for kind, (name, about) in _TEXTS.items():
            if kind in kinds:
                yield f"/** {about} */\nexport type {name} = string;"
        if "bytes" in kinds:
            yield _BYTES
        yield _EVENT  # what is the same in every client has streams
        for each in self._api.types:
            yield "\n".join([*comment(_about(each.about, 3), 0), *self._declaration(each)])

    def _declaration(self, each: Declared) -> Iterator[str]:
        match each:
            case Record():
                yield f"export interface {each.name} {{"
                if each.tag is not None:
                    yield f"  {key(each.tag[0])}: {literal(each.tag[1])};"
                for field in each.fields:
                    yield from self._member(field)
                yield "}"
            case Enumeration():
                yield f"export const {each.name} = {{"
                yield from (f"  {name}: {literal(value)}," for value, name in members(each.values).items())
                yield "} as const;"
                yield f"export type {each.name} = (typeof {each.name})[keyof typeof {each.name}];"
            case Alias():
                yield f"export type {each.name} = {self.name(each.type)};"

    def _member(self, field: Field) -> Iterator[str]:
        yield from comment(_about(field.about, 5), 2)
        yield f"  {key(field.wire)}{'' if field.required else '?'}: {self.name(field.type)};"


def _about(text: str, indent: int) -> list[str]:
    return wrapped(text, indent) if plain(text) else []
