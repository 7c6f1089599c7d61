"""The OpenAPI 3.1 document of an app, from its operations alone.

The document says what the endpoints do: parameters with their constraints, bodies that reject unknown fields,
every status that can occur with the problem document it carries, and who may call. The same operations give
the same bytes, so that a document in version control changes only when the API does.
"""

from __future__ import annotations

import functools
import inspect
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast, get_args, get_origin

import msgspec

from tenfold._core.container import hints_of
from tenfold.errors import DeclarationError, Problem
from tenfold.http.encoding import BODILESS, success_status
from tenfold.http.files import File
from tenfold.http.operation import Operation
from tenfold.http.params import Param
from tenfold.http.problem_schemas import PROBLEM_SCHEMAS, problem_responses
from tenfold.http.reply import Redirect, Reply, Response
from tenfold.http.schemas import REF, Schema, Schemas
from tenfold.http.stream import EventStream
from tenfold.http.types import members, strip_annotated, without_none
from tenfold.security.policy import Policy
from tenfold.security.principal import Principal

VERSION = "3.1.1"

JSON = "application/json"
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

_STYLES = {"path": "simple", "query": "form", "header": "simple", "cookie": "form"}


@dataclass(frozen=True, slots=True)
class Described:
    """What the document needs to know of one operation."""

    operation: Operation[Any, Any]
    params: Sequence[Param]
    policy: Policy | None
    """None: nobody is asked who they are."""
    limited: bool = False
    """It has a rate limit."""

    @property
    def returns(self) -> Any:
        """The declared type of the value in the body; ``inspect.Parameter.empty`` when undeclared."""
        if self.operation.policies.response_model is not None:
            return self.operation.policies.response_model
        return _body_type(hints_of(self.operation.fn).get("return", inspect.Parameter.empty))


