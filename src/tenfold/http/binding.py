"""Code that turns a request into the handler's arguments: the decode step.

Scalars of path, query, headers and cookies are gathered in one dict and converted by one msgspec call; a JSON
body is decoded straight into its type. When either fails, the collector looks at everything again, slowly, and
reports every wrong field.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import msgspec

from tenfold.errors import BadRequest, DeclarationError, UnsupportedMedia
from tenfold.http import limits
from tenfold.http.adapters import Codec
from tenfold.http.collect import Collector, Inputs
from tenfold.http.wire import PERCENT, PLUS, BadText, Values, parse_query, text_of

if TYPE_CHECKING:
    from tenfold.http.build import Build, Code
    from tenfold.http.params import Param
    from tenfold.http.request import Request

DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoders raise for wrong input: msgspec, bad UTF-8 and Pydantic (ValueErrors), too deep."""

NOTHING: Values = {}

INPUT_PLACES = ("path", "query", "header", "cookie", "form")


def write(build: Build) -> None:
    """The step: after it, ``build.arguments`` has an expression for every parameter of the request."""
    inputs = build.in_(*INPUT_PLACES)
    bodies = build.in_("body")
    files = build.in_("file")
    if not (inputs or bodies or files):
        return
    if bodies and (files or build.in_("form")):
        raise DeclarationError(
            "it takes a JSON body and form fields; a request has one or the other.",
            where=build.operation.where,
            remedy="Mark its models Form() or make all of it JSON.",
        )
    collector = _collector(build, inputs, bodies)
    build.code.use(explain=collector.explain, DECODE_ERRORS=DECODE_ERRORS)
    if inputs:
        build.code.line("raw = {}")
    _gather(build, inputs)
    if bodies:
        _read_json(build)
    elif files or build.in_("form"):
        _read_form(build)
    _convert(build, collector, inputs, bodies)
    _uploads(build, files)


def _collector(build: Build, inputs: list[Param], bodies: list[Param]) -> Collector:
    where = build.operation.where
    codec = _codec(build, bodies) if bodies else None
    struct = Inputs.of(inputs, where=where)
    return Collector(struct, codec, build.wiring.settings.json_max_depth)


def _codec(build: Build, bodies: list[Param]) -> Codec:
    reject = build.operation.policies.unknown_fields == "reject"
    type_ = bodies[0].type if len(bodies) == 1 else _embedded(bodies)
    return Codec(type_, reject_unknown=reject, where=build.operation.where)


def _embedded(bodies: list[Param]) -> type[Any]:
    """Several bodies are the members of one object."""
    fields = [(p.name, p.type) if p.required else (p.name, p.type, _field_default(p.default)) for p in bodies]
    return msgspec.defstruct("Body", fields, rename={p.name: p.wire for p in bodies}, kw_only=True)


def _field_default(value: Any) -> Any:
    return msgspec.field(default_factory=lambda: value) if isinstance(value, (list, dict, set)) else value


# ── gathering ─────────────────────────────────────────────────────────────────────────────────────


def _gather(build: Build, inputs: list[Param]) -> None:
    code = build.code
    for param in inputs:
        if param.place == "path":
            code.line(f"raw[{param.name!r}] = request.segments[{build.path_names.index(param.wire)}]")
    if queries := [p for p in inputs if p.place == "query"]:
        code.use(read_query=_query_reader(build.wiring.settings.query_max_params), NOTHING=NOTHING)
        code.line("query = read_query(request.query_string) if request.query_string else NOTHING")
        for param in queries:
            _take(code, param, "query")
    if cookies := [p for p in inputs if p.place == "cookie"]:
        code.use(NOTHING=NOTHING)
        code.line("cookies = request.cookies if b'cookie' in request.header_bytes else NOTHING")
        for param in cookies:
            _take(code, param, "cookies")
    for param in inputs:
        if param.place == "header":
            _take_header(code, param)


def _take(code: Code, param: Param, source: str) -> None:
    name = param.name
    if param.spread:
        code.use(**{f"fields_of_{name}": Inputs.fields_of(param.type), "pick": pick})
        code.use(**{f"nullable_of_{name}": Inputs.nullable_of(param.type)})
        code.line(f"raw[{name!r}] = pick({source}, fields_of_{name}, nullable_of_{name})")
        return
    code.line(f"if {param.wire!r} in {source}:")
    if param.many:
        code.line(
            f"    value = {source}[{param.wire!r}]",
            f"    raw[{name!r}] = value if value.__class__ is list else [value]",
        )
    else:
        code.line(f"    raw[{name!r}] = {source}[{param.wire!r}]")


