"""Which migration scripts there are and which is the newest, read without Alembic.

Loading Alembic takes a fifth of a second, and an ordinary start, with nothing to apply, has no other use for it.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tenfold.db.database import Database


def version_table(database: Database) -> str:
    """Name of the table that holds the service's position."""
    return f"alembic_version_{database.name}"


def scripts_of(database: Database) -> list[Path]:
    """The script files of a service, by name."""
    folder = database.migrations
    return sorted((folder / "versions").glob("*.py")) if folder is not None else []


def newest(scripts: Sequence[Path]) -> str:
    """The revision that no script comes after.

    Empty for anything but one unbroken line of scripts: what is wrong then, Alembic says better.
    """
    try:
        read = [_revision(ast.parse(script.read_bytes())) for script in scripts]
    except (SyntaxError, ValueError):  # ValueError: a value that is not written out, or NUL bytes
        return ""
    revisions, downs = [own for own, _ in read], [down for _, down in read]
    heads = set(revisions) - set(downs)
    in_line = len(set(revisions)) == len(set(downs)) == len(read) and set(downs) - {None} <= set(revisions)
    return str(heads.pop()) if in_line and len(heads) == 1 else ""


def recorded(connection: sa.Connection, database: Database, existing: Collection[str]) -> str:
    """The revision that the database has; empty when none was applied, or when several were."""
    name = version_table(database)
    if name not in existing:
        return ""
    position: sa.ColumnClause[str] = sa.column("version_num")
    rows = connection.execute(sa.select(position).select_from(sa.table(name))).all()
    return rows[0][0] if len(rows) == 1 else ""


def _revision(tree: ast.Module) -> tuple[object, object]:
    values: dict[str, object] = {"revision": None, "down_revision": None}
    for node in tree.body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name) and target.id in values:
                values[target.id] = ast.literal_eval(node.value)
    return values["revision"], values["down_revision"]
