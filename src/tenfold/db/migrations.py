"""Migrations: Alembic scripts per service, and the framework's own tables.

A service's scripts are in ``<its package>/migrations/<service>/versions``, its position in the table
``alembic_version_<service>``. All pending scripts of all services run in one transaction where the engine's DDL
allows it (SQLite, PostgreSQL), under a lock, so that of several processes one migrates and the others find nothing
left to do. MySQL and MariaDB commit every change of a table by itself: what a failed migration had done stays, is
recorded script by script, and is said.

A service in development that has no scripts yet gets its tables created as they are declared. Its first script makes
all of them; a development database that has them already is noted as migrated instead of being asked to make them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tenfold._core.text import plural
from tenfold.db import migration_scripts, revisions, schema
from tenfold.db.revisions import scripts_of
from tenfold.errors import ConfigError, DatabaseUnavailable, SchemaBehind

if TYPE_CHECKING:
    from tenfold.db.contract import DatabaseBackend
    from tenfold.db.database import Database

log = logging.getLogger("tenfold.db.migrations")


NAMED_MAX = 5
"""More tables of the framework's own than these are counted and not named: a new database has dozens."""
_TRANSACTIONAL_DDL = frozenset({"sqlite", "postgresql"})


class Status(msgspec.Struct, frozen=True):
    """Where one service's schema stands."""

    service: str
    current: str
    """Revision that the database has; empty when none was applied."""
    head: str
    """Newest revision that the code has; empty when there are no scripts."""
    pending: tuple[str, ...]
    """``revision: message`` of the scripts to apply, oldest first."""
    missing: tuple[str, ...]
    """Declared tables that the database lacks."""

    @property
    def behind(self) -> bool:
        """True when the code needs something that the database does not have yet."""
        return bool(self.pending or self.missing)


async def prepare(
    databases: Sequence[Database], mode: Literal["auto", "check"], *, unused: Collection[str] = ()
) -> list[str]:
    """What an app does at start: migrate (``auto``), or refuse to start when the schema is behind (``check``).
    ``unused`` are tables of the framework that this process does not touch, and need no right to.

    Returns what was done, in sentences. Raises SchemaBehind in ``check``, ConfigError for broken scripts.
    """
    if mode == "auto":
        return await upgrade(databases, create_without_scripts=True, unused=unused)
    behind = [s for s in await _statuses(databases, rights=True, unused=unused) if s.behind]
    if behind:
        said = "; ".join(f"{s.service}: {_what(s)}" for s in behind)
        raise SchemaBehind(
            f"the database lacks changes that the code has ({said}).", remedy="Run: tenfold migrate"
        )
    return []


async def status(databases: Sequence[Database]) -> list[Status]:
    """Where the framework's tables and every service stand. Changes nothing."""
    return await _statuses(databases, rights=False)


async def _statuses(
    databases: Sequence[Database], *, rights: bool, unused: Collection[str] = ()
) -> list[Status]:
    found: list[Status] = []
    for backend, group in _by_backend(databases):
        found += await asyncio.to_thread(_status_of, backend, group, rights=rights, unused=unused)
    return found


async def upgrade(
    databases: Sequence[Database], *, create_without_scripts: bool = False, unused: Collection[str] = ()
) -> list[str]:
    """Apply everything that is pending; returns what was done, in sentences.

    ``create_without_scripts`` creates the missing tables of services that have no scripts at all, and accepts tables
    that were created so once there are scripts.
    """
    done: list[str] = []
    for backend, group in _by_backend(databases):
        done += await asyncio.to_thread(_upgrade, backend, group, create_without_scripts, unused)
    for line in done:
        log.info(line)
    return done


async def new(database: Database, message: str, *, empty: bool = False) -> Path | None:
    """Write a script with the differences between the declared tables and the database, and return its path.

    None, and no script, when there are none; with ``empty`` a script without steps then, for those that are written
    by hand. The first script of a service makes all its tables, whatever the database has.

    The database must have every earlier script applied (SchemaBehind otherwise).
    """
    return await asyncio.to_thread(_new, database, message, empty)


# ── in a thread, with a blocking connection ──


def _by_backend(databases: Sequence[Database]) -> Iterator[tuple[DatabaseBackend, list[Database]]]:
    groups: dict[int, tuple[DatabaseBackend, list[Database]]] = {}
    for database in databases:
        groups.setdefault(id(database.backend), (database.backend, []))[1].append(database)
    yield from groups.values()


