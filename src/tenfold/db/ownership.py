"""Whose tables are whose: each service reaches its own, by a role of its own, and the database refuses the rest.

On PostgreSQL a plan makes the roles and grants each the tables of its service; it is computed from what the database
grants now, so a second one is empty. At its start, a process that serves some of the services asks what its role may
touch of the tables of the others. What all services share stays open to all: the framework's own tables (queue, outbox,
events, limits, keys), but for those that a service owns (those of accounts). Other engines: SQLite has no roles, whoever may open
the file may read all of it; on MariaDB give services databases of their own, with users of their own.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.exc import DBAPIError

from tenfold.db import schema
from tenfold.db.revisions import version_table
from tenfold.errors import ConfigError, DatabaseUnavailable

if TYPE_CHECKING:
    from tenfold.db.contract import DatabaseBackend
    from tenfold.db.database import Database

ROLE_CHARS_MAX = 63
"""PostgreSQL cuts longer names off, and two of them could become one."""
NAMED_MAX = 5


class Owned(Struct, frozen=True):
    """What one service is to reach."""

    service: str
    app: str
    tables: tuple[sa.Table, ...]
    """Its own."""
    read: tuple[sa.Table, ...] = ()
    """Those that it only reads: where its migrations stand."""

    @property
    def role(self) -> str:
        """See :func:`role_of`."""
        return role_of(self.app, self.service)


class Step(Struct, frozen=True):
    """One statement of a plan, and why. ``{password}`` in ``sql`` stands for one that is made when the plan is applied,
    for the role ``creates``."""

    sql: str
    why: str
    creates: str = ""


def role_of(app: str, service: str) -> str:
    """The role of a service: ``shop_orders``."""
    name = re.sub(r"[^a-z0-9_]+", "_", f"{app}_{service}".lower())
    if len(name) > ROLE_CHARS_MAX:
        raise ConfigError(
            f"the role {name!r} would be longer than {ROLE_CHARS_MAX} characters.", where=f"service {service}"
        )
    return name


def owned(
    app: str, databases: Iterable[Database], more: Mapping[str, Sequence[sa.Table]] | None = None
) -> list[Owned]:
    """What the services of an app own, by their databases; ``more`` are tables of the framework that belong to one of
    them, by its name."""
    return [
        Owned(
            each.name,
            app,
            (*each.metadata.tables.values(), *(more or {}).get(each.name, ())),
            (_versions(each),),
        )
        for each in databases
    ]


async def plan(backend: DatabaseBackend, services: Sequence[Owned]) -> list[Step]:
    """What is to be done so that each service reaches its own tables and the shared ones, and nothing else.

    Raises ConfigError where the engine cannot keep services apart.
    """
    mine = {table for each in services for table in each.tables}
    shared = [table for table in schema.framework.tables.values() if table not in mine]
    return await asyncio.to_thread(_plan, backend, services, shared)


async def apply(backend: DatabaseBackend, statements: Sequence[str]) -> None:
    """Run the statements of a plan, all or none. Raises ConfigError for a user who may not."""
    await asyncio.to_thread(_apply, backend, statements)


async def check(backend: DatabaseBackend, served: Sequence[Owned], others: Sequence[Owned]) -> str:
    """What the role of the URL can reach and should not, as a sentence with what to do; empty where that is nothing, and
    where the engine has no roles for it."""
    mine = {table.fullname for each in served for table in each.tables}
    theirs = [table for each in others for table in each.tables if table.fullname not in mine]
    found = await asyncio.to_thread(_usable, backend, theirs)
    if not found:
        return ""
    whose = sorted({each.service for each in others if {*found} & {table.fullname for table in each.tables}})
    more = f" and {len(found) - NAMED_MAX} more" if len(found) > NAMED_MAX else ""
    return (
        f"the role of this process can reach tables of {', '.join(whose)}, which it does not serve: "
        f"{', '.join(found[:NAMED_MAX])}{more}."
    )


def _versions(database: Database) -> sa.Table:
    return sa.Table(version_table(database), sa.MetaData())


def _plan(backend: DatabaseBackend, services: Sequence[Owned], shared: Sequence[sa.Table]) -> list[Step]:
    engine = backend.sync_engine(write=False)
    try:
        with engine.connect() as connection:
            steps = backend.plan_roles(connection, services, shared)
    except DBAPIError as error:
        raise backend.explain(error.orig) or DatabaseUnavailable(
            f"the roles cannot be read: {error.orig}."
        ) from None
    finally:
        engine.dispose()
    if steps is None:
        raise ConfigError(
            f"{engine.dialect.name} has no roles by which the services of one database are kept apart.",
            where="database.url",
            remedy="Use PostgreSQL, or give each service a database of its own where it runs.",
        )
    return steps


def _apply(backend: DatabaseBackend, statements: Sequence[str]) -> None:
    engine = backend.sync_engine(write=True)
    try:
        with engine.connect() as connection, connection.begin():
            for statement in statements:
                connection.exec_driver_sql(statement)
    except DBAPIError as error:
        said = str(
            error.orig
        ).strip()  # of the server: the statement, which may hold a password, is not in it
        raise ConfigError(
            f"its user may not do what the plan says: {said}. Nothing was changed.",
            where="database.url",
            remedy="Apply it as the owner of the tables, with the right CREATEROLE.",
        ) from None
    finally:
        engine.dispose()


def _usable(backend: DatabaseBackend, tables: Sequence[sa.Table]) -> list[str]:
    if not tables:
        return []
    engine = backend.sync_engine(write=False)
    try:
        with engine.connect() as connection:
            return backend.usable(connection, tables)
    except DBAPIError as error:
        raise DatabaseUnavailable(f"the rights of its user cannot be read: {error.orig}.") from error
    finally:
        engine.dispose()
