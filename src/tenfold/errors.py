"""Every exception Tenfold raises, in one tree.

    TenfoldError
    ├── ConfigError              found at start: a setting, a declaration, a missing extra
    │   ├── UnknownSetting       a key nobody reads, with the nearest right one
    │   ├── MissingExtra         a library that an extra installs
    │   ├── DeclarationError     an operation, job, topic … that cannot work as written
    │   └── SchemaBehind         the database lacks migrations that the code has
    ├── NotBound                 a facade used before the app that owns it has started
    ├── Problem                  an answer for the client (RFC 9457); raise these in handlers
    │   ├── BadRequest           400 ── MalformedBody
    │   ├── Unauthorized         401 ── InvalidToken ── ExpiredToken
    │   ├── Forbidden            403
    │   ├── NotFound             404
    │   ├── MethodNotAllowed     405
    │   ├── NotAcceptable        406
    │   ├── RequestTimeout       408
    │   ├── Conflict             409 ── RequestInProgress, VersionConflict
    │   ├── Gone                 410
    │   ├── PreconditionFailed   412
    │   ├── PayloadTooLarge      413
    │   ├── UriTooLong           414
    │   ├── UnsupportedMedia     415
    │   ├── RangeNotSatisfiable  416
    │   ├── InvalidInput         422 ── IdempotencyMismatch
    │   ├── TooManyRequests      429
    │   ├── HeadersTooLarge      431
    │   ├── InternalError        500
    │   ├── Unavailable          503
    │   └── DeadlineExceeded     504
    ├── DatabaseError
    │   ├── NoRow                `one` or `scalar` found nothing          (404 when it reaches the client)
    │   ├── ManyRows             `one` or `maybe` found more than one
    │   ├── RowMismatch          the columns of a statement do not fit the type asked for
    │   ├── StatementError       the engine refuses the statement, or its parameters do not fit
    │   │   └── ValueRefused     too long, out of range, NUL                        (422)
    │   ├── IntegrityError                                               (409 when it reaches the client)
    │   │   ├── UniqueViolation
    │   │   ├── ForeignKeyViolation
    │   │   ├── NotNullViolation
    │   │   └── CheckViolation
    │   ├── SerializationFailure try the whole transaction again: `Database.transact` does
    │   ├── StatementTimeout     the deadline passed while the statement ran      (504)
    │   ├── DatabaseUnavailable  cannot be reached, locked for too long, disk full (503)
    │   │   └── PoolExhausted    every connection of this process is taken             (503)
    │   ├── OutcomeUnknown       the connection broke at COMMIT
    │   └── TransactionMisuse    nested `db.tx()`, use after the end
    ├── GuardError
    │   ├── StoreUnavailable     the store of keys, limits, leases or sessions is away        (503)
    │   ├── LeaseTaken           somebody else holds the lease, and did not let go in time    (503)
    │   └── LeaseEnded           the lease ran out, or was lost, while the work went on       (503)
    ├── QueueError
    │   ├── LeaseLost            another worker holds the message now
    │   ├── JobCancelled         somebody cancelled the job that is running
    │   ├── JobFailed            awaited the result of a job that died
    │   ├── FlowError            a flow cannot go on; running it again would not help
    │   │   ├── StepFailed       the attempts of one of its steps are used up
    │   │   ├── WaitTimedOut     what it waited for did not come in time      (also a TimeoutError)
    │   │   ├── CallsFailed      jobs that it waited for died or were cancelled  (also a JobFailed)
    │   │   └── FlowChanged      the code that is running does not follow its recorded steps
    │   ├── RetryLater           raise it to be run again after a time of your choice
    │   ├── WrongArguments       what was enqueued or published does not fit the handler's signature
    │   │   ├── UndecodableEvent an event whose data is not what its version says
    │   │   └── UnknownVersion   an event of a version that the running code cannot read
    │   └── UnknownHandler       a message for a job or subscriber that the code no longer has
    ├── EventsError
    │   ├── BrokerUnavailable    the broker is away, full, slow, or does not let us          (503)
    │   └── PublishFailed        the broker took only some of the events
    ├── MailError
    │   ├── MailUnavailable      try again later: unreachable, time-out, a temporary answer      (503)
    │   └── MailRefused          for good: no such mailbox, refused content
    └── CallError                a call between services failed in transit

Errors that reach an HTTP client become problem documents (RFC 9457) with the status above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec


class TenfoldError(Exception):
    """Root of the tree. ``status`` is what an HTTP client sees when nobody handles the error."""

    status: ClassVar[int] = 500


# ── found at start ────────────────────────────────────────────────────────────────────────────────


class ConfigError(TenfoldError):
    """Something is wrong that can be known before the first request.

    ``where`` is the path of the setting or declaration, ``remedy`` what to do about it.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        prefix = f"{where}: " if where else ""
        suffix = f" {remedy}" if remedy else ""
        super().__init__(f"{prefix}{what}{suffix}")


