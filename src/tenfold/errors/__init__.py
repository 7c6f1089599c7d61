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
    │   ├── Forbidden            403 ── CallRefused
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
    │   ├── Unavailable          503 ── Overloaded
    │   └── DeadlineExceeded     504
    ├── DatabaseError
    │   ├── NoRow                `one` or `scalar` found nothing          (404 when it reaches the client)
    │   ├── ManyRows             `one` or `maybe` found more than one, `all` more than may be
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
    └── CallError                a call between services, or out of the app, failed           (503)
        ├── DependencyUnavailable  not reached, broken off, or left alone for a while         (503)
        ├── DependencyTimeout      no answer in time                                          (504)
        ├── DependencyFailed       a status that is no success                                (502)
        ├── BadAnswer              does not fit the type, too large, against HTTP             (502)
        └── AddressRefused         calls out may not go there                                 (502)

Errors that reach an HTTP client become problem documents (RFC 9457) with the status above.
"""

from __future__ import annotations

from tenfold.errors._answers import (
    BadRequest,
    CallRefused,
    Conflict,
    DeadlineExceeded,
    ExpiredToken,
    FieldError,
    Forbidden,
    Gone,
    HeadersTooLarge,
    IdempotencyMismatch,
    InternalError,
    InvalidInput,
    InvalidToken,
    MalformedBody,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PreconditionFailed,
    Problem,
    RangeNotSatisfiable,
    RequestInProgress,
    RequestTimeout,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
    UriTooLong,
    VersionConflict,
)
from tenfold.errors._carriers import (
    AddressRefused,
    BadAnswer,
    BrokerUnavailable,
    CallError,
    DependencyFailed,
    DependencyTimeout,
    DependencyUnavailable,
    EventsError,
    MailError,
    MailRefused,
    MailUnavailable,
    PublishFailed,
)
from tenfold.errors._database import (
    CheckViolation,
    DatabaseError,
    DatabaseUnavailable,
    ForeignKeyViolation,
    IntegrityError,
    ManyRows,
    NoRow,
    NotNullViolation,
    OutcomeUnknown,
    PoolExhausted,
    RowMismatch,
    SerializationFailure,
    StatementError,
    StatementTimeout,
    TransactionMisuse,
    UniqueViolation,
    ValueRefused,
)
from tenfold.errors._guards import (
    GuardError,
    LeaseEnded,
    LeaseTaken,
    StoreUnavailable,
)
from tenfold.errors._queue import (
    CallsFailed,
    FlowChanged,
    FlowError,
    JobCancelled,
    JobFailed,
    LeaseLost,
    QueueError,
    RetryLater,
    StepFailed,
    UndecodableEvent,
    UnknownHandler,
    UnknownVersion,
    WaitTimedOut,
    WrongArguments,
)
from tenfold.errors._start import (
    ConfigError,
    DeclarationError,
    MissingExtra,
    NotBound,
    SchemaBehind,
    TenfoldError,
    UnknownSetting,
)

__all__ = [
    "AddressRefused",
    "BadAnswer",
    "BadRequest",
    "BrokerUnavailable",
    "CallError",
    "CallRefused",
    "CallsFailed",
    "CheckViolation",
    "ConfigError",
    "Conflict",
    "DatabaseError",
    "DatabaseUnavailable",
    "DeadlineExceeded",
    "DeclarationError",
    "DependencyFailed",
    "DependencyTimeout",
    "DependencyUnavailable",
    "EventsError",
    "ExpiredToken",
    "FieldError",
    "FlowChanged",
    "FlowError",
    "Forbidden",
    "ForeignKeyViolation",
    "Gone",
    "GuardError",
    "HeadersTooLarge",
    "IdempotencyMismatch",
    "IntegrityError",
    "InternalError",
    "InvalidInput",
    "InvalidToken",
    "JobCancelled",
    "JobFailed",
    "LeaseEnded",
    "LeaseLost",
    "LeaseTaken",
    "MailError",
    "MailRefused",
    "MailUnavailable",
    "MalformedBody",
    "ManyRows",
    "MethodNotAllowed",
    "MissingExtra",
    "NoRow",
    "NotAcceptable",
    "NotBound",
    "NotFound",
    "NotNullViolation",
    "OutcomeUnknown",
    "Overloaded",
    "PayloadTooLarge",
    "PoolExhausted",
    "PreconditionFailed",
    "Problem",
    "PublishFailed",
    "QueueError",
    "RangeNotSatisfiable",
    "RequestInProgress",
    "RequestTimeout",
    "RetryLater",
    "RowMismatch",
    "SchemaBehind",
    "SerializationFailure",
    "StatementError",
    "StatementTimeout",
    "StepFailed",
    "StoreUnavailable",
    "TenfoldError",
    "TooManyRequests",
    "TransactionMisuse",
    "Unauthorized",
    "Unavailable",
    "UndecodableEvent",
    "UniqueViolation",
    "UnknownHandler",
    "UnknownSetting",
    "UnknownVersion",
    "UnsupportedMedia",
    "UriTooLong",
    "ValueRefused",
    "VersionConflict",
    "WaitTimedOut",
    "WrongArguments",
]

for _name in __all__:  # where the code is kept is nobody's business: tracebacks name what is imported
    globals()[_name].__module__ = __name__
