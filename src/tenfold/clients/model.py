"""What a client library is made of: an API as data, the same for every language. Pure.

:mod:`tenfold.clients.reading` makes it from an app; the writers (:mod:`~tenfold.clients.python`,
:mod:`~tenfold.clients.typescript`) turn it into text. Names here are those of the wire or of the app; each language
makes its own identifiers of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import Struct

Kind = Literal[
    "any", "none", "bool", "int", "float", "str", "bytes", "file",
    "datetime", "date", "time", "duration", "decimal", "uuid",
]  # fmt: skip


class Scalar(Struct, frozen=True):
    """A value without parts. ``bytes`` travel as base64, ``decimal`` as text, ``file`` only in multipart forms."""

    kind: Kind


class Ref(Struct, frozen=True):
    """A declared type, by its name in the client."""

    name: str


class Literals(Struct, frozen=True):
    """One of these values."""

    values: tuple[Any, ...]


class Many(Struct, frozen=True):
    """A list."""

    item: Type


class Row(Struct, frozen=True):
    """A list of fixed length with a type for each place."""

    items: tuple[Type, ...]


class Mapping(Struct, frozen=True):
    """An object with keys that are not known beforehand."""

    value: Type


class Union(Struct, frozen=True):
    """One of several types; ``Scalar("none")`` is null."""

    options: tuple[Type, ...]


Type = Scalar | Ref | Literals | Many | Row | Mapping | Union

NOTHING = msgspec.UNSET
"""No default is known."""
ANY, NONE = Scalar("any"), Scalar("none")


class Field(Struct, frozen=True, kw_only=True):
    """A member of an object. One that is not required and has no default can be left out."""

    wire: str
    type: Type
    required: bool
    default: Any = NOTHING
    about: str = ""


class Record(Struct, frozen=True, kw_only=True):
    """An object with known members. ``tag`` is the member, and its value, that tells it from others in a union."""

    name: str
    fields: tuple[Field, ...]
    about: str = ""
    tag: tuple[str, str | int] | None = None


class Enumeration(Struct, frozen=True, kw_only=True):
    """A closed set of values with a name."""

    name: str
    values: tuple[str | int, ...]
    about: str = ""


class Alias(Struct, frozen=True, kw_only=True):
    """A name for a type that is neither."""

    name: str
    type: Type
    about: str = ""


Declared = Record | Enumeration | Alias


class Parameter(Struct, frozen=True, kw_only=True):
    """A value of a request that is not its JSON body. ``default`` is the server's, for the documentation."""

    wire: str
    place: Literal["path", "query", "header", "cookie"]
    type: Type
    required: bool
    about: str = ""
    default: Any = NOTHING
    slashes: bool = False
    """A part of the path that may have slashes in it."""


class Body(Struct, frozen=True, kw_only=True):
    """What a request carries. ``json`` has one field, the whole; ``members`` are an object's, ``form`` and ``multipart``
    those of a form; ``raw`` has none: the operation reads its request by itself."""

    kind: Literal["json", "members", "form", "multipart", "raw"]
    fields: tuple[Field, ...] = ()
    required: bool = True


class Result(Struct, frozen=True, kw_only=True):
    """What an operation answers with: ``type`` as JSON or of each event, a file, the address of a redirect, or nothing."""

    kind: Literal["json", "nothing", "download", "events", "location"]
    type: Type = ANY
    item: Type | None = None
    """Of one item, when the answer is a page of a list that links to the next page."""


class Call(Struct, frozen=True, kw_only=True):
    """An operation as its caller sees it."""

    name: str
    """Without the service."""
    method: str
    path: str
    about: str
    result: Result
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    keyed: bool = False
    """It takes an Idempotency-Key."""
    problems: tuple[str, ...] = ()
    """Names of those that it declares."""
    access: str = ""
    deprecated: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether doing it twice is doing it once (RFC 9110 § 9.2.2)."""
        return self.keyed or self.method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")


class Group(Struct, frozen=True, kw_only=True):
    """The operations of a service."""

    name: str
    calls: tuple[Call, ...]


class ProblemKind(Struct, frozen=True, kw_only=True):
    """A kind of problem document. ``base`` is another one's name, or empty."""

    name: str
    urn: str
    status: int
    base: str = ""
    about: str = ""


class Api(Struct, frozen=True, kw_only=True):
    """All of it. ``notes`` are sentences about what no client can express."""

    title: str
    version: str
    types: tuple[Declared, ...]
    groups: tuple[Group, ...]
    problems: tuple[ProblemKind, ...]
    bearer: bool = False
    api_key_header: str = ""
    notes: tuple[str, ...] = ()


def walk(type_: Type) -> Iterator[Type]:
    """The type and every type inside of it; declared types are not entered."""
    yield type_
    match type_:
        case Many(item=inner) | Mapping(value=inner):
            yield from walk(inner)
        case Row(items=inner) | Union(options=inner):
            for each in inner:
                yield from walk(each)
        case _:
            pass


def every_type(api: Api) -> Iterator[Type]:
    """Every type that occurs anywhere, with repetitions."""
    for declared in api.types:
        match declared:
            case Record(fields=fields):
                found = [field.type for field in fields]
            case Alias(type=type_):
                found = [type_]
            case _:
                found = []
        for type_ in found:
            yield from walk(type_)
    for group in api.groups:
        for call in group.calls:
            body = call.body.fields if call.body else ()
            found = [
                call.result.type,
                *(each.type for each in call.parameters),
                *(each.type for each in body),
            ]
            for type_ in found:
                yield from walk(type_)


def nullable(type_: Type) -> bool:
    """Whether null is one of its values."""
    return type_ == NONE or (isinstance(type_, Union) and NONE in type_.options)


def without_null(type_: Type) -> Type:
    """The type without null."""
    if not isinstance(type_, Union):
        return type_
    rest = tuple(option for option in type_.options if option != NONE)
    return rest[0] if len(rest) == 1 else Union(rest)
