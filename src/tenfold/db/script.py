"""Writing a migration script from the differences that Alembic found."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import MigrationScript, UpgradeOps
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
    _complete(found.upgrade_ops, context)
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
        """How Alembic is to write a type; False where it knows itself. Constraints get a name first."""
        context.imports = self.imports  # or else what Alembic adds to it is lost
        if kind == "type":
            return self._type(item, context)
        if kind in _PREFIXES and item.name is None:
            name = _constraint_name(kind, item.table.name, [column.name for column in item.columns])
            # Conditions that are plain text tell no columns, so several of a table would have one name.
            taken = {str(each.name) for each in item.table.constraints}
            numbered = (f"{name}_{number}" for number in itertools.count(2))
            item.name = next(each for each in itertools.chain([name], numbered) if each not in taken)
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


NAME_MAX = 63
"""Bytes of an identifier in PostgreSQL."""


_PREFIXES = {"unique": "uq", "foreign_key": "fk", "check": "ck"}


def _complete(steps: UpgradeOps, context: MigrationContext) -> None:
    """Add what Alembic leaves out: the CHECK constraints that are written at columns, and names.

    A constraint without a name is one that no later step can drop, and a CHECK without one is lost when SQLite's
    tables are rebuilt.
    """
    from alembic.operations import ops

    for step in steps.ops:
        if isinstance(step, ops.CreateTableOp):
            columns = [item for item in step.columns if isinstance(item, sa.Column)]
            checks = [check for column in columns for check in _checks(column, step.table_name, context)]
            step.columns = [*step.columns, *(sa.CheckConstraint(sql, name=name) for name, sql in checks)]
        elif isinstance(step, ops.ModifyTableOps):
            step.ops = [each for one in step.ops for each in _completed(one, step.table_name, context)]


def _completed(step: Any, table: str, context: MigrationContext) -> Iterator[Any]:
    from alembic.operations import ops

    if isinstance(step, ops.CreateForeignKeyOp) and step.constraint_name is None:
        step.constraint_name = _constraint_name("foreign_key", table, step.local_cols)
    elif isinstance(step, ops.CreateUniqueConstraintOp) and step.constraint_name is None:
        step.constraint_name = _constraint_name("unique", table, step.columns)
    elif isinstance(step, ops.DropColumnOp):
        # SQLite cannot rebuild a table with a CHECK of a column that is gone.
        for name, sql in _checks_in_database(table, step.column_name, context):
            back = ops.CreateCheckConstraintOp(name, table, sql)
            yield ops.DropConstraintOp(name, table, type_="check", _reverse=back)
    yield step
    if isinstance(step, ops.AddColumnOp):
        for name, sql in _checks(step.column, table, context):
            yield ops.CreateCheckConstraintOp(name, table, sql)


def _checks(column: sa.Column[Any], table: str, context: MigrationContext) -> Iterator[tuple[str, str]]:
    """Name and condition of what is written at the column."""
    options = {"literal_binds": True, "include_table": False}
    checks = [each for each in column.constraints if isinstance(each, sa.CheckConstraint)]
    for number, check in enumerate(checks, 1):
        sql = str(check.sqltext.compile(dialect=context.dialect, compile_kwargs=options))
        made = _constraint_name("check", table, [column.name, *([str(number)] if number > 1 else [])])
        yield (str(check.name) if isinstance(check.name, str) else made), sql


def _checks_in_database(table: str, column: str, context: MigrationContext) -> Iterator[tuple[str, str]]:
    assert context.connection is not None
    for check in sa.inspect(context.connection).get_check_constraints(table):
        if check["name"] and re.search(rf"\b{re.escape(column)}\b", check["sqltext"]):
            yield check["name"], check["sqltext"]


def _constraint_name(kind: str, table: str, columns: Sequence[str]) -> str:
    return "_".join([_PREFIXES[kind], table, *columns])[:NAME_MAX]


def _file(folder: Path, revision: str, message: str, text: str) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "_", message.lower()).strip("_")[:40]
    number = len(list(folder.glob("*.py"))) + 1
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:04d}_{slug or revision}.py"
    path.write_text(text, encoding="utf-8")
    return path