def document(
    described: Iterable[Described],
    *,
    title: str,
    version: str = "0.1.0",
    description: str = "",
    security: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The document as a tree. ``security`` are the authenticator's ``schemes()``.

    Operations stand in the order given, tags and components sorted by name. Hidden operations are left out.
    """
    shown = [each for each in described if not each.operation.policies.hidden]
    returns = [each.returns for each in shown]  # kept: schemas are found by the identity of the type
    schemas = _schemas(shown, returns)
    paths: dict[str, dict[str, Any]] = {}
    for each, type_ in zip(shown, returns, strict=True):
        path = re.sub(r"\{(\w+):path\}", r"{\1}", each.operation.path)
        member = _Member(each, type_, schemas, security or {}).build()
        paths.setdefault(path, {})[each.operation.method.lower()] = member
    info = {"title": title, "version": version, **({"description": description} if description else {})}
    components: dict[str, Any] = {"schemas": _components(schemas, paths)}
    if security:
        components["securitySchemes"] = {name: dict(scheme) for name, scheme in sorted(security.items())}
    tags = sorted({tag for each in shown for tag in _tags(each.operation)})
    return {
        "openapi": VERSION,
        "info": info,
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in tags],
        "paths": paths,
        "components": components,
    }


def encode(tree: Mapping[str, Any]) -> bytes:
    """The document as JSON, the same bytes for the same document."""
    return msgspec.json.encode(tree)


def _schemas(shown: Sequence[Described], returns: Iterable[Any]) -> Schemas:
    inputs: list[Any] = []
    others = [type_ for type_ in returns if _is_json(type_)]
    for each in shown:
        lenient = each.operation.policies.unknown_fields == "ignore"
        for param in each.params:
            (inputs if param.place == "body" and not lenient else others).append(param.type)
    return Schemas(inputs, others)


def _components(schemas: Schemas, paths: Any) -> dict[str, Schema]:
    for name in PROBLEM_SCHEMAS.keys() & schemas.components.keys():
        raise DeclarationError(
            f"the API document needs the name {name} for itself.",
            where="openapi",
            remedy="Give the type of that name another one.",
        )
    schemas.components.update(PROBLEM_SCHEMAS)
    return schemas.prune(paths)


class _Member:
    """Builds the member of one operation."""

    def __init__(self, each: Described, returns: Any, schemas: Schemas, security: Mapping[str, Any]) -> None:
        self._each = each
        self._operation = each.operation
        self._returns = returns
        self._schemas = schemas
        self._security = security
        self._open = each.policy is None or each.policy.anonymous_ok

    def build(self) -> dict[str, Any]:
        operation, policies = self._operation, self._operation.policies
        summary, description = _texts(operation)
        member: dict[str, Any] = {
            "operationId": operation.name,
            "tags": list(_tags(operation)),
            "summary": summary,
        }
        if description:
            member["description"] = description
        if self._each.policy is not None:
            member["x-access"] = self._each.policy.describe()
        if parameters := [*self._parameters(), *self._idempotency_key()]:
            member["parameters"] = parameters
        if body := self._body():
            member["requestBody"] = body
        member["responses"] = self._responses(has_input=bool(parameters or body), has_body=bool(body))
        if not self._open and self._security:
            member["security"] = [{name: []} for name in sorted(self._security)]
        if policies.deprecated:
            member["deprecated"] = True
        return member

    # ── what goes in ──

    def _parameters(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for param in self._each.params:
            if param.place not in _STYLES or self._is_key(param):
                continue
            schema = self._schemas.of(param.type)
            if param.spread:
                found.extend(self._spread(param, schema))
            else:
                schema = _with_default(schema, param)
                found.append(_parameter(param.place, param.wire, schema, param.required, param.description))
        return found

    def _spread(self, param: Param, schema: Schema) -> Iterable[dict[str, Any]]:
        model = self._schemas.resolve(_without_null(schema))
        required = model.get("required", ()) if param.required else ()
        for name, inner in model.get("properties", {}).items():
            wire = name.replace("_", "-").lower() if param.place == "header" else name
            yield _parameter(param.place, wire, inner, name in required, "")

    def _is_key(self, param: Param) -> bool:
        """The handler takes the key of its request: that is listed once, with what both ask of it."""
        key = param.place == "header" and param.wire == "idempotency-key"
        return key and bool(self._operation.policies.idempotent)

    def _idempotency_key(self) -> Iterable[dict[str, Any]]:
        if wanted := self._operation.policies.idempotent:
            taken = [param for param in self._each.params if self._is_key(param)]
            schema: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}
            for param in taken:
                schema |= _without_null(self._schemas.of(param.type))
            required = wanted == "required" or any(param.required for param in taken)
            about = "The same key gives one effect and the same reply, for a day."
            yield _parameter("header", "idempotency-key", schema, required, about)

    def _body(self) -> dict[str, Any]:
        bodies = [p for p in self._each.params if p.place == "body"]
        if bodies:
            return self._json_body(bodies)
        fields = [p for p in self._each.params if p.place in ("form", "file")]
        if not fields:
            return {}
        schema = self._form_schema(fields)
        files = any(p.place == "file" for p in fields)
        kinds = [MULTIPART] if files else [URLENCODED, MULTIPART]
        return {
            "required": bool(schema.get("required")),
            "content": {kind: {"schema": schema} for kind in kinds},
        }

    def _json_body(self, bodies: list[Param]) -> dict[str, Any]:
        if len(bodies) == 1:
            only = bodies[0]
            schema = self._schemas.of(only.type)
            body: dict[str, Any] = {"required": only.required, "content": {JSON: {"schema": schema}}}
            return {"description": only.description, **body} if only.description else body
        reject = self._operation.policies.unknown_fields == "reject"
        schema = _object({p.wire: (self._schemas.of(p.type), p) for p in bodies}, closed=reject)
        return {"required": any(p.required for p in bodies), "content": {JSON: {"schema": schema}}}

    def _form_schema(self, fields: list[Param]) -> Schema:
        single = {p.wire: (_form_value(self._schemas.of(p.type), p), p) for p in fields if not p.spread}
        schema = _object(single, closed=False)
        for param in fields:
            if param.spread:
                model = self._schemas.resolve(_without_null(self._schemas.of(param.type)))
                schema["properties"].update(model.get("properties", {}))
                if param.required and model.get("required"):
                    schema["required"] = [*schema.get("required", ()), *model["required"]]
        return schema

    # ── what comes out ──

    def _responses(self, *, has_input: bool, has_body: bool) -> dict[str, Any]:
        status, response = self._success()
        found = {str(status): response}
        if self._operation.policies.etag or self._operation.policies.cache:
            found["304"] = {"description": "The client's copy, named by If-None-Match, is still good."}
        declared = self._operation.policies.errors
        found.update(problem_responses(sorted(self._statuses(has_input, has_body)), declared))
        return dict(sorted(found.items()))

    def _statuses(self, has_input: bool, has_body: bool) -> set[int]:
        statuses = {400, 414, 431, 503, 504}
        if self._open and self._security and _looks_at_caller(self._operation):
            statuses.add(401)  # a bad credential is refused where it is looked at
        if not self._open:
            statuses |= {401, 403}
        if "{" in self._operation.path:
            statuses.add(404)
        if has_input:
            statuses.add(422)
        if has_body:
            statuses |= {408, 413, 415}
        if self._operation.policies.idempotent:
            statuses |= {409, 422}
        if self._each.limited:
            statuses.add(429)
        return statuses | {
            error.status for error in self._operation.policies.errors if issubclass(error, Problem)
        }

    def _success(self) -> tuple[int, dict[str, Any]]:
        type_ = self._returns
        if (kind := _response_class(type_)) is not None:
            return self._own_response(kind, self._operation.policies.status)
        status = success_status(self._operation)
        if status in BODILESS:
            return status, {"description": _phrase(status)}
        schema = self._schemas.of(type_) if _is_json(type_) else {}
        return status, {"description": _phrase(status), "content": {JSON: {"schema": schema}}}

    def _own_response(self, kind: type[Response], status: int | None) -> tuple[int, dict[str, Any]]:
        if issubclass(kind, Redirect):
            location = {"Location": {"schema": {"type": "string"}, "required": True}}
            return status or 303, {"description": "See there.", "headers": location}
        if issubclass(kind, EventStream):
            return status or 200, {
                "description": "Server-sent events.",
                # OpenAPI 3.1 has no words for one event of a stream; readers disagree whether a schema is of that.
                "content": {"text/event-stream": {"schema": {}}},
            }
        if issubclass(kind, File):
            return status or 200, {"description": "The file.", "content": {"*/*": {"schema": {}}}}
        return status or 200, {"description": _phrase(status or 200)}


def _phrase(status: int) -> str:
    return f"{HTTPStatus(status).phrase}."


def _looks_at_caller(operation: Operation[Any, Any]) -> bool:
    kinds = [kind for hint in hints_of(operation.fn).values() for kind in without_none(hint)]
    return any(isinstance(kind, type) and issubclass(kind, Principal) for kind in kinds)


def _body_type(hint: Any) -> Any:
    """What is in the body: ``Reply[T]`` is T, and of ``T | Redirect`` the T counts."""
    found = [_inside(member) for member in members(hint)]
    plain = [member for member in found if _response_class(member) is None]
    if len(plain) == len(found) == 1:
        return hint if found[0] is strip_annotated(hint) else found[0]
    return functools.reduce(operator.or_, plain) if plain else found[0]


def _inside(member: Any) -> Any:
    if member is Reply:
        return Any
    return get_args(member)[0] if get_origin(member) is Reply else member


def _response_class(type_: Any) -> type[Response] | None:
    bare = strip_annotated(type_)
    kind = get_origin(bare) or bare
    return kind if isinstance(kind, type) and issubclass(kind, Response) else None


def _is_json(type_: Any) -> bool:
    """Whether the type of the body says anything."""
    return type_ not in (None, Any, inspect.Parameter.empty) and _response_class(type_) is None


def _parameter(place: str, name: str, schema: Schema, required: bool, description: str) -> dict[str, Any]:
    schema = _without_null(schema)
    if place == "header":
        name = "-".join(word.capitalize() for word in name.split("-"))
    if place == "path" and schema.get("type") == "string":
        schema = {"minLength": 1, **schema}  # an empty segment is another path
    out: dict[str, Any] = {"name": name, "in": place, "required": required or place == "path"}
    if text := description or schema.get("description", ""):
        out["description"] = text
    return {**out, "schema": schema}


def _without_null(schema: Schema) -> Schema:
    """Text has no null: an absent parameter is what None means."""
    options = cast("list[Schema] | None", schema.get("anyOf"))
    if options is None:
        return schema
    rest = [option for option in options if option.get("type") != "null"]
    if len(rest) == len(options):
        return schema
    outer = {k: v for k, v in schema.items() if k != "anyOf" and not (k == "default" and v is None)}
    return {**outer, **rest[0]} if len(rest) == 1 else {**outer, "anyOf": rest}


def _form_value(schema: Schema, param: Param) -> Schema:
    if param.place != "file":
        return _without_null(schema)
    # `Annotated[bytes, File()]` is a file like any other on the wire
    binary: Schema = {"type": "string", "format": "binary"}
    if param.many:
        return {"type": "array", "items": binary}
    return binary


def _with_default(schema: Schema, param: Param) -> Schema:
    if param.required or param.default is None or "default" in schema:
        return schema
    try:
        default = msgspec.to_builtins(param.default)
    except TypeError:
        return schema  # made for the call, nothing that can be written down
    return {**schema, "default": default}


def _object(members: Mapping[str, tuple[Schema, Param]], *, closed: bool) -> Schema:
    schema: Schema = {
        "type": "object",
        "properties": {name: _with_default(inner, param) for name, (inner, param) in members.items()},
    }
    if required := [name for name, (_, param) in members.items() if param.required]:
        schema["required"] = required
    if closed:
        schema["additionalProperties"] = False
    return schema


def _tags(operation: Operation[Any, Any]) -> tuple[str, ...]:
    return operation.policies.tags or (operation.service,)


def _texts(operation: Operation[Any, Any]) -> tuple[str, str]:
    """Summary and description: as declared, else the docstring's first line and the rest."""
    first, _, rest = inspect.cleandoc(operation.fn.__doc__ or "").partition("\n\n")
    first = " ".join(first.split())
    name = operation.fn.__name__.replace("_", " ").strip()
    fits = first and len(first) <= 100
    summary = operation.policies.summary or (first.removesuffix(".") if fits else name[:1].upper() + name[1:])
    text = rest if fits else f"{first}\n\n{rest}"
    return summary, operation.policies.description or text.strip()


__all__ = ["REF", "Described", "document", "encode"]
