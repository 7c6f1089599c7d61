"""Whether whoever reads one JSON Schema understands whatever somebody else writes by another. Pure.

Within one version of a topic both directions must hold. Subscribers of the new code read what was published before
the deploy and still waits in a queue, an outbox or at a broker; subscribers of the last release read what the new
code publishes, while a rolling deploy lasts or for as long as another team takes. Readers ignore members that they
do not know, unless their schema is closed.

The comparison knows the vocabulary that msgspec and Pydantic write. Where it cannot tell, it says no: raising the
version loses nothing, and a wrong yes would.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Schema = Mapping[str, Any]

DEFS = "#/$defs/"

_FLOORS = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_CEILINGS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_EQUALS = ("pattern", "format", "multipleOf", "contentEncoding", "uniqueItems")
_VALUES = {
    bool: ("boolean",),
    str: ("string",),
    int: ("integer", "number"),
    float: ("number",),
    type(None): ("null",),
}


class Misfit(NamedTuple):
    """One place where a reader does not understand what a writer may write."""

    path: str
    """``$.lines[*].sku``."""
    written: str
    """What the writer may do there: "may be missing"."""
    read: str
    """What readers make of it, in the plural: "require it"."""


def misfits(writer: Schema, reader: Schema) -> list[Misfit]:
    """Everything that keeps a reader from understanding what the writer may write; empty when there is nothing."""
    return _Comparison(writer, reader).compare(writer, reader, "$")


class _Comparison:
    def __init__(self, writer: Schema, reader: Schema) -> None:
        self._writers: Schema = writer.get("$defs", {})
        self._readers: Schema = reader.get("$defs", {})
        self._open: set[tuple[str, str]] = set()
        """Pairs of named types under comparison: where they meet again, they add nothing."""

    def compare(self, writer: Schema, reader: Schema, path: str) -> list[Misfit]:
        pair = (writer.get("$ref", ""), reader.get("$ref", ""))
        if all(pair) and pair in self._open:
            return []
        self._open.add(pair)
        try:
            return self._compare(_resolved(writer, self._writers), _resolved(reader, self._readers), path)
        finally:
            self._open.discard(pair)

    def _compare(self, w: Schema, r: Schema, path: str) -> list[Misfit]:
        if not _says_something(r):
            return []
        if "anyOf" in w:
            return _unique(m for option in w["anyOf"] for m in self.compare(option, r, path))
        if "anyOf" in r:
            return self._one_of(w, r["anyOf"], path)
        if not _says_something(w):
            return [Misfit(path, "may be anything", f"read {_shown(r)} only")]
        if "enum" in w or "const" in w or "enum" in r or "const" in r:
            return _values(w, r, path)
        kinds, known = _types(w), _types(r)
        if not kinds or any(
            kind not in known and not (kind == "integer" and "number" in known) for kind in kinds
        ):
            return [Misfit(path, f"may be {_shown(w)}", f"read {_shown(r)} only")]
        return [*_bounds(w, r, path), *self._members(w, r, path), *self._items(w, r, path)]

    def _one_of(self, w: Schema, options: Iterable[Schema], path: str) -> list[Misfit]:
        """Some option reads all that is written; else what the one that comes nearest does not."""
        found = [self.compare(w, option, path) for option in options]
        if not all(found):
            return []
        deep = [each for each in found if any(misfit.path != path for misfit in each)]
        if deep:
            return min(deep, key=len)
        shown = " or ".join(_shown(option) for option in options)
        return [Misfit(path, f"may be {_shown(w)}", f"read {shown} only")]

    def _members(self, w: Schema, r: Schema, path: str) -> list[Misfit]:
        written, read = w.get("properties", {}), r.get("properties", {})
        found = [
            Misfit(f"{path}.{name}", "may be missing", "require it")
            for name in r.get("required", ())
            if name not in w.get("required", ())
        ]
        others = r.get("additionalProperties", True)
        for name, inner in written.items():
            if name in read:
                found += self.compare(inner, read[name], f"{path}.{name}")
            elif others is False:
                found.append(Misfit(f"{path}.{name}", "may be there", "refuse members that they do not know"))
            elif isinstance(others, Mapping):
                found += self.compare(inner, others, f"{path}.{name}")
        more = w.get("additionalProperties")
        if isinstance(more, Mapping) and isinstance(others, Mapping):
            found += self.compare(more, others, f"{path}.*")
        return found

    def _items(self, w: Schema, r: Schema, path: str) -> list[Misfit]:
        found: list[Misfit] = []
        first, known = w.get("prefixItems", ()), r.get("prefixItems", ())
        for index, reads in enumerate(known):
            writes = first[index] if index < len(first) else w.get("items")
            if isinstance(writes, Mapping):
                found += self.compare(writes, reads, f"{path}[{index}]")
        more, reads = w.get("items"), r.get("items")
        if isinstance(reads, Mapping):
            rest = [*first[len(known) :], *([more] if isinstance(more, Mapping) else [])]
            found += [m for each in rest for m in self.compare(each, reads, f"{path}[*]")]
            if more is None and not first:
                found += self.compare({}, reads, f"{path}[*]")
        return _unique(found)


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    while "$ref" in schema:
        schema = definitions[schema["$ref"].removeprefix(DEFS)]
    return schema


def _says_something(schema: Schema) -> bool:
    return bool(schema.keys() & {"type", "anyOf", "enum", "const", "$ref"})


def _types(schema: Schema) -> tuple[str, ...]:
    kind = schema.get("type", ())
    return (kind,) if isinstance(kind, str) else tuple(kind)


def _values(w: Schema, r: Schema, path: str) -> list[Misfit]:
    """At least one side lists the values that there are."""
    written, known = _listed(w), _listed(r)
    if known is None:
        wrong = [v for v in written or () if not set(_VALUES.get(type(v), ())) & set(_types(r))]
    elif written is None:
        return [Misfit(path, f"may be any {_shown(w)}", f"know only {_names(known)}")]
    else:
        wrong = [value for value in written if value not in known]
    if not wrong:
        return []
    return [Misfit(path, f"may be {_names(wrong)}", f"read {_shown(r)} only")]


def _listed(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _bounds(w: Schema, r: Schema, path: str) -> list[Misfit]:
    found: list[Misfit] = []
    for name in (*_FLOORS, *_CEILINGS):
        limit = r.get(name)
        if limit is None:
            continue
        sign = 1 if name in _FLOORS else -1
        plain = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}.get(name, name)
        strict = "exclusive" + plain[:1].upper() + plain[1:]
        held = [sign * w[n] >= sign * limit for n in {name, strict} if n in w]
        if name != plain and plain in w:  # 5 > 4 holds where 5 is the least
            held.append(sign * w[plain] > sign * limit)
        if not any(held):
            found.append(Misfit(path, f"is not bound by {name} {limit}", "refuse what is beyond"))
    for name in _EQUALS:
        if r.get(name) == "int64":  # says how wide integers are, which bounds say too
            continue
        if name in r and w.get(name) != r[name]:
            found.append(Misfit(path, f"has {_said(w, name)}", f"read {name} {r[name]} only"))
    return found


def _said(schema: Schema, name: str) -> str:
    return f"{name} {schema[name]}" if name in schema else f"no {name}"


def _shown(schema: Schema) -> str:
    """A schema in a word or two."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(DEFS)
    if (values := _listed(schema)) is not None:
        return _names(values)
    if "anyOf" in schema:
        return " or ".join(_shown(option) for option in schema["anyOf"])
    return str(schema.get("title") or "/".join(_types(schema)) or "anything")


def _names(values: Iterable[Any]) -> str:
    return ", ".join(repr(value) for value in values)


def _unique(found: Iterable[Misfit]) -> list[Misfit]:
    return list(dict.fromkeys(found))
