"""Pages of rows, newest first: the SQL of the reader. Runs in its threads.

Each question walks one named index in the order of time, so its plan cannot change with the data. What that index does
not decide is looked at row by row, and never for more than 20,000 rows: then the page ends early, with a mark from
which the next one goes on. So the cost of a question does not depend on how much is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from msgspec import Struct

from tenfold.telemetry.store.file import StoreFile
from tenfold.telemetry.store.keys import at_of, bounds
from tenfold.telemetry.store.records import (
    JobFilter,
    JobSummary,
    LogEvent,
    LogFilter,
    Page,
    RequestFilter,
    RequestSummary,
    TraceFilter,
    TraceSummary,
)
from tenfold.telemetry.store.schema import LEVELS, NAMES

LOOKED_AT_MAX: Final = 20_000
LIMIT_MAX: Final = 1_000
PLACES_MAX: Final = 8
"""Of one operation: it had so many routes while its name stayed."""
WORDS_MAX: Final = 10
FAILED: Final = "outcome IN ('retry', 'dead', 'crash', 'lost')"

T = TypeVar("T")
Made = Callable[[list[Any]], T]

_REQUEST: Final = (
    "id", "(SELECT operation FROM place WHERE place.id = place)", "(SELECT method FROM place WHERE place.id = place)",
    "(SELECT route FROM place WHERE place.id = place)", "path", "status", "us", "lower(hex(trace))", "request",
    "tenant", "(SELECT name FROM instance WHERE instance.id = instance)", "error",
)  # fmt: skip
_JOB: Final = (
    "id", "(SELECT text FROM word WHERE word.id = queue)", "(SELECT text FROM word WHERE word.id = handler)",
    "outcome", "us", "wait_us", "attempt", "lower(hex(trace))", "job", "tenant",
    "(SELECT name FROM instance WHERE instance.id = instance)", "error",
)  # fmt: skip
_TRACE: Final = (
    "id", "lower(hex(trace))", "(SELECT text FROM word WHERE word.id = operation)", "kind", "us", "spans", "why",
    "error", "(SELECT name FROM instance WHERE instance.id = instance)",
)  # fmt: skip
_LOG: Final = (
    "id", "level", "event", "(SELECT text FROM word WHERE word.id = logger)", "fields", "lower(hex(trace))",
    "request", "(SELECT name FROM instance WHERE instance.id = instance)",
)  # fmt: skip


class Walk(Struct):
    """One index to walk, and what is left to look at."""

    source: str
    """``request INDEXED BY request_place``"""
    where: list[str]
    """What the index decides."""
    args: list[Any]
    rest: list[str]
    rest_args: list[Any]
    key: str = "id"
    columns: str = "*"


def _newest(
    file: StoreFile,
    walks: Sequence[Walk],
    columns: Sequence[str],
    made: Made[T],
    span: tuple[int, int],
    limit: int,
) -> Page[T]:
    """The newest rows of some walks together."""
    limit = max(1, min(limit, LIMIT_MAX))
    found: list[list[Any]] = []
    edge = 0
    """Below this key nothing was looked at by at least one of the walks; 0: all of it was."""
    for walk in walks:
        rows, looked_to = _walked(file, walk, columns, span, limit + 1)
        found += rows
        edge = max(edge, looked_to)
    found = sorted((row for row in found if row[0] >= edge), key=lambda row: -row[0])
    before = edge
    if len(found) > limit:
        found = found[:limit]
        before = found[-1][0]
    return Page([made(row) for row in found], str(before) if before else "")


def _walked(
    file: StoreFile, walk: Walk, columns: Sequence[str], span: tuple[int, int], limit: int
) -> tuple[list[list[Any]], int]:
    inner = f"FROM {walk.source} WHERE {' AND '.join([*walk.where, f'{walk.key} >= ? AND {walk.key} < ?'])} ORDER BY {walk.key} DESC"
    args = [*walk.args, *span]
    named = ", ".join(f"{column} AS c{number}" for number, column in enumerate(columns))
    rest = f"WHERE {' AND '.join(walk.rest)}" if walk.rest else ""
    most = LOOKED_AT_MAX if walk.rest else limit
    rows = file.rows(
        f"SELECT {named} FROM (SELECT {walk.columns} {inner} LIMIT {most}) {rest} LIMIT {limit}",  # noqa: S608
        *args,
        *walk.rest_args,
        columns=len(columns),
        json=tuple(number for number, column in enumerate(columns) if column == "fields"),
    )
    if len(rows) == limit:
        return rows, rows[-1][0]
    if not walk.rest:
        return rows, 0
    last = file.value(f"SELECT {walk.key} {inner} LIMIT 1 OFFSET {most - 1}", *args)
    return rows, last or 0


# ── requests ──────────────────────────────────────────────────────────────────────────────────────


def requests(file: StoreFile, where: RequestFilter, before: str, limit: int) -> Page[RequestSummary]:
    rest, rest_args = ["status BETWEEN ? AND ?"], [where.status_min, where.status_max]
    if (where.status_min, where.status_max) == (0, 999):
        rest, rest_args = [], []
    _ask(rest, rest_args, "us >= ?", int(where.seconds_min * 1e6))
    _ask(rest, rest_args, "substr(path, 1, length(?)) = ?", where.path, where.path)
    _ask(rest, rest_args, "tenant = ?", where.tenant)
    _ask(rest, rest_args, "instance = (SELECT id FROM instance WHERE name = ?)", where.instance)
    named = Walk("request", [], [], rest, rest_args)
    if where.trace_id:
        named.source, named.where, named.args = (
            "request INDEXED BY request_trace",
            ["trace = unhex(?)"],
            [where.trace_id],
        )
        _ask(rest, rest_args, "request = ?", where.request_id)
    elif where.request_id:
        named.source, named.where, named.args = (
            "request INDEXED BY request_request",
            ["request = ?"],
            [where.request_id],
        )
    elif where.operation:
        failed = where.status_min >= 500
        index, more = ("request_place_failed", ["status >= 500"]) if failed else ("request_place", [])
        walks = [
            Walk(f"request INDEXED BY {index}", ["place = ?", *more], [place], rest, rest_args)
            for place in _places(file, where.operation)
        ]
        return _newest(file, walks, _REQUEST, request_of, bounds(where.since, where.until, before), limit)
    elif where.status_min >= 500:
        named.source, named.where = "request INDEXED BY request_failed", ["status >= 500"]
    _ask(rest, rest_args, "place IN (SELECT id FROM place WHERE operation = ?)", where.operation)
    return _newest(file, [named], _REQUEST, request_of, bounds(where.since, where.until, before), limit)


def _places(file: StoreFile, operation: str) -> list[int]:
    rows = file.rows(
        f"SELECT id AS c0 FROM place WHERE operation = ? ORDER BY id DESC LIMIT {PLACES_MAX}",  # noqa: S608
        operation,
        columns=1,
    )
    return [row[0] for row in rows]


def request_of(row: list[Any]) -> RequestSummary:
    key, operation, method, route, path, status, us, trace, request, tenant, instance, error = row
    return RequestSummary(
        at_of(key), operation or "", method or "", route or "", path, status, us / 1e6, trace, request or "",
        tenant or "", instance or "", error or "",
    )  # fmt: skip


# ── jobs ──────────────────────────────────────────────────────────────────────────────────────────


def jobs(file: StoreFile, where: JobFilter, before: str, limit: int, trace_id: str = "") -> Page[JobSummary]:
    rest: list[str] = []
    rest_args: list[Any] = []
    _ask(rest, rest_args, "queue = (SELECT id FROM word WHERE text = ?)", where.queue)
    _ask(rest, rest_args, "outcome = ?", where.outcome)
    _ask(rest, rest_args, "instance = (SELECT id FROM instance WHERE name = ?)", where.instance)
    walk = Walk("job", [], [], rest, rest_args)
    handler = "handler = (SELECT id FROM word WHERE text = ?)"
    if trace_id:
        walk.source, walk.where, walk.args = "job INDEXED BY job_trace", ["trace = unhex(?)"], [trace_id]
    elif where.job_id:
        walk.source, walk.where, walk.args = "job INDEXED BY job_job", ["job = ?"], [where.job_id]
    elif where.failed:
        walk.source, walk.where = "job INDEXED BY job_failed", [FAILED]
    elif where.handler:
        walk.source, walk.where, walk.args = "job INDEXED BY job_handler", [handler], [where.handler]
    if where.failed and "job_failed" not in walk.source:
        rest.append(FAILED)
    if "job_handler" not in walk.source:
        _ask(rest, rest_args, handler, where.handler)
    return _newest(file, [walk], _JOB, job_of, bounds(where.since, where.until, before), limit)


def job_of(row: list[Any]) -> JobSummary:
    key, queue, handler, outcome, us, wait_us, attempt, trace, job, tenant, instance, error = row
    return JobSummary(
        at_of(key), queue or "", handler or "", outcome, us / 1e6, wait_us / 1e6, attempt, trace, job or "",
        tenant or "", instance or "", error or "",
    )  # fmt: skip


# ── traces ────────────────────────────────────────────────────────────────────────────────────────


def traces(file: StoreFile, where: TraceFilter, before: str, limit: int) -> Page[TraceSummary]:
    rest: list[str] = []
    rest_args: list[Any] = []
    _ask(rest, rest_args, "kind = ?", where.kind)
    _ask(rest, rest_args, "us >= ?", int(where.seconds_min * 1e6))
    _ask(rest, rest_args, "instance = (SELECT id FROM instance WHERE name = ?)", where.instance)
    walk = Walk("trace", [], [], rest, rest_args)
    operation, why = (
        "operation = (SELECT id FROM word WHERE text = ?)",
        "failed" if where.failed else where.why,
    )
    if why:
        walk.source, walk.where, walk.args = "trace INDEXED BY trace_why", ["why = ?"], [why]
        _ask(rest, rest_args, operation, where.operation)
    elif where.operation:
        walk.source, walk.where, walk.args = (
            "trace INDEXED BY trace_operation",
            [operation],
            [where.operation],
        )
    return _newest(file, [walk], _TRACE, _trace_of, bounds(where.since, where.until, before), limit)


def _trace_of(row: list[Any]) -> TraceSummary:
    key, trace, operation, kind, us, spans, why, error, instance = row
    return TraceSummary(
        trace, at_of(key), operation or "", kind, us / 1e6, spans, why, error or "", instance or ""
    )


# ── logs ──────────────────────────────────────────────────────────────────────────────────────────


def logs(file: StoreFile, where: LogFilter, before: str, limit: int) -> Page[LogEvent]:
    rest: list[str] = []
    rest_args: list[Any] = []
    level = LEVELS.get(where.level, 0)
    _ask(rest, rest_args, "level >= ?", level)
    _ask(
        rest,
        rest_args,
        "logger IN (SELECT id FROM word WHERE substr(text, 1, length(?)) = ?)",
        where.logger,
        where.logger,
    )
    _ask(rest, rest_args, "instance = (SELECT id FROM instance WHERE name = ?)", where.instance)
    walk = Walk("log", [], [], rest, rest_args)
    words = match_of(where.text)
    if where.trace_id:
        walk.source, walk.where, walk.args = (
            "log INDEXED BY log_trace",
            ["trace = unhex(?)"],
            [where.trace_id],
        )
    elif where.request_id:
        walk.source, walk.where, walk.args = "log INDEXED BY log_request", ["request = ?"], [where.request_id]
    elif words:
        walk.source = "log_text CROSS JOIN log ON log.id = log_text.rowid"
        walk.where, walk.args, walk.key, walk.columns = (
            ["log_text MATCH ?"],
            [words],
            "log_text.rowid",
            "log.*",
        )
    elif level >= LEVELS["error"]:
        walk.source, walk.where = "log INDEXED BY log_failed", ["level >= 40"]
    elif level >= LEVELS["warning"]:
        walk.source, walk.where = "log INDEXED BY log_warned", ["level >= 30"]
    if words and walk.key == "id":
        _ask(rest, rest_args, "id IN (SELECT rowid FROM log_text WHERE log_text MATCH ?)", words)
    return _newest(file, [walk], _LOG, _log_of, bounds(where.since, where.until, before), limit)


def match_of(text: str) -> str:
    """The question of full-text search for these words: each as it stands, whatever is in it; the last may go on."""
    words = [word.replace('"', " ") for word in text.split()[:WORDS_MAX]]
    words = [word[:100] for word in words if any(char.isalnum() for char in word)]
    return " AND ".join(f'"{word}"' for word in words) + "*" if words else ""


def _log_of(row: list[Any]) -> LogEvent:
    key, level, event, logger, fields, trace, request, instance = row
    return LogEvent(
        at_of(key),
        NAMES.get(level, "info"),
        event,
        logger or "",
        fields,
        trace,
        request or "",
        instance or "",
    )


def _ask(rest: list[str], args: list[Any], condition: str, value: Any, *more: Any) -> None:
    """Add a condition where there is something to hold."""
    if value:
        rest.append(condition)
        args.extend((value, *more))
