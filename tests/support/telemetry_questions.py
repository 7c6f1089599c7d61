"""What pages ask of the store of telemetry, and in how many steps of SQLite's virtual machine it is to be answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from support.telemetry_store import NOW
from tenfold.telemetry.store.file import StoreFile
from tenfold.telemetry.store.reader import Records
from tenfold.telemetry.store.records import JobFilter, LogFilter, RequestFilter, TraceFilter

Question = Callable[[Records], Awaitable[object]]

QUESTIONS: dict[str, tuple[Question, int]] = {
    "newest requests": (lambda r: r.requests(), 20_000),
    "an operation's": (lambda r: r.requests(RequestFilter(operation="shop.op3")), 20_000),
    "a time's": (lambda r: r.requests(RequestFilter(since=NOW + 10, until=NOW + 20)), 20_000),
    "one by its id": (lambda r: r.requests(RequestFilter(request_id="r-77")), 5_000),
    "one by its trace": (lambda r: r.requests(RequestFilter(trace_id=f"{77:032x}")), 5_000),
    "failed ones": (lambda r: r.requests(RequestFilter(status_min=500)), 20_000),
    "failed ones of an operation": (
        lambda r: r.requests(RequestFilter(status_min=500, operation="shop.op3")),
        60_000,
    ),
    "runs": (lambda r: r.jobs(), 20_000),
    "a handler's": (lambda r: r.jobs(JobFilter(handler="shop.job3")), 20_000),
    "failed runs": (lambda r: r.jobs(JobFilter(failed=True)), 20_000),
    "one run": (lambda r: r.jobs(JobFilter(job_id="77")), 5_000),
    "traces": (lambda r: r.traces(), 20_000),
    "failed traces": (lambda r: r.traces(TraceFilter(failed=True)), 20_000),
    "an operation's traces": (lambda r: r.traces(TraceFilter(operation="shop.op3")), 20_000),
    "a trace": (lambda r: r.trace(f"{77:032x}"), 20_000),
    "lines": (lambda r: r.logs(), 20_000),
    "lines with a word": (lambda r: r.logs(LogFilter(text="placed")), 60_000),
    "errors in the log": (lambda r: r.logs(LogFilter(level="error")), 20_000),
    "names": (lambda r: r.metrics(), 5_000),
    "operations": (lambda r: r.operations(since=NOW - 60), 60_000),
    "latency of all": (lambda r: r.latency(since=NOW - 60), 20_000),
    "latency of one": (lambda r: r.latency("shop.op3", since=NOW - 60), 20_000),
    "errors": (lambda r: r.errors(since=NOW), 300_000),
    "instances": (lambda r: r.instances(since=NOW), 5_000),
    "state": (lambda r: r.status(), 5_000),
}

GROWING = ("request", "job", "trace", "trace_spans", "log", "point")
"""Tables whose size depends on how much is kept."""


def walks(file: StoreFile, sql: str, args: Sequence[Any]) -> list[str]:
    """Steps of a statement's plan that go through all of a growing table, as SQLite's planner tells them. In the order of
    an index, with a limit inside, is no such walk; by MATCH neither."""
    rows = file._open().execute(f"EXPLAIN QUERY PLAN {sql}", args).fetchall()
    steps = [str(row[-1]).split() for row in rows]
    return [
        " ".join(step) for step in steps if step[0] == "SCAN" and step[1] in GROWING and "INDEX" not in step
    ]


class Heard:
    """The statements that readers sent to the store, from when it is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements: dict[str, Sequence[Any]] = {}
        """With the values of one run."""
        value = StoreFile.value

        def heard(file: StoreFile, sql: str, *args: Any) -> Any:
            if not file._writes:
                self.statements.setdefault(sql, args)
            return value(file, sql, *args)

        monkeypatch.setattr(StoreFile, "value", heard)

    def walks(self, file: StoreFile) -> dict[str, list[str]]:
        """Those that go through all of what is kept, with the steps that do."""
        asked = {sql: args for sql, args in self.statements.items() if not sql.startswith("PRAGMA")}
        found = {sql: walks(file, sql, args) for sql, args in asked.items()}
        return {sql: steps for sql, steps in found.items() if steps}
