"""Reading the planners' answers: how a statement is carried out, and which tables it scans from end to end."""

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


class Step(NamedTuple):
    """One step of the plan of a statement; those that feed it are deeper, and come after it. Without values."""

    depth: int
    text: str
    scans: str = ""
    """The table that it reads whole."""


def explain_sql(dialect: str, sql: str) -> str:
    """The statement that asks the planner of a database about another one."""
    return {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN (FORMAT JSON) ", "mysql": "EXPLAIN FORMAT=JSON "}[
        dialect
    ] + sql  # fmt: skip


def scans(dialect: str, rows: Iterable[tuple[Any, ...]]) -> list[Scan]:
    """The tables scanned, from the rows that the planner answered."""
    if dialect == "sqlite":
        return list(_sqlite(rows))
    document = _document(rows)
    return list(_postgresql(document) if dialect == "postgresql" else _mysql(document))


def steps(dialect: str, rows: Iterable[tuple[Any, ...]]) -> list[Step]:
    """The whole plan, from the rows that the planner answered. Planners write the values of a statement into its
    conditions: they are left out."""
    if dialect == "sqlite":
        return list(_sqlite_steps(rows))
    document = _document(rows)
    return list(
        _postgresql_steps(document[0]["Plan"], 0) if dialect == "postgresql" else _mysql_steps(document, 0)
    )


def _document(rows: Iterable[tuple[Any, ...]]) -> Any:
    text = "".join(
        str(row[0]) if isinstance(row[0], str) else msgspec.json.encode(row[0]).decode() for row in rows
    )
    return msgspec.json.decode(text)


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


# ── whole plans ───────────────────────────────────────────────────────────────────────────────────

_VALUE = re.compile(r"'(?:[^']|'')*'|(?<![\w.$])-?\d[\d.]*(?:[eE][+-]?\d+)?\b")
_POSTGRESQL_CONDITIONS = (
    "Index Cond",
    "Recheck Cond",
    "Hash Cond",
    "Merge Cond",
    "Join Filter",
    "Filter",
    "Sort Key",
)
_MYSQL_READS = {
    "ALL": "Read all of", "index": "Read the whole index of", "range": "Read a range of", "ref": "Look up in",
    "eq_ref": "Look up one row of", "const": "Look up one row of", "ref_or_null": "Look up in",
}  # fmt: skip
_MYSQL_OPERATIONS = (
    "filesort", "ordering_operation", "grouping_operation", "temporary_table", "duplicates_removal", "union_result",
    "materialized", "materialized_from_subquery", "block-nl-join",
)  # fmt: skip


def _sqlite_steps(rows: Iterable[tuple[Any, ...]]) -> Iterator[Step]:
    """Rows of EXPLAIN QUERY PLAN: number, number of the parent, nothing, what is done."""
    depths: dict[int, int] = {0: -1}
    for number, parent, _, text in rows:
        depths[number] = depth = depths.get(parent, -1) + 1
        found = _SQLITE.match(str(text))
        yield Step(depth, str(text), found[1] if found and found[1] not in ("CONSTANT", "SUBQUERY") else "")


def _postgresql_steps(node: Any, depth: int) -> Iterator[Step]:
    """A node of the plan, and those below it."""
    table, index = node.get("Relation Name", ""), node.get("Index Name", "")
    parts = [
        node["Node Type"] + (f" on {table}" if table else "") + (f" using {index}" if index else ""),
        *(f"{name}: {_without_values(node[name])}" for name in _POSTGRESQL_CONDITIONS if name in node),
        f"about {node.get('Plan Rows', 0):,} rows, cost {node.get('Total Cost', 0):,.0f}",
    ]
    yield Step(depth, "; ".join(parts), table if node["Node Type"] == "Seq Scan" else "")
    for below in node.get("Plans", ()):
        yield from _postgresql_steps(below, depth + 1)


def _without_values(condition: Any) -> str:
    text = ", ".join(map(str, condition)) if isinstance(condition, list) else str(condition)
    return _VALUE.sub("?", text)


def _mysql_steps(node: Any, depth: int) -> Iterator[Step]:
    """MySQL and MariaDB: documents that differ, but name tables and how they are read alike."""
    if isinstance(node, list):
        for part in node:
            yield from _mysql_steps(part, depth)
        return
    if not isinstance(node, dict):
        return
    if "table_name" in node:
        yield _mysql_step(node, depth)
        depth += 1
    for name, part in node.items():
        if not isinstance(part, list | dict):
            continue
        if name in _MYSQL_OPERATIONS:
            yield Step(depth, name.replace("_", " ").capitalize())
            yield from _mysql_steps(part, depth + 1)
        else:
            yield from _mysql_steps(part, depth)


def _mysql_step(node: dict[str, Any], depth: int) -> Step:
    how, table, key = str(node.get("access_type", "")), str(node["table_name"]), node.get("key")
    rows = node.get("rows") or node.get("rows_examined_per_scan")
    parts = [f"{_MYSQL_READS.get(how, how or 'Read')} {table}" + (f" using {key}" if key else "")]
    parts += [f"about {int(rows):,} rows"] if rows else []
    return Step(depth, "; ".join(parts), table if how == "ALL" else "")