class _Progress:
    """How far a migration is, for the message when it fails."""

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.at = ""

    def so_far(self, connection: sa.Connection) -> str:
        """What is left of a migration that failed."""
        if connection.dialect.name in _TRANSACTIONAL_DDL:
            return "It was rolled back."
        applied = f"Applied: {', '.join(self.applied)}. " if self.applied else "No script was applied. "
        return (
            f"This database cannot undo changes of tables. {applied}{self.at or 'A step'} may be half done: undo by "
            "hand what it has changed, or what it would do again, and run: tenfold migrate"
        )


@contextmanager
def _connection(
    backend: DatabaseBackend, *, write: bool, progress: _Progress | None = None
) -> Generator[sa.Connection]:
    """A connection of its own; for writing in one transaction that is also the lock against other processes."""
    progress = progress or _Progress()
    engine = backend.sync_engine(write=write)
    try:
        with engine.connect() as connection, connection.begin():
            try:
                yield connection
            except DBAPIError as error:
                where = f" in {progress.at}" if progress.at else ""
                raise backend.explain(error.orig) or DatabaseUnavailable(
                    f"the migration failed{where}: {error.orig}. {progress.so_far(connection)}"
                ) from error
            if write and engine.dialect.name == "sqlite":
                _check_foreign_keys(connection)
    except DBAPIError as error:
        raise DatabaseUnavailable(f"the database cannot be migrated: {error.orig}.") from error
    finally:
        engine.dispose()


