"""Reading the planners' answers: which tables a statement scans from end to end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec


class Scan(NamedTuple):
    """A table that is read whole to answer a statement."""

    table: str
    rows: float | None
    """How many the planner expects to read; None where it does not say."""


def explain_sql(dialect: str, sql: str) -> str:
    """The statement that asks the planner of a database about another one."""
    return {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN (FORMAT JSON) ", "mysql": "EXPLAIN FORMAT=JSON "}[
        dialect
    ] + sql  # fmt: skip


def scans(dialect: str, rows: Iterable[tuple[Any, ...]]) -> list[Scan]:
    """The tables scanned, from the rows that the planner answered."""
    if dialect == "sqlite":
        return list(_sqlite(rows))
    text = "".join(
        str(row[0]) if isinstance(row[0], str) else msgspec.json.encode(row[0]).decode() for row in rows
    )
    document = msgspec.json.decode(text)
    return list(_postgresql(document) if dialect == "postgresql" else _mysql(document))


# "SCAN orders", and in older versions "SCAN TABLE orders". "… USING INDEX x" reads every row by way of an index, to have
# them in order; only a covering index spares the table.
_SQLITE = re.compile(r"SCAN (?:TABLE )?(\w+)(?! USING COVERING INDEX| CONSTANT)\b(?!.*VIRTUAL)")


def _sqlite(rows: Iterable[tuple[Any, ...]]) -> Iterator[Scan]:
    for row in rows:
        found = _SQLITE.match(str(row[-1]))
        if found is not None and found[1] not in ("CONSTANT", "SUBQUERY"):
            yield Scan(found[1], None)


def _postgresql(node: Any) -> Iterator[Scan]:
    if isinstance(node, list):
        for part in node:
            yield from _postgresql(part)
    elif isinstance(node, dict):
        if node.get("Node Type") == "Seq Scan" and "Filter" in node:
            yield Scan(node["Relation Name"], node.get("Plan Rows"))
        for part in node.values():
            if isinstance(part, list | dict):
                yield from _postgresql(part)


def _mysql(node: Any) -> Iterator[Scan]:
    if isinstance(node, list):
        for part in node:
            yield from _mysql(part)
    elif isinstance(node, dict):
        if node.get("access_type") == "ALL" and "table_name" in node:
            yield Scan(str(node["table_name"]), node.get("rows") or node.get("rows_examined_per_scan"))
        for part in node.values():
            if isinstance(part, list | dict):
                yield from _mysql(part)
