"""The slow path of decoding: every wrong field of every part of the request, in one answer.

It runs only after the fast path failed, walks the declared types beside the values, and agrees with msgspec
because msgspec judges each scalar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import inspect as mi

from tenfold._core.text import nearest
from tenfold.errors import DeclarationError, FieldError, InvalidInput, MalformedBody, Problem
from tenfold.http import sentences
from tenfold.http.integers import has_floats, with_integers
from tenfold.http.limits import check_depth
from tenfold.http.types import (
    bounded,
    has_pydantic,
    is_pydantic,
    is_sequence_of_scalars,
    strip_annotated,
    without_none,
)

if TYPE_CHECKING:
    from tenfold.http.adapters import Codec
    from tenfold.http.params import Param

ERRORS_MAX = 100
"""More wrong fields than anybody reads are not listed."""

Wrong = tuple[str, str]
"""Path and sentence."""

_OBJECTS = (mi.StructType, mi.DataclassType, mi.TypedDictType)
_LISTS = (mi.ListType, mi.SetType, mi.FrozenSetType, mi.VarTupleType, mi.TupleType, mi.NamedTupleType)
_BYTE = re.compile(r"\(byte (\d+)\)")


@dataclass(slots=True)
class Inputs:
    """The scalars of a request as one Struct, so that one msgspec call converts and checks them all."""

    params: list[Param]
    struct: type[msgspec.Struct]
    adapters: dict[str, Any] = field(default_factory=dict)
    """Pydantic models spread over the query or a form, by parameter."""

    @classmethod
    def of(cls, params: list[Param], *, where: str) -> Inputs:
        adapters: dict[str, Any] = {}
        fields: list[Any] = []
        for param in params:
            if has_pydantic(param.type):
                from pydantic import TypeAdapter

                adapters[param.name] = TypeAdapter(param.type)
            elif param.required:
                fields.append((param.name, bounded(param.type)))
            else:
                fields.append((param.name, bounded(param.type), default_field(param.default)))
        struct = msgspec.defstruct("Inputs", fields, kw_only=True)
        try:
            mi.type_info(struct)
            msgspec.json.Decoder(struct)
        except TypeError as error:
            raise DeclarationError(
                f"a parameter's type cannot be read from text: {error}.", where=where
            ) from None
        return cls(params, struct, adapters)

    @staticmethod
    def fields_of(type_: Any) -> dict[str, bool]:
        """Names on the wire of a model's fields, and whether each is a list."""
        (model,) = without_none(type_)
        model = strip_annotated(model)
        if is_pydantic(model):
            return {
                (f.alias or name): is_sequence_of_scalars(f.annotation)
                for name, f in model.model_fields.items()
            }
        info: Any = mi.type_info(model)
        return {f.encode_name: isinstance(f.type, _LISTS) for f in info.fields}

    @staticmethod
    def nullable_of(type_: Any) -> frozenset[str]:
        """Fields of a model that msgspec makes None of the text ``null`` for: all that may be None and not text."""
        (model,) = without_none(type_)
        model = strip_annotated(model)
        if is_pydantic(model):
            return frozenset()
        info: Any = mi.type_info(model)
        unions = [(f.encode_name, f.type.types) for f in info.fields if isinstance(f.type, mi.UnionType)]
        return frozenset(
            name
            for name, types in unions
            if any(isinstance(m, mi.NoneType) for m in types)
            and not any(isinstance(m, mi.StrType) for m in types)
        )


def default_field(value: Any) -> Any:
    """A default as msgspec wants it: mutable ones behind a factory."""
    return msgspec.field(default_factory=lambda: value) if isinstance(value, (list, dict, set)) else value


