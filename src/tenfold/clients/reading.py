"""From an app to the model of its clients.

The OpenAPI document says what is on the wire (it is made of the operations, and tests hold the two together); the
operations say what a document has no words for: which service they belong to, what the problems are called, what
the events of a stream look like, and whether a key makes them repeatable.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from tenfold._core.container import hints_of
from tenfold._core.json_schema import Schema
from tenfold.clients import naming, problems
from tenfold.clients.model import (
    ANY,
    NOTHING,
    Api,
    Body,
    Call,
    Field,
    Group,
    Many,
    Parameter,
    Result,
    nullable,
)
from tenfold.clients.schemas import SchemaReader
from tenfold.clients.typescript_types import TEXT_NAMES
from tenfold.http.openapi import JSON, MULTIPART, Described
from tenfold.http.problem_schemas import PROBLEM_SCHEMAS
from tenfold.http.request import Request
from tenfold.http.schemas import Schemas
from tenfold.http.stream import EventStream
from tenfold.http.types import members

if TYPE_CHECKING:
    from tenfold.app import App

RESERVED = frozenset(
    {
        "ApiError", "AsyncClient", "AsyncIterator", "Client", "ConnectionFailed", "Download", "File", "Iterator",
        "Path", "Problem", "ServerEvent", "Struct", "TimedOut", "UnexpectedReply", "Upload", "WrongField",
        "Attempts", "Blob", "CallOptions", "ClientOptions", "Date", "Error", "EventReader", "FormData", "Headers", "Http",
        "KeyedOptions", "Value", "Values", *TEXT_NAMES, "Promise", "Request", "Response", "Record", "Array", "Literal", "Any",
    }
)  # fmt: skip
"""Names that clients use themselves."""
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def read(app: App) -> Api:
    """The model of an app's API: every operation that its OpenAPI document shows. Needs nothing running."""
    docs = app._docs
    return _Reading(docs.described, docs.document, [w.path for s in app.services for w in s.websockets]).api()


