"""Steps of a migration that lose data, or keep other work waiting, found by reading the script.

The script is parsed, not run. What the lint cannot see (SQL that is put together at run time) it does not judge.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

Danger = Literal["loses data", "locks", "breaks running code"]


class Finding(msgspec.Struct, frozen=True):
    """One step to think about before it runs against data."""

    path: str
    line: int
    step: str
    danger: Danger
    advice: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.step} {self.danger}: {self.advice}"


def lint(script: Path) -> list[Finding]:
    """What is dangerous in the ``upgrade`` function of ``script``, by line."""
    tree = ast.parse(script.read_text(encoding="utf-8"), filename=str(script))
    upgrades = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "upgrade"]
    found = [
        Finding(str(script), call.lineno, step, danger, advice)
        for function in upgrades
        for call in _risky(function)
        for step, danger, advice in _judge(call)
    ]
    return sorted(found, key=lambda finding: finding.line)


Judgement = tuple[str, Danger, str]


def _risky(function: ast.FunctionDef) -> Iterator[ast.Call]:
    """The calls, without those that change a table which the same script makes: it has no rows, and nobody waits
    for it."""
    calls = list(_calls(function, {}))
    made = {table for call, table in calls if _name(call) == "create_table"} - {""}
    for call, table in calls:
        if not (table in made and _name(call) in _HARMLESS_ON_NEW):
            yield call


def _calls(node: ast.AST, batches: dict[str, str]) -> Iterator[tuple[ast.Call, str]]:
    """Every method call with the table that it is about; ``batches`` are the tables of the ``with`` blocks around,
    by variable."""
    if isinstance(node, ast.With):
        batches = batches | dict(_batches(node))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        receiver = node.func.value
        batch = batches.get(receiver.id, "") if isinstance(receiver, ast.Name) else ""
        yield node, batch or _table(node)
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, batches)


def _batches(block: ast.With) -> Iterator[tuple[str, str]]:
    for item in block.items:
        call, variable = item.context_expr, item.optional_vars
        if isinstance(call, ast.Call) and isinstance(variable, ast.Name):
            yield variable.id, _table(call)


def _table(call: ast.Call) -> str:
    """The table's name in the arguments; empty where it is not written out."""
    position = 1 if _name(call) in _TABLE_SECOND else 0
    named = next((found for key in _TABLE_KEYS if (found := _keyword(call, key)) is not None), None)
    node = named or (call.args[position] if len(call.args) > position else None)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _judge(call: ast.Call) -> Iterator[Judgement]:
    if (judge := _JUDGES.get(_name(call))) is not None:
        yield from judge(call)


def _drop_table(_: ast.Call) -> Iterator[Judgement]:
    yield (
        "drop_table",
        "loses data",
        "its rows are gone and running code fails. First release code that no longer uses it; keep a backup.",
    )


def _drop_column(_: ast.Call) -> Iterator[Judgement]:
    yield (
        "drop_column",
        "loses data",
        "its values are gone and running code fails. First release code that no longer uses it.",
    )


def _rename(call: ast.Call) -> Iterator[Judgement]:
    yield (
        _name(call),
        "breaks running code",
        "instances of the old release still use the old name. Add the new one, copy, then drop the old one.",
    )


def _alter_column(call: ast.Call) -> Iterator[Judgement]:
    if (type_ := _keyword(call, "type_")) is not None and not _is_none(type_):
        yield (
            "alter_column(type_=…)",
            "locks",
            "the table is rewritten, and values that do not fit the new type are lost or refused. Add a new column, "
            "copy in batches, then switch.",
        )
    if _is_constant(_keyword(call, "nullable"), False):
        yield (
            "alter_column(nullable=False)",
            "locks",
            "every row is checked while writes wait, and one NULL makes it fail. Fill the column first; on PostgreSQL "
            "add a CHECK … NOT VALID and validate it.",
        )
    if _keyword(call, "new_column_name") is not None:
        yield from _rename(call)


def _add_column(call: ast.Call) -> Iterator[Judgement]:
    column = next((a for a in call.args if isinstance(a, ast.Call)), None)
    if column is None or not _is_constant(_keyword(column, "nullable"), False):
        return
    default = _keyword(column, "server_default")
    if default is None or _is_none(default):
        yield (
            "add_column(nullable=False)",
            "breaks running code",
            "it fails on a table that has rows, and instances of the old release cannot insert. Give it a "
            "server_default, or make it nullable and fill it first.",
        )


def _create_index(call: ast.Call) -> Iterator[Judgement]:
    if not _is_constant(_keyword(call, "postgresql_concurrently"), True):
        yield (
            "create_index",
            "locks",
            "writes to the table wait until it is built. On PostgreSQL pass postgresql_concurrently=True, in a script "
            "of its own outside a transaction.",
        )


def _create_constraint(call: ast.Call) -> Iterator[Judgement]:
    yield (
        _name(call),
        "locks",
        "every row is checked while writes wait, and one bad row makes it fail. On PostgreSQL add it NOT VALID and "
        "validate it later, or build a unique index CONCURRENTLY first.",
    )


_LOSING_SQL = re.compile(r"^\s*(drop|truncate|delete|update)\b(?P<rest>.*)", re.IGNORECASE | re.DOTALL)


def _execute(call: ast.Call) -> Iterator[Judgement]:
    for node in ast.walk(call):
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            continue
        matched = _LOSING_SQL.match(node.value)
        if matched is None:
            continue
        verb = matched.group(1).upper()
        if verb in ("DELETE", "UPDATE"):
            yield (
                f"execute({verb} …)",
                "locks",
                "it changes rows in one transaction. Do it in batches, in a job.",
            )
        else:
            yield (f"execute({verb} …)", "loses data", "what it removes is gone. Keep a backup.")


_JUDGES: dict[str, Callable[[ast.Call], Iterator[Judgement]]] = {
    "drop_table": _drop_table,
    "drop_column": _drop_column,
    "rename_table": _rename,
    "alter_column": _alter_column,
    "add_column": _add_column,
    "create_index": _create_index,
    "create_unique_constraint": _create_constraint,
    "create_check_constraint": _create_constraint,
    "create_foreign_key": _create_constraint,
    "execute": _execute,
}

_TABLE_SECOND = frozenset(
    {"create_index", "create_unique_constraint", "create_check_constraint", "create_foreign_key"}
)
_HARMLESS_ON_NEW = _TABLE_SECOND | {"add_column", "alter_column"}
_TABLE_KEYS = ("table_name", "source_table")


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((k.value for k in call.keywords if k.arg == name), None)


def _is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