def _take_header(code: Code, param: Param) -> None:
    wire = param.wire.encode("latin-1")
    code.use(header_text=header_text)
    value = f"header_text(request, {wire!r})"
    if param.many:
        value = f"[item.strip() for item in {value}.split(',')]"
    code.line(f"if {wire!r} in request.header_bytes: raw[{param.name!r}] = {value}")


def header_text(request: Request, name: bytes) -> str:
    """A header's value as UTF-8 text. Raises BadRequest."""
    try:
        return text_of(request.header_bytes[name])
    except BadText as error:
        raise BadRequest(f"The header {name.decode('latin-1')} {error}") from None


NO_NULL: Any = object()
"""Stands for the text ``null``, so that it fits no type: text has no null, and msgspec would make None of it."""


def pick(source: Values, fields: dict[str, bool], nullable: frozenset[str]) -> Values:
    """The members of a model out of a query or form; ``fields`` tells which of them are lists, ``nullable`` for
    which the text ``null`` is to be refused."""
    picked: Values = {}
    for name, many in fields.items():
        if name in source:
            value = source[name]
            if name in nullable and isinstance(value, str) and value.lower() == "null":
                value = NO_NULL
            picked[name] = [value] if many and isinstance(value, str) else value
    return picked


def _query_reader(max_params: int) -> Any:
    def read_query(raw: bytes) -> Values:
        if len(raw) > limits.URI_MAX_BYTES:
            raise limits.uri_too_long("query string", len(raw))
        if PERCENT in raw or PLUS in raw:
            if raw.count(b"&") >= max_params:
                raise too_many(max_params)
            return decoded_query(raw)
        # The usual query string, in as few calls as can be: this runs for every request that has one.
        try:
            pairs = raw.decode().split("&", max_params)
        except UnicodeDecodeError:
            return decoded_query(raw)
        if pairs[max_params:]:  # a slice, for it is no call
            raise too_many(max_params)
        values: Values = {}
        for pair in pairs:
            name, _, value = pair.partition("=")
            if name in values or "\x00" in value:
                return decoded_query(raw)
            values[name] = value
        return values

    return read_query


def decoded_query(raw: bytes) -> Values:
    """Any query string. Raises BadRequest for text that is not UTF-8."""
    try:
        return parse_query(raw)
    except BadText as error:
        raise BadRequest(f"The query string {error}") from None


def too_many(max_params: int) -> BadRequest:
    return BadRequest(f"The query string has more than {max_params:,} parameters, the most that are read.")


# ── bodies ────────────────────────────────────────────────────────────────────────────────────────


def _read_json(build: Build) -> None:
    code = build.code
    code.use(check_json=check_json, read_body=limits.read_body)
    # What makes a key's fingerprint reads the body again, so there the request keeps it.
    keep = build.operation.policies.idempotent
    once = "await read_body(request) if request._body is None else request._body"
    code.line(
        f"body = {'await request.body()' if keep else once}",
        "headers = request.header_bytes",
        "if body and (b'content-type' not in headers or headers[b'content-type'] != b'application/json'",
        "    or b'content-encoding' in headers):",
        "    check_json(request)",
    )


def check_json(request: Request) -> None:
    """Raises UnsupportedMedia (415) unless the content type is JSON, in UTF-8, and not compressed."""
    check_encoding(request)
    kind = request.content_type
    charset = request.headers.get("content-type", "").lower().partition("charset=")[2].strip(' "')
    if charset and charset not in ("utf-8", "utf8"):
        raise UnsupportedMedia(f"The body is in {charset!r}; JSON is read as UTF-8 only.")
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return
    raise UnsupportedMedia(
        f"This operation takes application/json, not {kind or 'a body without Content-Type'}.",
        headers={"Accept": "application/json"},
    )


