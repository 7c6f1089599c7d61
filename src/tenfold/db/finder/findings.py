"""What the finder tells: one kind of document for the log, the command line and the dashboard."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["slow", "repeated", "scan", "unused-index", "pool-wait"]


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that costs time, where it is, and what helps."""

    kind: Kind
    database: str
    subject: str
    """The statement's shape, without values; or the name of the index."""
    sentence: str
    """What was seen, with numbers."""
    remedy: str
    operation: str = ""
    """In which operation or job it was seen first."""
    where: str = ""
    """File and line that ran the statement."""
    seconds: float = 0.0
    """What it has cost so far: time spent in it since the start. The worst comes first."""
    verified: bool | None = None
    """Of an index that is advised: the database's planner would use it. None: it could not be asked."""


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One shape of statement, without values, and what it has cost this process since the start."""

    sql: str
    runs: int
    total_s: float
    max_s: float
    writes: bool
    operation: str
    """In which operation or job it was seen first; empty where nobody knows."""
    where: str
    """File and line that ran it."""
    most_in_one: int
    """Most runs in one request, job or delivery, where it is ten or more."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All findings of an app's databases, and what they rest on."""

    statements: int
    """Different statements seen."""
    executions: int
    findings: list[Finding]


def worst_first(findings: list[Finding]) -> list[Finding]:
    """By what they cost; findings without a price keep their order, last."""
    return sorted(findings, key=lambda f: -f.seconds)