class UnknownSetting(ConfigError):
    """A key that nothing reads; the message names the nearest key that exists."""


class MissingExtra(ConfigError):
    """A library is not installed; the message is the ``pip install`` line that mends it."""


class DeclarationError(ConfigError):
    """An operation, job, subscriber, schedule or topic that cannot work as it is written."""


class SchemaBehind(ConfigError):
    """The database lacks migrations that the code has."""


class NotBound(TenfoldError):
    """A database, cache or topic was used before the app that owns it had started."""


# ── answers for the client ────────────────────────────────────────────────────────────────────────


class FieldError(msgspec.Struct, frozen=True):
    """One wrong field: ``in_`` says which part of the request, ``path`` which field of it."""

    in_: str = msgspec.field(name="in")
    path: str
    message: str


class Problem(TenfoldError):
    """An RFC 9457 problem document. Raise a subclass in a handler to answer with it.

    ``detail`` is a sentence for the person who meets it; ``extra`` members are added to the document;
    ``headers`` to the response.
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


class DeadlineExceeded(Problem):
    status, title, kind = 504, "Gateway Timeout", "deadline-exceeded"


# ── database ──────────────────────────────────────────────────────────────────────────────────────


class DatabaseError(TenfoldError):
    """A statement or a transaction failed."""


class NoRow(DatabaseError):
    """``one`` or ``scalar`` found nothing; use ``maybe`` where that is an ordinary answer."""

    status = 404


class ManyRows(DatabaseError):
    """``one``, ``maybe`` or ``scalar`` found more than one row."""


class RowMismatch(DatabaseError):
    """The columns of a statement and the fields of the type asked for do not fit."""


class StatementError(DatabaseError):
    """The engine refuses the statement (syntax, unknown table), or its parameters do not fit."""


class ValueRefused(StatementError):
    """A value that its column cannot keep: too long, out of range, or with the character NUL in a text."""

    status = 422


class IntegrityError(DatabaseError):
    """A constraint refused the change; ``constraint`` and ``columns`` name it where the engine tells."""

    status = 409

    def __init__(
        self,
        message: str,
        *,
        constraint: str = "",
        table: str = "",
        columns: tuple[str, ...] = (),
    ) -> None:
        self.constraint, self.table, self.columns = constraint, table, columns
        super().__init__(message)


class UniqueViolation(IntegrityError):
    """A row with the same key exists."""


class ForeignKeyViolation(IntegrityError):
    """A row that is referred to does not exist, or is still referred to."""


class NotNullViolation(IntegrityError):
    """A column that must have a value got none."""


class CheckViolation(IntegrityError):
    """A CHECK constraint refused the value."""


class SerializationFailure(DatabaseError):
    """The transaction collided with another and was rolled back whole; it may be tried again."""

    status = 503


class StatementTimeout(DatabaseError):
    """The deadline passed while the statement ran; the statement was interrupted."""

    status = 504


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached, is locked for too long, or its disk is full."""

    status = 503


class PoolExhausted(DatabaseUnavailable):
    """All connections of this process were taken, and none came free in time. The server may be well."""


class OutcomeUnknown(DatabaseError):
    """The connection broke at COMMIT: the transaction may or may not have happened."""

    status = 503


