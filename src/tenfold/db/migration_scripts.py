"""A service's Alembic scripts, and the context in which they are applied and compared.

Alembic is imported where it is used: an ordinary start, with nothing to apply, has no use for it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tenfold.db.revisions import scripts_of, version_table
from tenfold.errors import ConfigError

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    from tenfold.db.database import Database


def directory(database: Database) -> ScriptDirectory | None:
    """The service's scripts; None when it has none."""
    if not scripts_of(database):
        return None
    from alembic.script import ScriptDirectory

    assert database.migrations is not None
    folder = database.migrations
    return ScriptDirectory(str(folder), version_locations=[str(folder / "versions")])


def context(connection: sa.Connection, database: Database, **options: Any) -> MigrationContext:
    """Alembic's, for the tables of one service; ``options`` are Alembic's, too."""
    from alembic.runtime.migration import MigrationContext

    names = {table.name for table in database.metadata.tables.values()}

    def ours(_object: Any, name: str | None, type_: str, reflected: bool, _compare_to: Any) -> bool:
        """Other services' tables are in the same file; those that nobody declares any more may be anybody's."""
        return type_ != "table" or name in names or not reflected

    return MigrationContext.configure(
        connection=connection,
        opts={
            "version_table": version_table(database),
            "target_metadata": database.metadata,
            "render_as_batch": connection.dialect.name == "sqlite",
            "compare_type": True,
            "compare_server_default": _default_differs,
            "include_object": ours,
            **options,
        },
    )


def _default_differs(
    _context: Any, _found: Any, column: sa.Column[Any], found: str | None, _declared: Any, _rendered: Any
) -> bool | None:
    """Alembic compares text with a quote in it wrongly; None leaves everything else to it."""
    default = column.server_default
    text = default.arg if isinstance(default, sa.DefaultClause) else None
    if found is None or not isinstance(text, str) or "'" not in text:
        return None
    return found.partition("::")[0] != "'" + text.replace("'", "''") + "'"


def pending(script: ScriptDirectory, current: str, database: Database) -> list[Any]:
    """The scripts after ``current``, oldest first. Raises :class:`ConfigError` where they do not fit together."""
    from alembic.util import CommandError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Alembic warns of, it also fails with
            return list(reversed(list(script.iterate_revisions("head", current or "base"))))
    except (CommandError, KeyError) as error:  # KeyError: a script's down_revision is missing
        said = f"there is no script {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigError(
            f"its scripts do not fit together, or not the database: {said}.",
            where=f"migrations of {database.name}",
            remedy="Get the scripts that the database was migrated with, or mend their down_revision.",
        ) from None
