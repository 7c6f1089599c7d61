"""What failed, grouped; one trace with all that belongs to it; and the state of the store. Runs in the reader's threads."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from tenfold.telemetry.contract import Span
from tenfold.telemetry.store import pages
from tenfold.telemetry.store.file import StoreFile
from tenfold.telemetry.store.keys import at_of, key_of
from tenfold.telemetry.store.records import (
    ErrorGroup,
    Instance,
    JobFilter,
    KeptSpan,
    LogFilter,
    RequestFilter,
    StoreStatus,
    TraceDetail,
    Why,
)

LOOKED_AT_MAX: Final = 3_000
"""Failures of each kind that are grouped, the latest ones."""
OF_ONE_MAX: Final = 200
"""Requests, runs and log lines shown with one trace."""
_TOLD_ELSEWHERE: Final = ("tenfold.http", "tenfold.queue", "tenfold.rpc")
"""Loggers of failures that are told by the request or the run that failed."""
_VARYING = re.compile(r"0x[0-9a-fA-F]+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|\b[0-9a-f]{16,}\b|\d+")

_REQUESTS = """
SELECT (SELECT operation FROM place WHERE place.id = place) AS c0, error AS c1, status AS c2, count(*) AS c3,
    min(id) AS c4, max(id) AS c5, lower(hex(trace)) AS c6, request AS c7
FROM (SELECT * FROM request INDEXED BY request_failed WHERE status >= 500 AND id >= ? ORDER BY id DESC LIMIT ?)
GROUP BY place, error, status LIMIT 1000
"""
_JOBS = """
SELECT (SELECT text FROM word WHERE word.id = handler) AS c0, coalesce(error, outcome) AS c1, 0 AS c2, count(*) AS c3,
    min(id) AS c4, max(id) AS c5, lower(hex(trace)) AS c6, NULL AS c7
FROM (SELECT * FROM job INDEXED BY job_failed WHERE outcome IN ('retry', 'dead', 'crash', 'lost') AND id >= ?
    ORDER BY id DESC LIMIT ?)
GROUP BY handler, coalesce(error, outcome) LIMIT 1000
"""
_LOGS = """
SELECT (SELECT text FROM word WHERE word.id = logger) AS c0, event AS c1, 0 AS c2, count(*) AS c3, min(id) AS c4,
    max(id) AS c5, lower(hex(trace)) AS c6, request AS c7
FROM (SELECT * FROM log INDEXED BY log_failed WHERE level >= 40 AND id >= ? ORDER BY id DESC LIMIT ?)
GROUP BY logger, event LIMIT 1000
"""


def groups(file: StoreFile, since: float, limit: int) -> list[ErrorGroup]:
    """See :meth:`~tenfold.telemetry.store.reader.Records.errors`. Numbers and ids within an error do not tell two apart."""
    found: dict[tuple[str, str, str, int], ErrorGroup] = {}
    for kind, sql in (("request", _REQUESTS), ("job", _JOBS), ("log", _LOGS)):
        for row in file.rows(sql, key_of(max(0.0, since), 0), LOOKED_AT_MAX, columns=8):
            if kind == "log" and str(row[0]).startswith(_TOLD_ELSEWHERE):
                continue
            group = _group(kind, row)
            alike = (kind, group.where, _VARYING.sub("#", group.error), group.status)
            found[alike] = _both(found[alike], group) if alike in found else group
    latest = sorted(found.values(), key=lambda group: -group.last_at)
    return latest[: max(1, limit)]


def _group(kind: Any, row: list[Any]) -> ErrorGroup:
    where, error, status, count, first, last, trace, request = row
    return ErrorGroup(
        kind, where or "", error or (f"answered {status}" if status else ""), count, at_of(first), at_of(last),
        status, trace or "", request or "",
    )  # fmt: skip


def _both(one: ErrorGroup, other: ErrorGroup) -> ErrorGroup:
    later = one if one.last_at >= other.last_at else other
    return msgspec.structs.replace(
        later, count=one.count + other.count, first_at=min(one.first_at, other.first_at)
    )


def trace(file: StoreFile, trace_id: str) -> TraceDetail | None:
    """See :meth:`~tenfold.telemetry.store.reader.Records.trace`."""
    rows = file.rows(
        "SELECT why AS c0, body AS c1, (SELECT name FROM instance WHERE instance.id = instance) AS c2 FROM trace "
        "INDEXED BY trace_trace CROSS JOIN trace_spans USING (id) WHERE trace = unhex(?) ORDER BY id LIMIT ?",
        trace_id, OF_ONE_MAX, columns=3,
    )  # fmt: skip
    spans = [
        KeptSpan(span, instance or "")
        for _, body, instance in rows
        for span in msgspec.json.decode(body, type=list[Span])
    ]
    requests = pages.requests(file, RequestFilter(trace_id=trace_id), "", OF_ONE_MAX).items
    jobs = pages.jobs(file, JobFilter(), "", OF_ONE_MAX, trace_id).items
    logs = pages.logs(file, LogFilter(trace_id=trace_id), "", OF_ONE_MAX).items
    if not (spans or requests or jobs or logs):
        return None
    spans.sort(key=lambda kept: kept.span.started)
    return TraceDetail(trace_id, spans, requests[::-1], jobs[::-1], logs[::-1], _why(row[0] for row in rows))


def _why(reasons: Any) -> Why | None:
    given: set[Why] = set(reasons)
    order: tuple[Why, ...] = ("failed", "slow", "first", "sampled")
    return next((why for why in order if why in given), None)


def instances(file: StoreFile, since: float) -> list[Instance]:
    """See :meth:`~tenfold.telemetry.store.reader.Records.instances`."""
    rows = file.rows(
        "SELECT name AS c0, first_at AS c1, last_at AS c2 FROM instance WHERE last_at >= ? ORDER BY name LIMIT 1000",
        since,
        columns=3,
    )
    return [Instance(*row) for row in rows]


def status(file: StoreFile) -> StoreStatus:
    """What the file tells of itself."""
    kept = file.rows("SELECT kind AS c0, rows AS c1 FROM kept LIMIT 10", columns=2)
    oldest = [
        found
        for kind in ("request", "job", "trace", "log")
        if (found := file.value(f"SELECT min(id) FROM {kind}")) is not None  # noqa: S608
    ]
    return StoreStatus(
        path=str(file.path),
        size_bytes=file.size_bytes(),
        keep_bytes=0,
        keep_s=0.0,
        oldest_at=at_of(min(oldest)) if oldest else None,
        rows={f"{kind}s": rows for kind, rows in kept},
        dropped={},
    )