class Collector:
    """Explains why one operation refused its input."""

    def __init__(self, inputs: Inputs, codec: Codec | None, max_depth: int) -> None:
        self.inputs = inputs
        self.codec = codec
        self._max_depth = max_depth
        self._infos = {p.name: mi.type_info(p.type) for p in inputs.params if p.name not in inputs.adapters}
        self._body_info = None if codec is None or codec.adapter else mi.type_info(codec.type)

    def defaults(self, bodies: list[Param]) -> Any:
        """What stands for a body that was left out."""
        if len(bodies) == 1:
            return bodies[0].default
        assert self.codec is not None
        return self.codec.type()

    def integers(self, body: bytes) -> bytes:
        """A refused body with ``2.0`` as ``2`` where a whole number is wanted; the same object without any."""
        if self._body_info is None or not has_floats(body):
            return body
        try:
            parse_json(body, self._max_depth)
        except MalformedBody:
            return body
        return with_integers(body, self._body_info)

    def explain(
        self, raw: dict[str, Any] | None, body: bytes | None, error: Exception | None
    ) -> Problem | None:
        """The problem to answer with; None when there is none (only without ``error``)."""
        value: Any = None
        if body is not None:
            try:
                value = parse_json(body, self._max_depth)
            except MalformedBody as problem:
                return problem
        found = list(islice(self._all(raw, body, value), ERRORS_MAX))
        if found:
            return InvalidInput(errors=found)
        if error is None:
            return None
        place = "body" if body is not None else "request"
        return InvalidInput(
            errors=[FieldError(in_=place, path="", message=sentences.from_msgspec(str(error)))]
        )

    def _all(self, raw: dict[str, Any] | None, body: bytes | None, value: Any) -> Iterator[FieldError]:
        for param in self.inputs.params:
            for path, message in self._input(param, raw or {}):
                yield FieldError(in_=param.place, path=path, message=message)
        if body is not None:
            for path, message in self._body(body, value):
                yield FieldError(in_="body", path=path, message=message)

    def _input(self, param: Param, raw: dict[str, Any]) -> Iterator[Wrong]:
        root = "" if param.spread else param.wire
        if param.name not in raw:
            if param.required:
                yield root, "is required."
        elif param.name in self.inputs.adapters:
            yield from _pydantic(self.inputs.adapters[param.name].validate_python, raw[param.name], {})
        else:
            yield from walk(self._infos[param.name], raw[param.name], root, lax=True)

    def _body(self, body: bytes, value: Any) -> Iterator[Wrong]:
        assert self.codec is not None
        if self._body_info is not None:
            yield from walk(self._body_info, value, "", unknown=self.codec.reject_unknown)
            return
        options = {"extra": "forbid"} if self.codec.reject_unknown else {}
        yield from _pydantic(self.codec.adapter.validate_json, body, options)
        yield from walk(mi.AnyType(), value, "")


def parse_json(body: bytes, max_depth: int) -> Any:
    """The body as plain JSON. Raises MalformedBody with line and column of what is wrong."""
    if not body:
        raise MalformedBody("The body is missing: this operation needs a JSON body.")
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise MalformedBody(
            f"The body is not valid UTF-8: byte {error.start} (0x{body[error.start]:02x}).",
            position=error.start,
        ) from None
    check_depth(body, max_depth)
    try:
        return msgspec.json.decode(body)
    except msgspec.ValidationError as error:  # a number that no machine type holds
        raise MalformedBody(f"The JSON body has a {str(error).partition(' - ')[0].lower()}.") from None
    except msgspec.DecodeError as error:
        raise _malformed(body, str(error)) from None


def _malformed(body: bytes, message: str) -> MalformedBody:
    match = _BYTE.search(message)
    at = min(int(match[1]), len(body)) if match else len(body)
    at -= "trailing" in message  # of these, msgspec tells the byte after
    line = body.count(b"\n", 0, at) + 1
    column = len(body[body.rfind(b"\n", 0, at) + 1 : at].decode("utf-8", "replace")) + 1
    what = _BYTE.sub("", message).removeprefix("JSON is malformed: ").strip().lower()
    what = "it ends too early" if "truncated" in what else what
    return MalformedBody(f"The body is not valid JSON: {what} at line {line}, column {column}.", position=at)


# ── walking ───────────────────────────────────────────────────────────────────────────────────────


def walk(
    info: mi.Type, value: Any, path: str, *, lax: bool = False, unknown: bool = False
) -> Iterator[Wrong]:
    """Everything that is wrong with ``value``. ``lax``: numbers may be text. ``unknown``: reject fields
    that the type does not have, whatever the type says."""
    if isinstance(info, mi.Metadata):
        yield from walk(info.type, value, path, lax=lax, unknown=unknown)
    elif isinstance(info, mi.UnionType):
        yield from _union(info, value, path, lax, unknown)
    elif isinstance(info, _OBJECTS) and not getattr(info, "array_like", False):
        yield from _object(info, value, path, lax, unknown)
    elif isinstance(info, _LISTS):
        yield from _list(info, value, path, lax, unknown)
    elif isinstance(info, mi.DictType):
        yield from _dict(info, value, path, lax, unknown)
    elif isinstance(info, mi.AnyType) and isinstance(value, (dict, list)):
        yield from _any(value, path)
    elif message := sentences.leaf(info, value, lax=lax):
        yield path, message


