"""Code that turns a handler's result into an answer: the encode step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, get_args, get_origin

import msgspec

from tenfold._core.container import hints_of
from tenfold.errors import DeclarationError
from tenfold.http.adapters import encode_json
from tenfold.http.reply import Headers, Reply, Response, StreamingResponse, final
from tenfold.http.types import is_pydantic, members

if TYPE_CHECKING:
    from tenfold.http.build import Build
    from tenfold.http.operation import Operation
    from tenfold.http.reply import Answer
    from tenfold.http.request import Request

JSON_TYPE = (b"content-type", b"application/json")
PLAIN_TYPE: tuple[bytes, bytes] = tuple([*JSON_TYPE])  # type: ignore[assignment]  # noqa: C409 - a new object
"""Begins the headers that the encode step writes for a plain value, so that entries recognise them by identity. Behind
it stand the length, what later steps add for this one answer, and the edge's fixed headers (:func:`with_headers`)."""
BODILESS = frozenset({204, 304})
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


def write(build: Build) -> None:
    """The step: turns ``result`` into ``answer``."""
    code, operation = build.code, build.operation
    status = _checked(success_status(operation), operation.where)
    if model := operation.policies.response_model:
        code.use(to_model=converter(model))
        code.line("if not isinstance(result, (Reply, Response)): result = to_model(result)")
        code.use(Reply=Reply, Response=Response)
    if is_plain(operation):
        code.use(encode_json=encode_json, PLAIN_TYPE=PLAIN_TYPE)
        edge = build.wiring.edge
        fixed = ["*EDGE"] if edge is not None and edge.headers else []
        headers = ", ".join(["PLAIN_TYPE", "(b'content-length', b'%d' % len(body))", *build.headers, *fixed])
        code.line("body = encode_json(result)", f"answer = ({status}, [{headers}], body, None)")
    else:
        code.use(answer_of_result=answer_of_result, prepared=prepared)
        code.line(
            f"answer = answer_of_result(result, {status})",
            "if answer[3] is not None: answer = await prepared(answer[3], request)",
        )
    if operation.policies.etag and operation.policies.cache is None:
        code.use(with_etag=with_etag)
        code.line("answer = with_etag(request, answer)")


def _checked(status: int, where: str) -> int:
    try:
        return final(status)
    except ValueError as error:
        raise DeclarationError(f"status={error}", where=where) from None


def success_status(operation: Operation[..., Any]) -> int:
    """The declared status; 204 for a handler that returns nothing, else 200."""
    if operation.policies.status is not None:
        return operation.policies.status
    return 204 if hints_of(operation.fn).get("return", Any) in (None, type(None)) else 200


def return_type(operation: Operation[..., Any]) -> Any:
    """The annotation of the result, Any without one."""
    return hints_of(operation.fn).get("return", Any)


def is_plain(operation: Operation[..., Any]) -> bool:
    """Whether the encode step writes the answer as it is, without a look at the result."""
    return _promises_value(return_type(operation)) and success_status(operation) not in BODILESS


def _promises_value(result: Any) -> bool:
    """Whether the annotation promises a value to be encoded, so that no look at the result is needed."""
    if result is Any:
        return False
    for member in members(result):
        kind = get_origin(member) or member
        if kind is Any or (
            isinstance(kind, type) and issubclass(kind, (Reply, Response, object)) and _replies(kind)
        ):
            return False
    return True


def _replies(kind: type[Any]) -> bool:
    return kind is object or issubclass(kind, (Reply, Response))


def converter(model: Any) -> Callable[[Any], Any]:
    """Reduces a result to the fields of ``model``, from mappings or attributes."""
    if any(is_pydantic(part) for part in (model, *get_args(model))):
        from pydantic import TypeAdapter

        adapter: Any = TypeAdapter(model)
        return lambda value: adapter.validate_python(value, from_attributes=True)
    try:
        msgspec.json.Decoder(model)
    except TypeError as error:
        raise DeclarationError(f"response_model={model!r} cannot be encoded: {error}.") from None
    return lambda value: msgspec.convert(value, model, from_attributes=True)


def answer_of_result(result: Any, status: int) -> Answer:
    """The general case: a value, a Reply, a Response, or a streaming one."""
    headers: Headers = []
    if isinstance(result, Reply):
        status, headers, result = result.status or status, result.headers, result.value
    if isinstance(result, Response):
        return answer_of_response(result, headers)
    if status in BODILESS or (result is None and status == HTTPStatus.RESET_CONTENT):
        return status, unframed(headers), b"", None
    body = encode_json(result)
    return status, [JSON_TYPE, (b"content-length", b"%d" % len(body)), *unframed(headers)], body, None


def answer_of_response(response: Response, more: Headers) -> Answer:
    """A response as it is, with its length where it has one."""
    if isinstance(response, StreamingResponse):
        response.headers += more  # prepare() may still change them
        return response.status, response.headers, b"", response
    headers = [*unframed(response.headers), *unframed(more)]
    if response.status in BODILESS:
        return response.status, headers, b"", None
    body = response.body or b""
    headers.append((b"content-length", b"%d" % len(body)))
    return response.status, headers, body, None


def unframed(headers: Headers) -> Headers:
    """Without what tells where a body ends: only its bytes do. A client that believed otherwise would read the rest
    as the answer to its next request."""
    return [h for h in headers if h[0] not in _FRAMING]


async def prepared(stream: StreamingResponse, request: Request) -> Answer:
    """The answer of a stream once its head is settled: here, so that what it refuses is a problem like any other,
    and the status that is counted and logged is the one that is sent."""
    try:
        await stream.prepare(request)
    except BaseException:
        await stream.close()
        raise
    return stream.status, stream.headers, b"", stream


def with_headers(answer: Answer, *added: tuple[bytes, bytes]) -> Answer:
    """The answer with more headers, which end no connection, where the entries expect them of a plain one."""
    status, headers, body, stream = answer
    return status, [*headers[:2], *added, *headers[2:]], body, stream


# ── validators ────────────────────────────────────────────────────────────────────────────────────


def etag_of(body: bytes) -> bytes:
    """A strong validator: the same for the same bytes (RFC 9110 § 8.8.3)."""
    return b'"%s"' % hashlib.blake2b(body, digest_size=12).hexdigest().encode()


def matches(request: Request, etag: bytes) -> bool:
    """Whether ``If-None-Match`` names the representation that the client would get (weak comparison)."""
    wanted = request.header_bytes.get(b"if-none-match")
    if wanted is None:
        return False
    return wanted.strip() == b"*" or etag in [tag.strip().removeprefix(b"W/") for tag in wanted.split(b",")]


def with_etag(request: Request, answer: Answer) -> Answer:
    """Add an ETag to a successful GET; 304 when the client has that representation."""
    status, headers, body, stream = answer
    if stream is not None or status != 200 or request.method not in ("GET", "HEAD"):
        return answer
    etag = etag_of(body)
    headers = [*headers, (b"etag", etag)]
    return not_modified(headers) if matches(request, etag) else (status, headers, body, None)


def not_modified(headers: Headers) -> Answer:
    """304 with the headers that RFC 9110 § 15.4.5 wants kept."""
    kept = (b"etag", b"cache-control", b"vary", b"age", b"expires", b"content-location", b"set-cookie")
    return 304, [pair for pair in headers if pair[0] in kept], b"", None