def check_encoding(request: Request) -> None:
    """Raises UnsupportedMedia (415) for a compressed body: a few bytes may stand for gigabytes."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedMedia(
            f"The body is encoded with {encoding!r}; send it as it is.",
            headers={"Accept-Encoding": "identity"},
        )


def _read_form(build: Build) -> None:
    from tenfold.http.forms import FormLimits, parse_form

    settings = build.wiring.settings
    total = build.operation.policies.body_max_bytes or settings.upload_max_bytes
    code = build.code
    if build.operation.policies.idempotent:
        # The form is read as it arrives, and its key is for these bytes: keep them for the fingerprint.
        code.line("if b'idempotency-key' in headers: await request.body()")
    bounds = FormLimits(total_max_bytes=total, memory_max_bytes=min(total, settings.body_max_bytes))
    code.use(read_form=parse_form, form_limits=bounds, flat=flat)
    code.use(check_encoding=check_encoding, hold_form=limits.hold_form)
    code.line(
        "if b'content-encoding' in headers: check_encoding(request)",
        f"await hold_form(request, {bounds.memory_max_bytes})",
        "form = await read_form(request.header_bytes.get(b'content-type', b'').decode('latin-1'), "
        "request.stream(), form_limits)",
    )
    code.open("try:", "finally:", " form.close()")
    if fields := build.in_("form"):
        code.line("fields = flat(form.fields)")
        for param in fields:
            _take(code, param, "fields")


def flat(fields: dict[str, list[str]]) -> Values:
    """Single values by themselves, repeated ones as lists."""
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


def _uploads(build: Build, files: list[Param]) -> None:
    for param in files:
        build.code.use(uploads_of=uploads_of)
        build.code.use(**{f"default_of_{param.name}": param.default})
        name = build.arguments[param.name] = f"upload_{param.name}"
        build.code.line(f"{name} = uploads_of(form, {param.wire!r}, {param.many}, default_of_{param.name})")


def uploads_of(form: Any, name: str, many: bool, default: Any) -> Any:
    """The file or files of a form. Raises MalformedBody when a required one is missing."""
    from tenfold.errors import FieldError, InvalidInput

    found = form.uploads.get(name, [])
    if many and (found or default is inspect.Parameter.empty):
        return found
    if len(found) == 1:
        return found[0]
    if not found and default is not inspect.Parameter.empty:
        return default
    sentence = "is required: send a file." if not found else f"takes one file, not {len(found)}."
    raise InvalidInput(errors=[FieldError(in_="form", path=name, message=sentence)])


# ── converting ────────────────────────────────────────────────────────────────────────────────────


def _convert(build: Build, collector: Collector, inputs: list[Param], bodies: list[Param]) -> None:
    code = build.code
    raw = "raw" if inputs else "None"
    optional = bool(bodies) and all(not p.required for p in bodies)
    body = "body or None" if optional else "body" if bodies else "None"
    steps: list[str] = []
    if inputs:
        code.use(convert=msgspec.convert, Inputs=collector.inputs.struct)
        steps.append("inputs = convert(raw, Inputs, strict=False)")
        for name, adapter in collector.inputs.adapters.items():
            code.use(**{f"adapt_{name}": adapter.validate_python})
            steps.append(f"input_{name} = adapt_{name}(raw[{name!r}])")
    codec = collector.codec
    if codec is not None:
        code.use(decode_body=codec.decode)
        steps.append("payload = decode_body(body)")
        if codec.check is not None:
            code.use(check_body=codec.check)
            steps.append("check_body(body)")
    if optional:
        code.use(no_payload=collector.defaults(bodies))
        steps = [s for s in steps if "body" not in s] + [
            "if not body: payload = no_payload",
            "else:",
            *("    " + s for s in steps if "body" in s),
        ]
    if not steps:
        return  # files only: nothing is converted
    attempt = ["try:", *("    " + s for s in steps), "except DECODE_ERRORS as error:"]
    refuse = f"    raise explain({raw}, {body}, error) from None"
    code.line(*attempt)
    if codec is not None:
        code.use(integers=collector.integers)
        code.line("    whole = integers(body)", f"    if whole is body: {refuse.strip()}", "    body = whole")
        code.line(*("    " + line for line in (*attempt, refuse)))
    else:
        code.line(refuse)
    if codec is not None:
        suspicious = "True" if codec.walk else "b'\\\\u0000' in body"
        code.line(
            f"if {suspicious}:",
            f"    problem = explain({raw}, body, None)",
            "    if problem is not None: raise problem",
        )
    for param in inputs:
        adapted = param.name in collector.inputs.adapters
        build.arguments[param.name] = f"input_{param.name}" if adapted else f"inputs.{param.name}"
    for param in bodies:
        build.arguments[param.name] = "payload" if len(bodies) == 1 else f"payload.{param.name}"
