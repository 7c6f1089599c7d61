"""Writing a migration script from the differences that Alembic found."""

from __future__ import annotations

import ast
import datetime as dt
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import MigrationScript
    from alembic.runtime.migration import MigrationContext

    from tenfold.db.database import Database

_SCRIPT = '''"""{message}

Revision {revision}, made on {created}.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
{imports}
revision = {revision!r}
down_revision = {down!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    {upgrade}


def downgrade() -> None:
    {downgrade}
'''


def write(
    database: Database, context: MigrationContext, found: MigrationScript, message: str, *, after: str
) -> Path:
    """A new file with the steps of ``found``; ``after`` is the revision before it, empty for the first."""
    from alembic.util import rev_id

    assert database.migrations is not None
    assert found.upgrade_ops is not None
    assert found.downgrade_ops is not None
    _name_constraints(found.upgrade_ops)
    found.upgrade_ops.reverse_into(found.downgrade_ops)
    render = Renderer(context)
    up, down = render.code(found.upgrade_ops), render.code(found.downgrade_ops)
    revision = rev_id()
    created = dt.datetime.fromtimestamp(database.backend.clock.now(), dt.UTC)
    text = _SCRIPT.format(
        message=message.replace('"""', "'''"),
        revision=revision,
        down=after or None,
        created=f"{created:%Y-%m-%d}",
        imports="".join(f"{line}\n" for line in sorted(render.imports)),
        upgrade=up,
        downgrade=down,
    )
    return _file(database.migrations / "versions", revision, message, text)


class Renderer:
    """Steps as Python source. ``imports`` are the lines that the source needs besides ``sa`` and ``op``."""

    def __init__(self, context: MigrationContext) -> None:
        self._context = context
        self._columns: set[int] = set()
        self.imports: set[str] = set()

    def code(self, steps: Any) -> str:
        """The body of a function, indented but for its first line, without Alembic's remarks."""
        from alembic import autogenerate

        code = autogenerate.render_python_code(
            steps,
            render_as_batch=self._context.dialect.name == "sqlite",
            render_item=self._item,
            migration_context=self._context,
        )
        lines = [
            line.removeprefix("    ") for line in code.splitlines() if not line.strip().startswith("# ###")
        ]
        return "\n    ".join("\n".join(lines).strip().splitlines()) or "pass"

    def _item(self, kind: str, item: Any, context: AutogenContext) -> str | Literal[False]:
        """How Alembic is to write a column or a type; False where it knows itself."""
        context.imports = self.imports  # or else what Alembic adds to it is lost
        if kind == "type":
            return self._type(item, context)
        if kind in ("unique", "foreign_key") and item.name is None:
            item.name = _constraint_name(kind, item.table.name, [column.name for column in item.columns])
        if kind == "column" and id(item) not in self._columns:
            return self._column(item, context)
        return False

    def _type(self, type_: Any, context: AutogenContext) -> str | Literal[False]:
        """A type of the user's own as the one that it stands on: the script outlives the class."""
        from alembic.autogenerate import render

        module = type(type_).__module__
        if module.partition(".")[0] in ("sqlalchemy", "alembic"):
            return False
        if isinstance(type_, sa.types.TypeDecorator):
            return render._repr_type(type_.impl_instance, context)
        self.imports.add(f"import {module}")
        return False

    def _column(self, column: sa.Column[Any], context: AutogenContext) -> str | Literal[False]:
        """With the CHECK constraints that are written at the column, which Alembic leaves out."""
        from alembic.autogenerate import render

        checks = [each for each in column.constraints if isinstance(each, sa.CheckConstraint)]
        if not checks:
            return False
        self._columns.add(id(column))
        try:
            text = render._render_column(column, context)
        finally:
            self._columns.discard(id(column))
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        call.args += [ast.parse(self._check(check), mode="eval").body for check in checks]
        return ast.unparse(call)

    def _check(self, check: sa.CheckConstraint) -> str:
        options = {"literal_binds": True, "include_table": False}
        sql = str(check.sqltext.compile(dialect=self._context.dialect, compile_kwargs=options))
        name = f", name={str(check.name)!r}" if isinstance(check.name, str) else ""
        return f"sa.CheckConstraint({sql!r}{name})"


NAME_MAX = 63
"""Bytes of an identifier in PostgreSQL."""


def _name_constraints(steps: Any) -> None:
    """Give a name to every constraint that a step adds to a table: without one, no later step can drop it."""
    from alembic.operations import ops

    for step in steps.ops:
        if isinstance(step, ops.ModifyTableOps):
            _name_constraints(step)
        elif isinstance(step, ops.CreateForeignKeyOp) and step.constraint_name is None:
            step.constraint_name = _constraint_name("foreign_key", step.source_table, step.local_cols)
        elif isinstance(step, ops.CreateUniqueConstraintOp) and step.constraint_name is None:
            step.constraint_name = _constraint_name("unique", step.table_name, step.columns)


def _constraint_name(kind: str, table: str, columns: Sequence[str]) -> str:
    return "_".join(["uq" if kind == "unique" else "fk", table, *columns])[:NAME_MAX]


def _file(folder: Path, revision: str, message: str, text: str) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "_", message.lower()).strip("_")[:40]
    number = len(list(folder.glob("*.py"))) + 1
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:04d}_{slug or revision}.py"
    path.write_text(text, encoding="utf-8")
    return path