class TransactionMisuse(DatabaseError):
    """A transaction inside a transaction on the same database, or one used after its end."""


# ── guards ────────────────────────────────────────────────────────────────────────────────────────


class GuardError(TenfoldError):
    """A limit, a lease, an idempotency key or a session could not be had."""

    status = 503


class StoreUnavailable(GuardError):
    """The store behind ``[guard] url`` cannot be reached, or does not answer in time."""


class LeaseTaken(GuardError):
    """Somebody else holds the lease, and did not let go for as long as was waited."""


class LeaseEnded(GuardError):
    """The lease ran out, or another took it, before the work that it protects was done."""


# ── queue ─────────────────────────────────────────────────────────────────────────────────────────


class QueueError(TenfoldError):
    """A job, event delivery or schedule tick could not be handled."""


class LeaseLost(QueueError):
    """The lease ran out and another worker holds the message now; nothing of this run was committed."""


class JobCancelled(QueueError):
    """The job that is running was cancelled."""


class JobFailed(QueueError):
    """The result was awaited of a job that is dead; the message carries its last error."""


class FlowError(QueueError):
    """A flow cannot go on, and running it again would not help: unless the flow handles it, it is dead. Retrying the
    dead flow tries again what failed, and repeats nothing that is recorded. ``step`` is the recorded name."""

    def __init__(self, message: str, *, step: str = "") -> None:
        self.step = step
        super().__init__(message)


class StepFailed(FlowError):
    """The attempts of a step are used up. ``kind`` is the class name of its last error, ``reason`` its text."""

    def __init__(self, message: str, *, step: str, kind: str, reason: str) -> None:
        self.kind, self.reason = kind, reason
        super().__init__(message, step=step)


class WaitTimedOut(FlowError, TimeoutError):
    """The signal or event that a flow waited for did not come in time."""


class CallsFailed(FlowError, JobFailed):
    """Jobs that a flow waited for died or were cancelled. ``failures`` maps their positions to their errors."""

    def __init__(self, message: str, *, step: str, failures: Mapping[int, str]) -> None:
        self.failures = dict(failures)
        super().__init__(message, step=step)


class FlowChanged(FlowError):
    """The code that is running does not follow the steps that are recorded."""


class RetryLater(QueueError):
    """Raise it in a job or subscriber to be run again after ``delay_s`` seconds, whatever the policy says."""

    def __init__(self, delay_s: float, reason: str = "") -> None:
        self.delay_s = delay_s
        super().__init__(reason or f"asked to be run again in {delay_s:g} s")


class WrongArguments(QueueError):
    """The arguments of a job, or the body of an event, do not fit the declared types."""


class UndecodableEvent(WrongArguments):
    """The data of an event is not what its version says, or an upcaster failed: running it again cannot help."""


class UnknownVersion(WrongArguments):
    """An event of a version that the running code cannot read; another deploy can."""


class UnknownHandler(QueueError):
    """A message for a job or subscriber that the code does not have (any more)."""


# ── events through a broker ───────────────────────────────────────────────────────────────────────


class EventsError(TenfoldError):
    """Events could not be carried to or from the broker of ``[events] url``; the outbox keeps them."""


class BrokerUnavailable(EventsError):
    """The broker cannot be reached, is full, does not answer in time, or does not let us."""

    status = 503


class PublishFailed(EventsError):
    """The broker took some events of a batch and not others.

    ``failed`` maps positions in the batch to sentences; every event that is not in it is confirmed.
    """

    def __init__(self, failed: Mapping[int, str]) -> None:
        self.failed = dict(failed)
        first = next(iter(self.failed.values()), "")
        super().__init__(f"{len(self.failed)} events were not published; the first: {first}")


# ── mail and calls ────────────────────────────────────────────────────────────────────────────────


class MailError(TenfoldError):
    """A mail was not sent, or not to everybody."""


class MailUnavailable(MailError):
    """The mail server cannot be reached, did not answer in time, or asks to try again later."""

    status = 503


class MailRefused(MailError):
    """The mail server refused the mail for good; sending it again as it is cannot help."""


class CallError(TenfoldError):
    """A call between services failed in transit."""

    status = 503
