"""What problem documents look like in the OpenAPI document, and which of them an operation can answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tenfold import errors
from tenfold.errors import Problem

MEDIA_TYPE = "application/problem+json"

_REF = "#/components/schemas/"

_PROBLEM: dict[str, Any] = {
    "title": "ProblemDetails",
    "description": "An RFC 9457 problem document.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "Names the kind of problem; stable, for programs."},
        "title": {"type": "string", "description": "The kind of problem in words."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What happened and what to do, for people."},
        "instance": {"type": "string", "description": "The request that met the problem."},
        "limit": {"type": "string", "description": "Of a refusal: the limit that was met."},
        "value": {"description": "What that limit is."},
        "retry_after_s": {
            "type": "integer",
            "description": "When to come back; missing where that does not help.",
        },
    },
    "required": ["type", "title", "status", "detail"],
}

_FIELD_ERROR: dict[str, Any] = {
    "title": "WrongField",
    "description": "One wrong field.",
    "type": "object",
    "properties": {
        "in": {
            "type": "string",
            "description": "Part of the request: path, query, header, cookie, body, form, file.",
        },
        "path": {"type": "string", "description": "Where in that part, as lines[2].quantity."},
        "message": {"type": "string"},
    },
    "required": ["in", "path", "message"],
}

_INVALID_INPUT: dict[str, Any] = {
    "title": "InvalidInputDetails",
    "description": "Well-formed input with wrong values; every wrong field is listed.",
    "allOf": [
        {"$ref": f"{_REF}ProblemDetails"},
        {
            "type": "object",
            "properties": {"errors": {"type": "array", "items": {"$ref": f"{_REF}WrongField"}}},
        },
    ],
}

PROBLEM_SCHEMAS: dict[str, dict[str, Any]] = {
    "InvalidInputDetails": _INVALID_INPUT,
    "ProblemDetails": _PROBLEM,
    "WrongField": _FIELD_ERROR,
}

_MEANINGS = {
    400: "The request is malformed.",
    401: "The credential is missing, forged or expired.",
    403: "The caller may not do this.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    409: "It conflicts with the state of things, or a request with the same key is being worked on.",
    413: "The body is too large.",
    414: "The address is too long.",
    415: "The body has the wrong content type.",
    422: "The input is well-formed but has wrong values.",
    429: "Too many requests; try again after Retry-After seconds.",
    431: "The request headers are too large.",
    503: "The service is busy or a part of it is down; try again.",
    504: "The deadline passed before the work was done.",
}

_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    409: {"Retry-After": {"schema": {"type": "integer"}}},
    429: {
        "Retry-After": {"schema": {"type": "integer"}},
        "RateLimit": {"schema": {"type": "string"}},
        "RateLimit-Policy": {"schema": {"type": "string"}},
    },
    503: {"Retry-After": {"schema": {"type": "integer"}}},
}


def problem_responses(
    statuses: Iterable[int], declared: Iterable[type[Problem]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Status and response for each; what an operation declares speaks with its own docstring."""
    own: dict[int, list[str]] = {}
    for error in declared:
        own.setdefault(error.status, []).append(_meaning(error))
    for status in statuses:
        name = "InvalidInputDetails" if status == 422 else "ProblemDetails"
        response: dict[str, Any] = {
            "description": " ".join(own.get(status, ())) or _MEANINGS.get(status) or _title(status),
            "content": {MEDIA_TYPE: {"schema": {"$ref": _REF + name}}},
        }
        if status in _HEADERS:
            response["headers"] = _HEADERS[status]
        yield str(status), response


def _meaning(error: type[Problem]) -> str:
    own = error.__doc__ if "__doc__" in vars(error) else None
    return " ".join((own or "").partition("\n\n")[0].split()) or _MEANINGS.get(
        error.status, f"{error.title}."
    )


def _title(status: int) -> str:
    titles = {kind.status: kind.title for kind in vars(errors).values() if _is_problem(kind)}
    return f"{titles.get(status, 'Problem')}."


def _is_problem(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Problem) and kind is not Problem