def _object(info: Any, value: Any, path: str, lax: bool, unknown: bool) -> Iterator[Wrong]:
    if not isinstance(value, dict):
        yield path, sentences.wrong_kind(info, value, lax=lax)
        return
    info = _with_fields(info)
    known = {f.encode_name: f for f in info.fields}
    tag_field = getattr(info, "tag_field", None)
    wrong = False
    for name, member in value.items():
        if name in known:
            for found in walk(known[name].type, member, _join(path, name), lax=lax, unknown=unknown):
                wrong = True
                yield found
        elif name != tag_field and (unknown or getattr(info, "forbid_unknown_fields", False)):
            wrong = True
            yield _join(path, name), f"is not a known field.{nearest(name, known)}"
    for name, f in known.items():
        if f.required and name not in value:
            wrong = True
            yield _join(path, name), "is required."
    if not wrong:
        yield from _whole(info, value, path, lax)


def _with_fields(info: Any) -> Any:
    """A type that contains itself is described by its first mention; ask for the fields again."""
    return info if info.fields else mi.type_info(info.cls)


def _whole(info: Any, value: Any, path: str, lax: bool) -> Iterator[Wrong]:
    """Each field is good by itself; the class may still refuse them together (``__post_init__``)."""
    try:
        msgspec.convert(value, info.cls, strict=not lax)
    except (msgspec.ValidationError, ValueError) as error:
        yield path, sentences.from_msgspec(str(error))


def _list(info: Any, value: Any, path: str, lax: bool, unknown: bool) -> Iterator[Wrong]:
    if not isinstance(value, list):
        yield path, sentences.wrong_kind(info, value, lax=False)
        return
    if isinstance(info, mi.TupleType):
        items = info.item_types
        if len(items) != len(value):
            yield path, f"must have {len(items)} items, not {len(value)}."
            return
    elif isinstance(info, mi.NamedTupleType):
        items = tuple(f.type for f in info.fields[: len(value)])
    else:
        if message := sentences.length(info, len(value), "item"):
            yield path, message
        items = (info.item_type,) * len(value)
    for index, (item, member) in enumerate(zip(items, value, strict=False)):
        yield from walk(item, member, f"{path}[{index}]", lax=lax, unknown=unknown)


def _dict(info: mi.DictType, value: Any, path: str, lax: bool, unknown: bool) -> Iterator[Wrong]:
    if not isinstance(value, dict):
        yield path, sentences.wrong_kind(info, value, lax=lax)
        return
    if message := sentences.length(info, len(value), "member"):
        yield path, message
    for name, member in value.items():
        for _, message in walk(info.key_type, name, "", lax=True):
            yield _join(path, name), f"has a name that {message}"
        yield from walk(info.value_type, member, _join(path, name), lax=lax, unknown=unknown)


def _any(value: Any, path: str) -> Iterator[Wrong]:
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for name, member in members:
        at = _join(path, name) if isinstance(name, str) else f"{path}[{name}]"
        yield from walk(mi.AnyType(), member, at)


def _union(info: mi.UnionType, value: Any, path: str, lax: bool, unknown: bool) -> Iterator[Wrong]:
    if value is None and any(isinstance(m, mi.NoneType) for m in info.types):
        return
    choices = [m for m in info.types if not isinstance(m, mi.NoneType)]
    if isinstance(value, dict) and any(getattr(m, "tag_field", None) for m in choices):
        choices = _by_tag(choices, value) or choices
    attempts = [list(walk(choice, value, path, lax=lax, unknown=unknown)) for choice in choices]
    if all(attempts):
        # With one alternative (or one that fits the kind of value) its own errors say more than a summary.
        fitting = [a for a in attempts if not any(p == path and "must be" in m for p, m in a)]
        if len(attempts) == 1 or len(fitting) == 1:
            yield from (fitting or attempts)[0]
        else:
            yield path, sentences.wrong_kind(info, value, lax=lax)


def _by_tag(choices: list[mi.Type], value: dict[str, Any]) -> list[mi.Type]:
    return [m for m in choices if isinstance(m, mi.StructType) and value.get(m.tag_field or "") == m.tag]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _pydantic(validate: Any, value: Any, options: dict[str, Any]) -> Iterator[Wrong]:
    from pydantic import ValidationError

    try:
        validate(value, **options)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_context=False):
            path = ""
            for part in item["loc"]:
                path = f"{path}[{part}]" if isinstance(part, int) else _join(path, part)
            yield path, _pydantic_sentence(item["type"], item["msg"])


def _pydantic_sentence(kind: str, message: str) -> str:
    if kind == "missing":
        return "is required."
    if kind == "extra_forbidden":
        return "is not a known field."
    return f"is not valid: {message[:1].lower()}{message[1:]}."