def _check_foreign_keys(connection: sa.Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(5)
    if broken:
        said = ", ".join(f"{row[0]} (row {row[1]}) → {row[2]}" for row in broken)
        raise ConfigError(
            f"the migration leaves rows that refer to missing ones: {said}. It was rolled back.",
            where="migrations",
        )


def _status_of(
    backend: DatabaseBackend, group: Sequence[Database], *, rights: bool, unused: Collection[str] = ()
) -> list[Status]:
    """``rights``: also whether the tables may be used, but for those ``unused``; raises ConfigError if not."""
    with _connection(backend, write=False) as connection:
        existing = set(sa.inspect(connection).get_table_names())
        if rights:
            declared = [t for database in group for t in database.metadata.tables.values()]
            ours, theirs = (
                [t for t in tables if t.name in existing and t.schema is None and t.name not in unused]
                for tables in (schema.framework.tables.values(), declared)
            )
            if (missing := backend.missing_rights(connection, ours, theirs)) is not None:
                raise missing
        return [_framework_status(connection, existing)] + [
            _service_status(connection, database, existing) for database in group
        ]


def _framework_status(connection: sa.Connection, existing: set[str]) -> Status:
    missing = tuple(sorted(schema.framework.tables.keys() - existing))
    have = _part_versions(connection, existing)
    pending = tuple(
        f"{part.name} {part.version}"
        for part in schema.framework_parts()
        if have.get(part.name, 0) < part.version
    )
    return Status("tenfold", "", "", pending, missing)


def _part_versions(connection: sa.Connection, existing: set[str]) -> dict[str, int]:
    if schema.versions.name not in existing:
        return {}
    return {row.part: row.version for row in connection.execute(sa.select(schema.versions))}


def _service_status(connection: sa.Connection, database: Database, existing: set[str]) -> Status:
    missing = tuple(sorted(t.name for t in database.metadata.tables.values() if t.name not in existing))
    newest = revisions.newest(scripts_of(database))
    if newest and newest == revisions.recorded(connection, database, existing):
        return Status(database.name, newest, newest, (), missing)
    script = migration_scripts.directory(database)
    if script is None:
        return Status(database.name, "", "", (), missing)
    current = migration_scripts.context(connection, database).get_current_revision() or ""
    pending = migration_scripts.pending(script, current, database)
    lines = tuple(f"{s.revision}: {s.doc}" for s in pending)
    return Status(
        database.name, current, script.get_current_head() or "", lines, missing if not pending else ()
    )


def _upgrade(
    backend: DatabaseBackend, group: Sequence[Database], create: bool, unused: Collection[str]
) -> list[str]:
    if not any(s.behind for s in _status_of(backend, group, rights=True, unused=unused)):
        return []  # the ordinary start: no lock is taken
    progress = _Progress()
    with _connection(backend, write=True, progress=progress) as connection:
        done = _upgrade_framework(connection)
        for database in group:
            done += _upgrade_service(connection, database, create, progress)
    return done


def _upgrade_framework(connection: sa.Connection) -> list[str]:
    existing = set(sa.inspect(connection).get_table_names())
    have = _part_versions(connection, existing)
    made = sorted(schema.framework.tables.keys() - existing)
    names = f" ({', '.join(made)})" if len(made) <= NAMED_MAX else ""
    done = [f"tenfold: created {plural(len(made), 'table')} of its own{names}."] if made else []
    for part in schema.framework_parts():
        current = have.get(part.name)
        if current is not None and current < part.version:
            for step in part.pending(current):
                connection.exec_driver_sql(step)
            done.append(f"tenfold: {part.name} is at version {part.version} now.")
    schema.framework.create_all(connection)
    for part in schema.framework_parts():
        connection.execute(sa.delete(schema.versions).where(schema.versions.c.part == part.name))
        connection.execute(sa.insert(schema.versions).values(part=part.name, version=part.version))
    return done


def _upgrade_service(
    connection: sa.Connection, database: Database, create: bool, progress: _Progress
) -> list[str]:
    script = migration_scripts.directory(database)
    if script is None:
        return _create_tables(connection, database) if create else []
    from alembic.operations import Operations

    current = migration_scripts.context(connection, database).get_current_revision() or ""
    pending = migration_scripts.pending(script, current, database)
    if not pending:
        return []
    if create and not current and _is_as_declared(connection, database):
        migration_scripts.context(connection, database).stamp(script, "head")
        return [
            f"{database.name}: the tables are there, as declared; noted as migrated by {pending[-1].revision}."
        ]

    def steps(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs("head", revision)

    left = [f"{database.name} {s.revision} ({s.doc})" for s in pending]

    def applied(**_: Any) -> None:
        progress.applied.append(left.pop(0))
        progress.at = left[0] if left else ""
        if connection.dialect.name not in _TRANSACTIONAL_DDL:
            # The script's tables are there to stay, so the record of it has to be.
            connection.exec_driver_sql("COMMIT")

    progress.at = left[0]
    context = migration_scripts.context(connection, database, fn=steps, on_version_apply=[applied])
    with Operations.context(context):
        context.run_migrations()
    return [f"{database.name}: applied {s.revision} ({s.doc})." for s in pending]


def _create_tables(connection: sa.Connection, database: Database) -> list[str]:
    existing = set(sa.inspect(connection).get_table_names())
    missing = [t for t in database.metadata.sorted_tables if t.name not in existing]
    if not missing:
        return []
    database.metadata.create_all(connection, tables=missing)
    names = ", ".join(t.name for t in missing)
    return [
        f"{database.name}: created {names} as declared, without a migration. Before there is data to keep, run: "
        f'tenfold migrate --new "first tables" --service {database.name}'
    ]


def _is_as_declared(connection: sa.Connection, database: Database) -> bool:
    """Whether the database has every declared table, and just as it is declared."""
    from alembic import autogenerate

    existing = set(sa.inspect(connection).get_table_names())
    names = {table.name for table in database.metadata.tables.values()}
    if not names or not names <= existing:
        return False
    return not autogenerate.compare_metadata(
        migration_scripts.context(connection, database), database.metadata
    )


def _new(database: Database, message: str, empty: bool) -> Path | None:
    from alembic import autogenerate

    from tenfold.db import script as scripts

    if database.migrations is None:
        raise ConfigError("it has no folder for migrations.", where=f"database {database.name}")
    with _connection(database.backend, write=False) as connection:
        script = migration_scripts.directory(database)
        current = migration_scripts.context(connection, database).get_current_revision() or ""
        if script is not None and (pending := migration_scripts.pending(script, current, database)):
            raise SchemaBehind(
                f"{plural(len(pending), 'script')} of {database.name} must be applied before a new one is made.",
                remedy="Run: tenfold migrate",
            )
        # The first script makes every table, also those that this database got without one.
        hidden = {"include_name": lambda _name, type_, _parents: type_ != "table"} if script is None else {}
        context = migration_scripts.context(connection, database, **hidden)
        found = autogenerate.produce_migrations(context, database.metadata)
        assert found.upgrade_ops is not None
        if found.upgrade_ops.is_empty() and not empty:
            return None
        return scripts.write(database, context, found, message, after=current)


def _what(status: Status) -> str:
    parts = [plural(len(status.pending), "step")] if status.pending else []
    if status.missing:
        parts.append(f"no table {', '.join(status.missing)}")
    return ", ".join(parts)
