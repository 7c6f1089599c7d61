"""What the user of the URL may do with the tables that are there, and the GRANT that it lacks.

EXPLAIN needs the rights of the statement that it explains, and does nothing: so the server itself says what it would
refuse, whatever roles and patterns its grants are made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tenfold.db.backends import _mysql_errors as errors
from tenfold.db.schema import FEW, some
from tenfold.errors import ConfigError

if TYPE_CHECKING:
    from tenfold.db.backends._mysql_target import Target

_PROBES = {
    "SELECT": "SELECT 1 FROM {table} WHERE 1 = 0",
    "INSERT": "INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0",
    "UPDATE": "UPDATE {table} SET {column} = {column} WHERE 1 = 0",
    "DELETE": "DELETE FROM {table} WHERE 1 = 0",
}


def missing_rights(
    connection: sa.Connection, target: Target, written: Sequence[sa.Table], read: Sequence[sa.Table]
) -> ConfigError | None:
    """See :meth:`~tenfold.db.contract.DatabaseBackend.missing_rights`."""
    lacks = {table.name: [r for r in _PROBES if not _may(connection, table, r)] for table in written}
    lacks |= {table.name: ["SELECT"] for table in read if not _may(connection, table, "SELECT")}
    lacks = {table: rights for table, rights in lacks.items() if rights}
    if not lacks:
        return None
    grants = {table: ", ".join(rights) for table, rights in lacks.items()}
    if len(grants) > FEW:
        grants = {"*": ", ".join(_PROBES)}
    user = grantee(connection)
    said = "; ".join(
        f"GRANT {rights} ON {target.database}.{table} TO {user}" for table, rights in grants.items()
    )
    return ConfigError(
        f"its user {target.user!r} may not use {some(sorted(lacks))} of the app.", where="database.url",
        remedy=f"Let an administrator run: {said}",
    )  # fmt: skip


def refused_change(said: str, target: Target) -> ConfigError:
    """A migration may not do what it has to."""
    return ConfigError(
        f"its user {target.user!r} may not do what the migration has to: {said}.", where="database.url",
        remedy="Let an administrator run: GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES "
        f"ON {target.database}.* TO the account that it names; then: tenfold migrate",
    )  # fmt: skip


def grantee(connection: sa.Connection) -> str:
    """The account that the server takes the user for, as GRANT wants it."""
    user, _, host = str(connection.exec_driver_sql("SELECT current_user()").scalar_one()).rpartition("@")
    return f"'{user}'@'{host}'"


def _may(connection: sa.Connection, table: sa.Table, right: str) -> bool:
    names = connection.dialect.identifier_preparer
    column = names.format_column(next(iter(table.columns)))
    sql = _PROBES[right].format(table=names.format_table(table), column=column)
    try:
        connection.exec_driver_sql(f"EXPLAIN {sql}")
    except DBAPIError as error:  # that the session only reads is said to who has the right
        return error.orig is None or errors.number(error.orig) not in errors.DENIED
    return True
