"""A blocking engine (PyMySQL) for migrations.

DDL commits by itself here, so a migration that fails half-way leaves what it had done. The lock by name keeps two
migrations of one database apart.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pymysql
import sqlalchemy as sa
from pymysql.constants import CLIENT
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
from sqlalchemy.pool import NullPool

from tenfold.db.backends._mysql_dialect import Shared, json_text
from tenfold.db.backends._mysql_errors import refused_at_start
from tenfold.db.backends._mysql_target import Target, version_of
from tenfold.errors import DatabaseUnavailable

_NAME = "mysql.tenfold"


class SyncDialect(Shared, MySQLDialect_pymysql):  # type: ignore[misc] # the attributes are SQLAlchemy's to annotate
    """The same types, tables and statements as on the asynchronous side."""

    driver = "tenfold"
    supports_statement_cache = True

    def initialize(self, connection: sa.Connection) -> None:
        super().initialize(connection)
        self.supports_native_uuid = False


registry.register(_NAME, __name__, "SyncDialect")


def sync_engine(target: Target, *, write: bool) -> sa.Engine:
    """See :meth:`~tenfold.db.contract.DatabaseBackend.sync_engine`. Connecting raises DatabaseUnavailable when another
    migration does not end within the lock time-out."""

    def connect() -> Any:
        conn = _connect(target, write=write)
        if write:
            _lock(conn, target)
        return conn

    import msgspec

    return sa.create_engine(
        _NAME.replace(".", "+") + "://", creator=connect, poolclass=NullPool,
        json_serializer=json_text, json_deserializer=msgspec.json.decode,
    )  # fmt: skip


def _connect(target: Target, *, write: bool) -> Any:
    try:
        conn: Any = pymysql.connect(
            host=target.host, port=target.port, user=target.user, password=target.password,
            database=target.database, charset="utf8mb4", client_flag=CLIENT.FOUND_ROWS, ssl=target.ssl,
            connect_timeout=max(1, round(target.connect_timeout_s)),
        )  # fmt: skip
    except pymysql.err.MySQLError as error:
        raise refused_at_start(error) from error
    _, mariadb = version_of(conn.server_version)
    with conn.cursor() as cursor:
        for statement in target.session(mariadb=mariadb, access="READ WRITE" if write else "READ ONLY"):
            cursor.execute(statement)
        cursor.execute("SET SESSION autocommit = 0")
    return conn


def _lock(conn: Any, target: Target) -> None:
    """Until the connection ends."""
    name = "tenfold-migrate-" + hashlib.sha256(target.database.encode()).hexdigest()[:32]
    with conn.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, %s)", (name, target.lock_timeout_s))
        if cursor.fetchone()[0] != 1:
            conn.close()
            raise DatabaseUnavailable(
                f"another process has been migrating the database for {target.lock_timeout_s:g} s. Try again later."
            )
