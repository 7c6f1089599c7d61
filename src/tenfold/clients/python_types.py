"""Types of the model as Python: msgspec Structs, enumerations, and hints."""

from __future__ import annotations

import json
import keyword
from collections.abc import Iterator, Sequence
from typing import Any

from tenfold.clients import naming
from tenfold.clients.model import (
    ANY,
    NONE,
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
)
from tenfold.clients.text import plain, wrapped

_SCALARS: dict[Kind, str] = {
    "any": "Any", "none": "None", "bool": "bool", "int": "int", "float": "float", "str": "str", "bytes": "bytes",
    "file": "Upload", "datetime": "dt.datetime", "date": "dt.date", "time": "dt.time", "duration": "dt.timedelta",
    "decimal": "Decimal", "uuid": "UUID",
}  # fmt: skip
_TEXTS = frozenset({"str", "bytes", "datetime", "date", "time", "duration", "decimal", "uuid"})
_SHADOWING = frozenset(
    {"bool", "bytes", "dict", "dt", "enum", "field", "float", "int", "list", "str", "tuple"}
)
"""Names of members that would hide what the hints of later members need."""


def literal(value: Any) -> str:
    """A value as a formatter writes it."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)


class PythonTypes:
    """Hints and declarations of one API. ``used`` collects what the module has to import, ``notes`` sentences about
    what was left open."""

    def __init__(self, api: Api) -> None:
        self._declared = {each.name: each for each in api.types}
        self.used: set[str] = set()
        self.notes: list[str] = []
        self._where = ""

    def name(self, type_: Type) -> str:
        """The hint of a type."""
        match type_:
            case Scalar(kind=kind):
                self.used |= {_SCALARS[kind]} & {"Decimal", "UUID"}
                return _SCALARS[kind]
            case Ref(name=name):
                return name
            case Literals(values=values):
                return f"Literal[{', '.join(map(literal, values))}]"
            case Many(item=item):
                return f"list[{self.name(item)}]"
            case Row(items=items):
                return f"tuple[{', '.join(map(self.name, items)) or '()'}]"
            case Mapping(value=value):
                return f"dict[str, {self.name(value)}]"
            case Union(options=options):
                return self._union(options)

    def is_class(self, type_: Type) -> bool:
        """Whether checkers take the hint for a class."""
        match type_:
            case Scalar(kind=kind):
                return kind not in ("any", "none")
            case Ref(name=name):
                return not isinstance(self._declared[name], Alias)
            case Many() | Row() | Mapping():
                return True
            case _:
                return False

    def declarations(self) -> Iterator[str]:
        """Every declared type; aliases last, since they are the only ones that are evaluated at once."""
        for each in sorted(self._declared.values(), key=lambda each: isinstance(each, Alias)):
            self._where = each.name
            yield self._declaration(each)

    def _declaration(self, each: Declared) -> str:
        match each:
            case Record():
                return "\n".join(self._record(each))
            case Enumeration():
                return "\n".join(self._enumeration(each))
            case Alias():
                return f"{each.name}: TypeAlias = {self.name(each.type)}"

    def _record(self, record: Record) -> Iterator[str]:
        self.used.add("Struct")
        options = ["Struct", "kw_only=True", "omit_defaults=True"]
        if record.tag is not None:
            options += [f"tag_field={literal(record.tag[0])}", f"tag={literal(record.tag[1])}"]
        line = f"class {record.name}({', '.join(options)}):"
        if len(line) > 88:
            yield f"class {record.name}("
            yield from (f"    {option}," for option in options)
            yield "):"
        else:
            yield line
        yield from documented(record.about)
        if record.about and record.fields:
            yield ""
        taken: list[str] = []
        for field in record.fields:
            taken.append(self._member_name(field, taken))
            yield from self._member(field, taken[-1])
        if not record.fields and not record.about:
            yield '    """It has no members."""'

    def _member_name(self, field: Field, taken: list[str]) -> str:
        name = naming.snake(field.wire)
        if keyword.iskeyword(name) or name in _SHADOWING or name == "self":
            name += "_"
        return naming.unique(name, taken)

    def _member(self, field: Field, name: str) -> Iterator[str]:
        hint, default = self.name(field.type), self._default(field)
        if default == "UNSET":
            self.used |= {"UNSET", "UnsetType"}
            hint = or_unset(hint)
        renamed = [f"name={literal(field.wire)}"] if name != field.wire else []
        if default.startswith("field("):
            value = default if not renamed else f"field({renamed[0]}, default_factory={default[22:-1]})"
        elif renamed:
            value = f"field({', '.join([*renamed, *([f'default={default}'] if default else [])])})"
        else:
            value = default
        if value.startswith("field("):
            self.used.add("field")
        yield f"    {name}: {hint}" + (f" = {value}" if value else "")
        yield from documented(field.about)

    def _default(self, field: Field) -> str:
        if field.required:
            return ""
        value, type_ = field.default, field.type
        options = type_.options if isinstance(type_, Union) else (type_,)
        if value is None and NONE in options:
            return "None"
        if value in ([], {}) and any(isinstance(each, (Many, Mapping)) for each in options):
            return f"field(default_factory={'list' if value == [] else 'dict'})"
        for option in options:
            if (written := self._constant(option, value)) is not None:
                return written
        return "UNSET"

    def _constant(self, type_: Type, value: Any) -> str | None:
        """A default as the type writes it; None when it cannot."""
        match type_:
            case Scalar(kind="bool") if isinstance(value, bool):
                return repr(value)
            case Scalar(kind="int") if type(value) is int:
                return repr(value)
            case Scalar(kind="float") if type(value) in (int, float):
                return repr(float(value))
            case Scalar(kind="str") if isinstance(value, str):
                return literal(value)
            case Literals(values=values) if value in values:
                return literal(value)
            case Ref(name=name):
                declared = self._declared[name]
                if isinstance(declared, Enumeration) and value in declared.values:
                    return f"{name}.{naming.members(declared.values)[value]}"
            case _:
                pass
        return None

    def _enumeration(self, each: Enumeration) -> Iterator[str]:
        base = "enum.StrEnum" if isinstance(each.values[0], str) else "enum.IntEnum"
        yield f"class {each.name}({base}):"
        yield from documented(each.about)
        if each.about:
            yield ""
        for value, name in naming.members(each.values).items():
            yield f"    {name} = {literal(value)}"

    # ── unions ──

    def _union(self, options: tuple[Type, ...]) -> str:
        options = _joined(options)
        if not self._readable(options):
            self.notes.append(
                f"{self._where or 'A value'} is one of types that cannot be told apart when they are read "
                f"({' | '.join(map(self.name, options))}): the Python client has it as Any."
            )
            return "Any"
        return " | ".join(map(self.name, options))

    def _readable(self, options: tuple[Type, ...]) -> bool:
        """Whether msgspec can tell them apart: at most one of texts, of whole numbers, of lists and of objects
        without a tag."""
        found = [self._shape(each) for option in options for each in self._opened(option)]
        tagged = {shape for shape in found if shape.startswith("tagged")}
        plain_shapes = [shape for shape in found if shape not in tagged]
        if tagged and ("object" in plain_shapes or len({t.split(":")[1] for t in tagged}) > 1):
            return False
        return len(plain_shapes) == len(set(plain_shapes))

    def _opened(self, type_: Type) -> tuple[Type, ...]:
        if isinstance(type_, Ref) and isinstance(alias := self._declared[type_.name], Alias):
            inner = alias.type.options if isinstance(alias.type, Union) else (alias.type,)
            return tuple(each for option in inner for each in self._opened(option))
        return (type_,)

    def _shape(self, type_: Type) -> str:
        match type_:
            case Scalar(kind=kind):
                return "text" if kind in _TEXTS else kind
            case Literals(values=values):
                return "text" if all(isinstance(value, str) for value in values) else "int"
            case Many() | Row():
                return "list"
            case Ref(name=name):
                declared = self._declared[name]
                if isinstance(declared, Enumeration):
                    return "text" if isinstance(declared.values[0], str) else "int"
                if isinstance(declared, Record) and declared.tag is not None:
                    return f"tagged:{declared.tag[0]}:{declared.tag[1]}"
                return "object"
            case _:
                return "object"


def or_unset(hint: str) -> str:
    """The hint of what may be left out; None stands last."""
    bare = hint.removesuffix(" | None")
    return f"{bare} | UnsetType" + ("" if bare == hint else " | None")


def documented(about: str, indent: int = 4) -> Iterator[str]:
    """A docstring, or nothing."""
    if not plain(about):
        return
    yield from documented_lines(wrapped(about, indent + 6), indent)


def documented_lines(lines: Sequence[str], indent: int) -> Iterator[str]:
    """Lines as a docstring."""
    pad = " " * indent
    lines = [line.replace("\\", "\\\\").replace('"""', '\\"\\"\\"') for line in lines]
    if len(lines) == 1 and not lines[0].endswith('"'):
        yield f'{pad}"""{lines[0]}"""'
        return
    yield f'{pad}"""{lines[0]}'
    yield from (f"{pad}{line}" if line else "" for line in lines[1:])
    yield f'{pad}"""'


def _joined(options: tuple[Type, ...]) -> tuple[Type, ...]:
    """All literals as one, where the first stands."""
    every = tuple(value for each in options if isinstance(each, Literals) for value in each.values)
    found: list[Type] = []
    for each in options:
        one = Literals(every) if isinstance(each, Literals) else each
        if one not in found:
            found.append(one)
    return (ANY,) if ANY in found else tuple(found)