class _Reading:
    def __init__(self, described: Iterable[Described], document: dict[str, Any], sockets: list[str]) -> None:
        self._shown = [each for each in described if not each.operation.policies.hidden]
        self._document, self._sockets = document, sockets
        self._problems = problems.kinds(self._shown, document)
        self._events = _EventSchemas(self._shown)
        components = {**document["components"]["schemas"], **self._events.components}
        kept = {key: schema for key, schema in components.items() if key not in PROBLEM_SCHEMAS}
        keys = [(key, schema.get("title", key)) for key, schema in sorted(kept.items())]
        groups = {naming.pascal(each.operation.service) for each in self._shown}
        taken = {*RESERVED, *(kind.name for kind in self._problems.values())}
        taken |= {f"{prefix}{group}Api" for group in groups for prefix in ("", "Async")}
        self._schemas = SchemaReader(kept, naming.type_names(keys, taken))
        self._notes: list[str] = []

    def api(self) -> Api:
        """Everything, in the order of the document."""
        security = self._document["components"].get("securitySchemes", {}).values()
        groups = tuple(self._groups())
        self._note_sockets()
        return Api(
            title=self._document["info"]["title"],
            version=self._document["info"]["version"],
            types=self._schemas.declared(),
            groups=groups,
            problems=tuple(self._problems.values()),
            bearer=any(scheme.get("scheme") == "bearer" for scheme in security),
            api_key_header=next((s["name"] for s in security if s.get("in") == "header"), ""),
            notes=tuple(self._notes),
        )

    def _groups(self) -> Iterator[Group]:
        names = dict.fromkeys(each.operation.service for each in self._shown)
        for name in names:
            calls: dict[str, Call] = {}
            for each in self._shown:
                if each.operation.service == name:
                    call = self._call(each, calls)
                    calls[call.name] = call
            yield Group(name=name, calls=tuple(calls.values()))

    def _call(self, each: Described, taken: Iterable[str]) -> Call:
        operation = each.operation
        path = re.sub(r"\{(\w+):path\}", r"{\1}", operation.path)
        member = self._document["paths"][path][operation.method.lower()]
        local = operation.name.removeprefix(f"{operation.service}.")
        return Call(
            name=naming.unique(naming.snake(local), list(taken)),
            method=operation.method,
            path=path,
            about=inspect.cleandoc(operation.fn.__doc__ or "") or member["summary"] + ".",
            result=self._result(each, member),
            parameters=tuple(self._parameters(each, member)),
            body=self._body(each, member),
            keyed=bool(operation.policies.idempotent),
            problems=tuple(self._problems[error.kind].name for error in problems.declared(each)),
            access=member.get("x-access", ""),
            deprecated=bool(member.get("deprecated")),
        )

    def _parameters(self, each: Described, member: dict[str, Any]) -> Iterator[Parameter]:
        for found in member.get("parameters", ()):
            name, schema = found["name"], found["schema"]
            if each.operation.policies.idempotent and name.lower() == "idempotency-key":
                continue  # the client makes it
            yield Parameter(
                wire=name,
                place=found["in"],
                type=self._schemas.read(schema),
                required=found["required"],
                about=found.get("description", ""),
                default=schema.get("default", NOTHING),
                slashes=f"{{{name}:path}}" in each.operation.path,
            )

    def _body(self, each: Described, member: dict[str, Any]) -> Body | None:
        body = member.get("requestBody")
        if body is None:
            return self._raw(each)
        media, content = next(iter(body["content"].items()))
        bodies = [param for param in each.params if param.place == "body"]
        schema: Schema = content["schema"]
        if media == JSON and len(bodies) == 1:
            field = Field(
                wire=bodies[0].name,
                type=self._schemas.read(schema),
                required=body["required"],
                about=body.get("description", ""),
            )
            return Body(kind="json", fields=(field,), required=body["required"])
        kind: Literal["members", "multipart", "form"] = "multipart" if media == MULTIPART else "form"
        kind = "members" if media == JSON else kind
        return Body(kind=kind, fields=self._schemas.fields(schema), required=body["required"])

    def _raw(self, each: Described) -> Body | None:
        """What reads its request by itself may read a body that no declaration tells of."""
        reads = any(Request in members(hint) for hint in hints_of(each.operation.fn).values())
        if not reads or each.operation.method not in _BODY_METHODS:
            return None
        self._notes.append(
            f"{each.operation.name} reads its request by itself, so what it expects is not declared: "
            "its method takes the body as bytes."
        )
        return Body(kind="raw", required=False)

    def _result(self, each: Described, member: dict[str, Any]) -> Result:
        success = next(response for status, response in member["responses"].items() if status < "4")
        content: dict[str, Any] = success.get("content", {})
        if "text/event-stream" in content:
            return Result(kind="events", type=self._event_type(each))
        if JSON in content:
            return self._json(each, content[JSON]["schema"])
        if "Location" in success.get("headers", {}):
            return Result(kind="location")
        own = content or each.returns is not None
        return Result(kind="download" if own and not _is_bodiless(each) else "nothing")

    def _json(self, each: Described, schema: Schema) -> Result:
        if not schema:
            self._notes.append(f"{each.operation.name} does not say what it returns: its result has no type.")
        return Result(kind="json", type=self._schemas.read(schema), item=self._item(schema))

    def _item(self, schema: Schema) -> Any:
        """Of one item, when the schema is that of a page: ``items``, and ``next`` with a link or null."""
        fields = {field.wire: field for field in self._schemas.fields(self._schemas.resolve(schema))}
        items, following = fields.get("items"), fields.get("next")
        if items and following and isinstance(items.type, Many) and nullable(following.type):
            return items.type.item
        return None

    def _event_type(self, each: Described) -> Any:
        schema = self._events.of(each)
        if schema is None:
            self._notes.append(
                f"{each.operation.name} does not say what its events are: their data has no type."
            )
            return ANY
        return self._schemas.read(schema)

    def _note_sockets(self) -> None:
        for path in self._sockets:
            self._notes.append(
                f"{path} is a WebSocket, which has no declared messages: the client leaves it out."
            )


class _EventSchemas:
    """Schemas of the events of streams, for which OpenAPI 3.1 has no words."""

    def __init__(self, shown: Iterable[Described]) -> None:
        self._types = {each.operation.name: type_ for each in shown if (type_ := _event(each)) is not None}
        schemas = Schemas([], self._types.values())
        self._found = {name: schemas.of(type_) for name, type_ in self._types.items()}
        self.components = schemas.prune(list(self._found.values()))

    def of(self, each: Described) -> Schema | None:
        return self._found.get(each.operation.name)


def _event(each: Described) -> Any:
    returns = each.returns
    return get_args(returns)[0] if get_origin(returns) is EventStream else None


def _is_bodiless(each: Described) -> bool:
    from tenfold.http.encoding import BODILESS, success_status

    return each.returns is None or success_status(each.operation) in BODILESS
