"""JSON Schema of types, as msgspec really reads and writes them.

msgspec makes the schemas. What it leaves open is closed here: unknown fields where they are rejected, 64-bit
integers, and the text forms of decimals, times, durations and bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import msgspec
from msgspec import inspect as mi

Schema = dict[str, Any]

REF = "#/components/schemas/"
"""Where OpenAPI and AsyncAPI documents keep what is named."""

_BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_DECIMAL = r"^-?\d{1,28}(\.\d{1,28})?([eE][+-]?\d{1,3})?$"
DURATION = r"^-?P(\d{1,8}D|(\d{1,8}D)?T\d{1,5}(\.\d{1,6})?S)$"
LOCAL_TIME = r"^([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?$"

_OBJECTS = (mi.StructType, mi.DataclassType, mi.TypedDictType)
_BYTES = (mi.BytesType, mi.ByteArrayType, mi.MemoryViewType)


class Schemas:
    """Schemas of many types at once, with the shared components that they refer to.

    ``inputs`` are types whose unknown fields are rejected when they are read; ``others`` the rest. Names of
    components are the class names; where two classes share one, msgspec puts the module before it. ``ref`` stands
    before the names.
    """

    def __init__(self, inputs: Iterable[Any], others: Iterable[Any], *, ref: str = REF) -> None:
        self._inputs, self._others, self._ref = list(inputs), list(others), ref
        self._foreign: dict[str, Schema] = {}
        every = [*self._inputs, *self._others]
        schemas, components = msgspec.json.schema_components(
            every, schema_hook=self.foreign, ref_template=ref + "{name}"
        )
        self.components: dict[str, Schema] = {**components, **self._foreign}
        # By identity: not every hint can be hashed, and the lists keep the hints alive.
        self._by_id = {id(hint): schema for hint, schema in zip(every, schemas, strict=True)}
        self._refine(every, schemas)

    def of(self, hint: Any) -> Schema:
        """The schema of one of the types that the constructor was given."""
        return self._by_id[id(hint)]

    def resolve(self, schema: Schema) -> Schema:
        """The schema itself, or the component it refers to."""
        ref = schema.get("$ref")
        return self.components[ref.removeprefix(self._ref)] if isinstance(ref, str) else schema

    def prune(self, used_by: Any) -> dict[str, Schema]:
        """The components that ``used_by`` refers to, directly or through others, sorted by name."""
        found: set[str] = set()
        waiting = [used_by]
        while waiting:
            for name in _references(waiting.pop(), self._ref):
                if name not in found:
                    found.add(name)
                    waiting.append(self.components[name])
        return {name: self.components[name] for name in sorted(found)}

    def _refine(self, every: list[Any], schemas: tuple[Schema, ...]) -> None:
        infos = mi.multi_type_info(every)
        closed, count = _Walk(self.components, self._ref), len(self._inputs)
        for schema, info in zip(schemas, infos, strict=True):
            closed.visit(schema, info)
        inputs = _references(list(schemas[:count]), self._ref)
        for name in self._reachable(inputs):
            component = self.components[name]
            if component.get("type") == "object" and "properties" in component:
                component.setdefault("additionalProperties", False)

    def _reachable(self, names: set[str]) -> set[str]:
        return set(self.prune([{"$ref": self._ref + name} for name in names]))

    def foreign(self, type_: type[Any]) -> Schema:
        """The schema of a type that msgspec does not know."""
        if hasattr(type_, "model_json_schema"):
            return self._pydantic(type_)
        return {"title": type_.__name__}  # anything: a hook encodes it

    def _pydantic(self, type_: Any) -> Schema:
        schema: Schema = type_.model_json_schema(ref_template=self._ref + "{model}")
        self._foreign.update(schema.pop("$defs", {}))
        self._foreign[type_.__name__] = schema
        return {"$ref": self._ref + type_.__name__}


class _Walk:
    """Goes through a schema beside the type it was made from."""

    def __init__(self, components: dict[str, Schema], ref: str) -> None:
        self._components = components
        self._ref = ref
        self._seen: set[str] = set()

    def visit(self, schema: Schema, info: mi.Type) -> None:
        while isinstance(info, mi.Metadata):
            info = info.type
        if "$ref" in schema:
            name = schema["$ref"].removeprefix(self._ref)
            if name not in self._seen:
                self._seen.add(name)
                self.visit(self._components[name], info)
        elif isinstance(info, mi.UnionType):
            self._union(schema, info)
        elif isinstance(info, (*_OBJECTS, mi.NamedTupleType)):
            # A type that contains itself is described by its first mention; ask for the fields again.
            self._fields(schema, info if info.fields else mi.type_info(info.cls))
        elif isinstance(info, mi.CollectionType):
            self._inner(schema, "items", info.item_type)
        elif isinstance(info, mi.DictType):
            self._inner(schema, "additionalProperties", info.value_type)
        elif isinstance(info, mi.TupleType):
            for inner, type_ in zip(schema.get("prefixItems", ()), info.item_types, strict=True):
                self.visit(inner, type_)
        else:
            _refine_leaf(schema, info)

    def _inner(self, schema: Schema, key: str, info: mi.Type) -> None:
        if isinstance(schema.get(key), dict):
            self.visit(schema[key], info)

    def _fields(self, schema: Schema, info: Any) -> None:
        if "prefixItems" in schema:  # a named tuple, or a Struct that travels as an array
            for inner, field in zip(schema["prefixItems"][-len(info.fields) :], info.fields, strict=True):
                self.visit(inner, field.type)
            return
        for field in info.fields:
            self.visit(schema["properties"][field.encode_name], field.type)

    def _union(self, schema: Schema, info: mi.UnionType) -> None:
        # msgspec lists what is not a Struct first, then the Structs (in an anyOf of their own when several).
        options: list[Schema] = []
        for option in schema.get("anyOf", ()):
            options.extend(option["anyOf"] if "discriminator" in option else [option])
        options = [option for option in options if option.get("type") != "null"]
        bare = [_bare(member) for member in info.types]
        others = [m for m in bare if not _is_tagged(m) and not isinstance(m, mi.NoneType)]
        for option, member in zip(options, [*others, *filter(_is_tagged, bare)], strict=True):
            self.visit(option, member)


def _bare(info: mi.Type) -> mi.Type:
    while isinstance(info, mi.Metadata):
        info = info.type
    return info


def _is_tagged(info: mi.Type) -> bool:
    return isinstance(info, mi.StructType) and not info.array_like


def _refine_leaf(schema: Schema, info: mi.Type) -> None:
    if isinstance(info, mi.IntType):
        if not (
            {"minimum", "exclusiveMinimum"} & schema.keys()
            and {"maximum", "exclusiveMaximum"} & schema.keys()
        ):
            schema.setdefault("format", "int64")
    elif isinstance(info, (mi.LiteralType, mi.EnumType)):
        if all(isinstance(value, str) for value in schema["enum"]):
            schema.setdefault("type", "string")
    elif isinstance(info, mi.DateTimeType):
        schema.setdefault("format", "date-time")
    elif isinstance(info, mi.TimeType):
        if info.tz is not True:  # an aware time is msgspec's format "time"
            schema.pop("format", None)
            schema["pattern"] = LOCAL_TIME
    elif isinstance(info, mi.TimeDeltaType):
        schema.pop("format", None)  # RFC 3339 durations have no fractions; these do
        schema["pattern"] = DURATION
    elif isinstance(info, _BYTES):
        schema["pattern"] = _BASE64
    elif isinstance(info, mi.DecimalType):  # written as a string, read from a number too
        del schema["type"], schema["format"]
        schema["anyOf"] = [{"type": "string", "format": "decimal", "pattern": _DECIMAL}, {"type": "number"}]


def _references(schema: Any, prefix: str) -> set[str]:
    """Names of the components that a piece of the document refers to itself."""
    found: set[str] = set()
    waiting: list[Any] = [schema]
    while waiting:
        piece = waiting.pop()
        if isinstance(piece, dict):
            members = cast("dict[str, Any]", piece)
            ref = members.get("$ref")
            if isinstance(ref, str) and ref.startswith(prefix):
                found.add(ref.removeprefix(prefix))
            waiting.extend(members.values())
        elif isinstance(piece, (list, tuple)):
            waiting.extend(cast("list[Any]", piece))
    return found
