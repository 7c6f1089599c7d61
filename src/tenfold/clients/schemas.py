"""Types of the model from JSON Schema, as :mod:`tenfold.http.openapi` writes it. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Mapping as MappingOf
from typing import Any, cast

from tenfold._core.json_schema import DURATION, LOCAL_TIME, REF, Schema
from tenfold.clients.model import (
    ANY,
    NONE,
    NOTHING,
    Alias,
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
)

_FORMATS: dict[str, Kind] = {
    "date-time": "datetime", "date": "date", "time": "time", "duration": "duration", "uuid": "uuid",
    "decimal": "decimal", "binary": "file",
}  # fmt: skip
_PATTERNS: dict[str, Kind] = {DURATION: "duration", LOCAL_TIME: "time"}
_PLAIN: dict[str, Kind] = {"integer": "int", "number": "float", "boolean": "bool", "null": "none"}


class SchemaReader:
    """Reads schemas that refer to ``components``; ``names`` are those of the types in the client."""

    def __init__(self, components: MappingOf[str, Schema], names: MappingOf[str, str]) -> None:
        self._components, self._names = components, names
        self._tags = _tags(components)

    def declared(self) -> tuple[Declared, ...]:
        """The components that are types of their own, by name."""
        found = [
            self._declare(self._names[key], schema, self._tags.get(key)) for key, schema in self._chosen()
        ]
        return tuple(sorted(found, key=lambda each: each.name))

    def read(self, schema: Schema) -> Type:
        """The type that a schema describes; ``any`` for what it leaves open."""
        if "$ref" in schema:
            return Ref(self._names[schema["$ref"].removeprefix(REF)])
        if "enum" in schema or "const" in schema:
            return _literals(schema.get("enum", [schema.get("const")]))
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self._union(schema[word])
        if len(schema.get("allOf", ())) == 1:
            return self.read(schema["allOf"][0])
        if isinstance(schema.get("type"), list):
            return self._union([{**schema, "type": each} for each in schema["type"]])
        return self._plain(schema)

    def fields(self, schema: Schema, *, leave: str = "") -> tuple[Field, ...]:
        """The members of an object's schema but ``leave``."""
        required = schema.get("required", ())
        return tuple(
            self.field(name, inner, required=name in required)
            for name, inner in schema.get("properties", {}).items()
            if name != leave
        )

    def field(self, name: str, schema: Schema, *, required: bool) -> Field:
        """One member."""
        return Field(
            wire=name,
            type=self.read(schema),
            required=required,
            default=NOTHING if required else schema.get("default", NOTHING),
            about=about(schema),
        )

    def resolve(self, schema: Schema) -> Schema:
        """The schema itself, or the component that it refers to."""
        ref = schema.get("$ref")
        return self._components[ref.removeprefix(REF)] if isinstance(ref, str) else schema

    def _chosen(self) -> list[tuple[str, Schema]]:
        return [(key, self._components[key]) for key in self._names]

    def _declare(self, name: str, schema: Schema, tag: tuple[str, str | int] | None) -> Declared:
        text = about(schema)
        if "properties" in schema or (schema.get("type") == "object" and _is_empty(schema)):
            fields = self.fields(schema, leave=tag[0] if tag else "")
            return Record(name=name, fields=fields, about=text, tag=tag)
        values = schema.get("enum")
        if values and (_all(values, str) or _all(values, int)):
            return Enumeration(name=name, values=tuple(values), about=text)
        return Alias(name=name, type=self.read(schema), about=text)

    def _plain(self, schema: Schema) -> Type:
        match schema.get("type"):
            case "array" if "prefixItems" in schema:
                return Row(tuple(map(self.read, schema["prefixItems"])))
            case "array":
                items = schema.get("items", {})
                return Many(self.read(items) if isinstance(items, dict) else ANY)
            case "object":
                inner = schema.get("additionalProperties", {})
                return Mapping(self.read(inner) if isinstance(inner, dict) else ANY)
            case "string":
                return Scalar(_text(schema))
            case str(kind) if kind in _PLAIN:
                return Scalar(_PLAIN[kind])
            case _:
                return ANY

    def _union(self, schemas: list[Schema]) -> Type:
        if any(each.get("format") == "decimal" for each in schemas):
            # A decimal is read from a number, too; it is written as text.
            rest = [
                each for each in schemas if each.get("format") != "decimal" and each.get("type") != "number"
            ]
            return union([Scalar("decimal"), *map(self.read, rest)])
        return union([self.read(each) for each in schemas])


def union(options: list[Type]) -> Type:
    """One type of several: unions inside are opened, null stands last."""
    flat: list[Type] = []
    for option in options:
        inner = option.options if isinstance(option, Union) else (option,)
        flat.extend(each for each in inner if each not in flat)
    if ANY in flat:
        return ANY
    if NONE in flat:
        flat = [*(each for each in flat if each != NONE), NONE]
    return flat[0] if len(flat) == 1 else Union(tuple(flat))


def about(schema: Schema) -> str:
    """What the schema says of itself, as its author wrote it."""
    return inspect.cleandoc(schema.get("description", ""))


def _text(schema: Schema) -> Kind:
    if schema.get("contentEncoding") == "base64":
        return "bytes"
    return _FORMATS.get(schema.get("format", "")) or _PATTERNS.get(schema.get("pattern", "")) or "str"


def _literals(values: list[Any]) -> Type:
    kept = tuple(value for value in values if value is not None)
    options: list[Type] = [Literals(kept)] if kept else []
    return union([*options, NONE] if len(kept) < len(values) else options)


def _is_empty(schema: Schema) -> bool:
    return schema.get("additionalProperties") in (None, False)


def _all(values: list[Any], kind: type) -> bool:
    return all(type(value) is kind for value in values)


def _tags(components: MappingOf[str, Schema]) -> dict[str, tuple[str, str | int]]:
    """The tags of components that a union tells apart by one; and of those that look as if they had one."""
    found: dict[str, tuple[str, str | int]] = {}
    waiting: list[Any] = [dict(components)]
    while waiting:
        piece = waiting.pop()
        if isinstance(piece, list):
            waiting.extend(piece)
        elif isinstance(piece, dict):
            members = cast("dict[str, Any]", piece)
            waiting.extend(members.values())
            match members.get("discriminator"):
                case {"propertyName": str(name), "mapping": dict(mapping)}:
                    for value, ref in cast("dict[str, str]", mapping).items():
                        key = ref.removeprefix(REF)
                        exact = components[key]["properties"][name].get("enum", [value])[0]
                        found[key] = (name, exact)
                case _:
                    pass
    return found
