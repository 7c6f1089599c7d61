"""Sends a real request to the app that runs in this process: through every step that a client's goes through.

The request does not cross the network: it begins where the server hands over. It is always traced.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import msgspec

from tenfold.errors import InvalidInput

if TYPE_CHECKING:
    from tenfold.app import App

BODY_SHOWN: Final = 100_000
"""Characters of an answer's body that are shown."""
STREAM_S: Final = 5.0
"""How long an answer that has begun is read. A stream of events may have no end; what came until then is shown."""
SAMPLE_DEPTH: Final = 6
_BLANK: Final = re.compile(r"\{(\w+)(?::[^}]*)?\}")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Sent(msgspec.Struct):
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: str
    size: int
    seconds: float
    trace_id: str


class Parameter(msgspec.Struct):
    """A parameter of the path or the query."""

    name: str
    where: str
    """``path`` or ``query``."""
    required: bool
    sample: str = ""
    about: str = ""


# ── what to fill in ───────────────────────────────────────────────────────────────────────────────


def described(document: Mapping[str, Any], method: str, path: str) -> Mapping[str, Any]:
    """The operation in the app's OpenAPI document; empty for one that is hidden there."""
    plain = _BLANK.sub(r"{\1}", path)
    found: Mapping[str, Any] = document.get("paths", {}).get(plain, {}).get(method.lower(), {})
    return found


def parameters(said: Mapping[str, Any], path: str) -> list[Parameter]:
    """Those of the path in its order, then those of the query."""
    declared = {
        each["name"]: each for each in said.get("parameters", ()) if each.get("in") in ("path", "query")
    }
    blanks = _BLANK.findall(path)
    rest = [name for name, each in declared.items() if each["in"] == "query"]
    return [
        Parameter(
            name,
            "path" if name in blanks else "query",
            name in blanks or bool(declared.get(name, {}).get("required")),
            _written(declared.get(name, {}).get("schema", {}).get("default", "")),
            declared.get(name, {}).get("description", ""),
        )
        for name in (*blanks, *rest)
    ]


def sample_body(document: Mapping[str, Any], said: Mapping[str, Any]) -> str | None:
    """JSON of the right shape to begin from; None for operations that take no JSON."""
    content = said.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema")
    if schema is None:
        return None
    schemas = document.get("components", {}).get("schemas", {})
    return msgspec.json.format(msgspec.json.encode(sample(schema, schemas)), indent=2).decode()


def sample(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int = 0) -> Any:
    """A value of a JSON Schema: its example or default where it says one, else the plainest."""
    if "$ref" in schema:
        found = schemas.get(str(schema["$ref"]).rpartition("/")[2], {})
        return sample(found, schemas, depth + 1) if depth < SAMPLE_DEPTH else None
    if given := schema.get("examples"):
        return given[0]
    for key in ("example", "default", "const"):
        if key in schema:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return sample(schema[key][0], schemas, depth + 1)
    return _plain(schema, schemas, depth)


def _plain(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "object":
            members = schema.get("properties", {})
            return (
                {n: sample(s, schemas, depth + 1) for n, s in members.items()} if depth < SAMPLE_DEPTH else {}
            )
        case "array":
            return [sample(schema.get("items", {}), schemas, depth + 1)] if depth < SAMPLE_DEPTH else []
        case "integer":
            return schema.get("minimum", 1)
        case "number":
            return schema.get("minimum", 1.0)
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return ""


def _written(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else msgspec.json.encode(value).decode()


# ── sending ───────────────────────────────────────────────────────────────────────────────────────


def filled(path: str, given: Mapping[str, str]) -> str:
    """The path with its blanks filled in. Raises InvalidInput for one that is empty."""

    def fill(found: re.Match[str]) -> str:
        value = given.get(found[1], "")
        if not value:
            raise InvalidInput(f"The path needs {found[1]}.")
        return quote(value, safe="/" if ":path" in found[0] else "")

    return _BLANK.sub(fill, path)


def headers_of(text: str) -> list[tuple[str, str]]:
    """One header a line: ``Name: value``. Raises InvalidInput for what is none."""
    found: list[tuple[str, str]] = []
    for line in filter(str.strip, text.splitlines()):
        name, colon, value = line.partition(":")
        if not colon or not _HEADER.fullmatch(name.strip()):
            raise InvalidInput(f"{line.strip()[:40]!r} is no header: write Name: value.")
        found.append((name.strip(), value.strip()))
    return found


async def send(
    app: App,
    method: str,
    path: str,
    *,
    query: Sequence[tuple[str, str]] = (),
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
) -> Sent:
    """One request and its whole answer. Raises what the app itself raises, which is nothing but cancellation."""
    tracer = app.assembly.telemetry.tracer
    trace_id = f"{tracer.bits(128) or 1:032x}"
    raw = [
        (b"host", b"dashboard"),
        (b"content-length", b"%d" % len(body)),
        (b"traceparent", f"00-{trace_id}-{tracer.span_id()}-01".encode()),
        *(
            (name.lower().encode("latin-1", "replace"), value.encode("latin-1", "replace"))
            for name, value in headers
        ),
    ]
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": urlencode(query).encode(),
        "root_path": "", "headers": raw, "client": ("127.0.0.1", 0), "server": ("dashboard", 80), "state": {},
    }  # fmt: skip
    answer = _Answer(body)
    started = app.clock.monotonic()
    try:
        await app(scope, answer.receive, answer.send)
    finally:
        answer.seen.set()
    seconds = app.clock.monotonic() - started
    shown = answer.body.decode("utf-8", "replace")
    return Sent(answer.status, answer.headers, shown[:BODY_SHOWN], len(answer.body), seconds, trace_id)


class _Answer:
    """Both ends of an ASGI exchange."""

    def __init__(self, body: bytes) -> None:
        self.status, self.headers, self.body = 0, list[tuple[str, str]](), bytearray()
        self._body: bytes | None = body
        self.seen = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        body, self._body = self._body, None
        if body is None:  # asked again, to learn when the client goes away: it does when it has seen enough
            await self.seen.wait()
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in message.get("headers", ())]
            asyncio.get_running_loop().call_later(STREAM_S, self.seen.set)
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            if len(self.body) >= BODY_SHOWN * 4 or not message.get("more_body", False):
                self.seen.set()
