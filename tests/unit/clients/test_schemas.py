"""Types from JSON Schema, and what Python can read of them."""

from __future__ import annotations

from typing import Any

import pytest

from tenfold.clients.model import ANY, NONE, Alias, Api, Literals, Many, Record, Ref, Row, Scalar, Type, Union
from tenfold.clients.python_types import PythonTypes
from tenfold.clients.schemas import SchemaReader
from tenfold.clients.typescript_types import TypeScriptTypes

NULL = {"type": "null"}


@pytest.mark.parametrize(
    ("schema", "type_"),
    [
        ({}, ANY),
        ({"type": "string", "format": "date-time"}, Scalar("datetime")),
        ({"type": "string", "contentEncoding": "base64"}, Scalar("bytes")),
        ({"type": ["integer", "null"]}, Union((Scalar("int"), NONE))),
        ({"anyOf": [NULL, {"type": "string"}]}, Union((Scalar("str"), NONE))),
        ({"anyOf": [{"type": "string", "format": "decimal"}, {"type": "number"}]}, Scalar("decimal")),
        ({"anyOf": [{"type": "string"}, {}]}, ANY),
        ({"enum": ["a", None]}, Union((Literals(("a",)), NONE))),
        ({"const": 3}, Literals((3,))),
        ({"allOf": [{"type": "boolean"}]}, Scalar("bool")),
        ({"type": "array", "items": {"type": "integer"}}, Many(Scalar("int"))),
        ({"type": "array", "prefixItems": [{"type": "integer"}, {}]}, Row((Scalar("int"), ANY))),
    ],
)
def test_schemas_are_read(schema: dict[str, Any], type_: Type) -> None:
    assert SchemaReader({}, {}).read(schema) == type_


def api(*declared: Any) -> Api:
    return Api(title="some", version="1", types=declared, groups=(), problems=())


A, B = Record(name="A", fields=()), Record(name="B", fields=())
CAT, DOG = (Record(name=name, fields=(), tag=("kind", name.lower())) for name in ("Cat", "Dog"))


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ((Ref("Cat"), Ref("Dog"), NONE), "Cat | Dog | None"),
        ((Scalar("int"), Scalar("str"), Many(Scalar("int"))), "int | str | list[int]"),
        ((Literals(("a",)), Literals(("b",))), 'Literal["a", "b"]'),
        ((Scalar("str"), Scalar("datetime")), "Any"),
        ((Ref("A"), Ref("B")), "Any"),
        ((Ref("A"), Ref("Cat")), "Any"),
    ],
)
def test_unions_that_python_cannot_read_are_any_and_said(options: tuple[Type, ...], hint: str) -> None:
    types = PythonTypes(api(A, B, CAT, DOG))
    assert types.name(Union(options)) == hint
    assert bool(types.notes) == (hint == "Any")


def test_typescript_has_words_for_every_union() -> None:
    types = TypeScriptTypes(api(A, B, Alias(name="C", type=Ref("A"))))
    assert types.name(Many(Union((Ref("A"), Ref("B"), NONE)))) == "(A | B | null)[]"
    assert types.name(Many(Literals(("a", 1)))) == '("a" | 1)[]'
