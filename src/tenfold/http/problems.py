"""Any exception as a problem document (RFC 9457). What is not foreseen is logged whole and told as little."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from tenfold.errors import (
    ConfigError,
    DependencyUnavailable,
    IntegrityError,
    InternalError,
    Problem,
    TenfoldError,
)
from tenfold.http.adapters import encode_json
from tenfold.http.reply import Headers, Response, header

if TYPE_CHECKING:
    from tenfold.http.reply import Answer

log = logging.getLogger("tenfold.http")

PROBLEM_JSON = (b"content-type", b"application/problem+json")

_TITLES = {
    404: ("Not Found", "not-found"),
    409: ("Conflict", "conflict"),
    422: ("Unprocessable Content", "invalid-input"),
    502: ("Bad Gateway", "bad-gateway"),
    503: ("Service Unavailable", "unavailable"),
    504: ("Gateway Timeout", "deadline-exceeded"),
}
_SENTENCES = {
    422: "A value is too long, out of range, or has a character that cannot be kept.",
    404: "What was asked for does not exist.",
    502: "A part that this operation needs gave an answer that cannot be used.",
    503: "A part that this operation needs is not available now; try again later.",
    504: "A part that this operation needs did not answer in time.",
}


def problem_of(error: BaseException) -> Problem:
    """The problem that ``error`` is to a client.

    Problems are themselves. Other Tenfold errors have a status but were written for developers (they name
    tables and columns), so the client gets a plain sentence. Everything else is an InternalError.
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, BaseExceptionGroup):
        return _of_group(error)
    if isinstance(error, TenfoldError) and not isinstance(error, ConfigError) and error.status in _TITLES:
        return _foreseen(error)
    return InternalError("Something went wrong here; it was logged. Quote request_id when you report it.")


def _of_group(group: BaseExceptionGroup[BaseException]) -> Problem:
    """A TaskGroup wraps what its tasks raise. What they have to tell the client counts if that is all there is;
    the first of the worst, since one of them fails the whole."""
    found = [problem_of(error) for error in group.exceptions]
    return max(found, key=lambda problem: problem.status)


def problem_with(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """A problem of any status, titled as HTTP calls it."""
    title = HTTPStatus(status).phrase
    kind = title.lower().replace(" ", "-")
    shown: type[Problem] = type(
        title.replace(" ", ""), (Problem,), {"title": title, "kind": kind, "status": status}
    )
    return shown("" if detail == title else detail, headers=headers)


def _foreseen(error: TenfoldError) -> Problem:
    title, kind = _TITLES[error.status]
    shown: type[Problem] = type(
        title.replace(" ", ""), (Problem,), {"title": title, "kind": kind, "status": error.status}
    )
    extra: dict[str, Any] = {}
    if isinstance(error, IntegrityError) and error.columns:
        extra["fields"] = list(error.columns)
        detail = f"The values of {' and '.join(error.columns)} conflict with what exists."
    else:
        detail = _SENTENCES.get(error.status, "The change conflicts with what exists.")
    if error.status in (503, 504):
        seconds = _retry_after_s(error)
        if isinstance(error, DependencyUnavailable) and error.limit:
            extra["limit"] = error.limit
        return shown(detail, headers={"Retry-After": str(seconds)}, **extra)
    return shown(detail, **extra)


def _retry_after_s(error: TenfoldError) -> int:
    wait_s = error.retry_after_s if isinstance(error, DependencyUnavailable) else 1
    return max(1, math.ceil(wait_s))


def answer_of(problem: Problem, *, request_id: str = "", instance: str = "") -> Answer:
    """Status, headers and body of a problem, ready to be sent."""
    document = problem.document(instance)
    if request_id:
        document["request_id"] = request_id
    body = _encoded(document)
    headers: Headers = [PROBLEM_JSON, (b"content-length", b"%d" % len(body))]
    headers += [_safe_header(name, value) for name, value in problem.headers.items()]
    return problem.status, headers, body, None


def problem_response(problem: Problem, *, instance: str = "") -> Response:
    """The same as a :class:`Response`, for parts that answer outside of the pipeline."""
    status, headers, body, _ = answer_of(problem, instance=instance)
    response = Response(body, status)
    response.headers = headers
    return response


def _encoded(document: dict[str, Any]) -> bytes:
    try:
        return encode_json(document)
    except (TypeError, NotImplementedError, UnicodeEncodeError, msgspec.MsgspecError):
        # A member that a handler added cannot be written; the answer matters more than that member.
        plain = {name: value for name, value in document.items() if isinstance(value, (str, int))}
        return encode_json({name: _clean(value) for name, value in plain.items()})


def _clean(value: str | int) -> str | int:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _safe_header(name: str, value: str) -> tuple[bytes, bytes]:
    printable = "".join(c if " " <= c <= "~" else " " for c in value)
    return header(name, printable)
