"""Answers for the client, as problem documents (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from tenfold.errors._start import TenfoldError


class FieldError(msgspec.Struct, frozen=True):
    """One wrong field: ``in_`` says which part of the request, ``path`` which field of it."""

    in_: str = msgspec.field(name="in")
    path: str
    message: str


class Problem(TenfoldError):
    """An RFC 9457 problem document. Raise a subclass in a handler to answer with it.

    ``detail`` is a sentence for the person who meets it; ``extra`` members are added to the document;
    ``headers`` to the response. Of a refusal by a limit these are ``limit``, its name, and ``value``; a header
    ``Retry-After`` in seconds is a member ``retry_after_s``, too.
    """

    title: ClassVar[str] = "Internal Server Error"
    kind: ClassVar[str] = "internal-error"

    def __init__(
        self,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        self.detail = detail or self.title
        self.headers = dict(headers or {})
        self.extra = extra
        super().__init__(self.detail)

    def document(self, instance: str = "") -> dict[str, Any]:
        """The members of the problem document, in the order of RFC 9457 § 3.1."""
        out: dict[str, Any] = {
            "type": f"urn:tenfold:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if instance:
            out["instance"] = instance
        out.update(self.extra)
        seconds = self.headers.get("Retry-After", "")
        if seconds.isdecimal():
            out.setdefault("retry_after_s", int(seconds))
        return out


class BadRequest(Problem):
    status, title, kind = 400, "Bad Request", "bad-request"


class MalformedBody(BadRequest):
    """The body is not what its content type says: broken JSON, bad UTF-8, a broken multipart."""

    kind = "malformed-body"


class Unauthorized(Problem):
    status, title, kind = 401, "Unauthorized", "unauthorized"


class InvalidToken(Unauthorized):
    """The credential is forged, malformed, revoked, or meant for somebody else."""

    kind = "invalid-token"


class ExpiredToken(InvalidToken):
    kind = "expired-token"


class Forbidden(Problem):
    status, title, kind = 403, "Forbidden", "forbidden"


class CallRefused(Forbidden):
    """A service called what it does not declare that it calls, or was not recognised as any service that does."""

    kind = "call-refused"


class NotFound(Problem):
    status, title, kind = 404, "Not Found", "not-found"


class MethodNotAllowed(Problem):
    status, title, kind = 405, "Method Not Allowed", "method-not-allowed"


class NotAcceptable(Problem):
    status, title, kind = 406, "Not Acceptable", "not-acceptable"


class RequestTimeout(Problem):
    status, title, kind = 408, "Request Timeout", "request-timeout"


class Conflict(Problem):
    status, title, kind = 409, "Conflict", "conflict"


class RequestInProgress(Conflict):
    """A request with the same Idempotency-Key is being worked on."""

    kind = "request-in-progress"


class VersionConflict(Conflict):
    """Somebody else has appended to the stream: it has the version ``actual``, not the one ``expected``."""

    kind = "version-conflict"

    def __init__(self, aggregate: str, stream: str, expected: int, actual: int) -> None:
        self.aggregate, self.stream, self.expected, self.actual = aggregate, stream, expected, actual
        wanted = "any version" if expected < 0 else f"version {expected}"
        super().__init__(
            f"{aggregate} {stream!r} was expected at {wanted} and is at {actual}: somebody else has appended to it. "
            "Load it again, and decide anew.",
            stream=stream,
            expected=expected,
            actual=actual,
        )


class Gone(Problem):
    status, title, kind = 410, "Gone", "gone"


class PreconditionFailed(Problem):
    status, title, kind = 412, "Precondition Failed", "precondition-failed"


class PayloadTooLarge(Problem):
    status, title, kind = 413, "Content Too Large", "content-too-large"


class UriTooLong(Problem):
    status, title, kind = 414, "URI Too Long", "uri-too-long"


class UnsupportedMedia(Problem):
    status, title, kind = 415, "Unsupported Media Type", "unsupported-media-type"


class RangeNotSatisfiable(Problem):
    status, title, kind = 416, "Range Not Satisfiable", "range-not-satisfiable"


class InvalidInput(Problem):
    """Well-formed input with wrong values; ``errors`` lists every wrong field, not only the first."""

    status, title, kind = 422, "Unprocessable Content", "invalid-input"

    def __init__(self, detail: str = "", errors: Sequence[FieldError] = (), **extra: Any) -> None:
        self.errors = tuple(errors)
        if self.errors:
            extra["errors"] = self.errors
        super().__init__(detail or _summary(self.errors), **extra)


def _summary(errors: Sequence[FieldError]) -> str:
    if not errors:
        return "The input is not valid."
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    where = f"{first.in_} {first.path}".strip()
    return f"{where}: {first.message}{more}"


class IdempotencyMismatch(InvalidInput):
    """The Idempotency-Key was used before with another request."""

    kind = "idempotency-mismatch"


class TooManyRequests(Problem):
    status, title, kind = 429, "Too Many Requests", "too-many-requests"


class HeadersTooLarge(Problem):
    status, title, kind = 431, "Request Header Fields Too Large", "headers-too-large"


class InternalError(Problem):
    """What the client is told when a handler raised something unforeseen; the log has the traceback."""


class Unavailable(Problem):
    status, title, kind = 503, "Service Unavailable", "unavailable"


class Overloaded(Unavailable):
    """The instance has more requests than it can serve in time; this one was not begun. Not logged one by one."""

    kind = "overloaded"


class DeadlineExceeded(Problem):
    """The time for the work was over: it was stopped, or not begun. The answer says to come back after a second, unless
    ``headers`` say otherwise."""

    status, title, kind = 504, "Gateway Timeout", "deadline-exceeded"

    def __init__(self, detail: str = "", *, headers: Mapping[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail, headers={"Retry-After": "1", **(headers or {})}, **extra)
