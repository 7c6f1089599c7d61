"""What differs between the servers that can be moved to, as SQL text. Pure, but for what runs on a connection.

While rows are copied, foreign keys must not be enforced: a row may arrive before the one that it refers to, and
replacing a row must not delete what refers to it. PostgreSQL's are taken off and put back; MariaDB's are off for the
connections of the copy only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from tenfold.errors import ConfigError
from tenfold.grow.tables import Subject


class Dialect(ABC):
    """One kind of server. Methods take a connection with an open transaction."""

    relax: str | None = None
    """Run at the begin of every transaction that copies."""

    @abstractmethod
    def drop_all(self, connection: sa.Connection, keep: str) -> None:
        """Drop everything in the database but the table ``keep``."""

    @abstractmethod
    def loosen(self, connection: sa.Connection) -> list[tuple[str, str, str]]:
        """Take the foreign keys off; answers (table, name, definition) of each."""

    @abstractmethod
    def tighten(self, connection: sa.Connection, keys: Sequence[tuple[str, str, str]]) -> None:
        """Put foreign keys back: new rows are checked from now on. Fast, whatever the size of the tables."""

    @abstractmethod
    def settle(self, keys: Sequence[tuple[str, str, str]], tables: Sequence[str]) -> list[str]:
        """Statements, each by itself, that check the rows that are there and gather statistics; nobody waits."""

    @abstractmethod
    def set_sequence(self, connection: sa.Connection, subject: Subject, last: int) -> None:
        """Let the next number that the table gives itself be beyond ``last``."""

    def quote(self, connection: sa.Connection, name: str) -> str:
        """An identifier as the server takes it."""
        return connection.dialect.identifier_preparer.quote(name)


class PostgreSQL(Dialect):
    """Constraints come back as NOT VALID, which takes no time, and are validated while the app runs."""

    _KEYS = sa.text(
        "SELECT c.conrelid::regclass::text, c.conname, pg_get_constraintdef(c.oid) FROM pg_constraint c "
        "WHERE c.contype = 'f' AND c.connamespace = current_schema()::regnamespace AND c.conparentid = 0 "
        "ORDER BY 1, 2"
    )

    def drop_all(self, connection: sa.Connection, keep: str) -> None:
        names = [name for name in sa.inspect(connection).get_table_names() if name != keep]
        if names:
            listed = ", ".join(self.quote(connection, name) for name in names)
            connection.exec_driver_sql(f"DROP TABLE {listed} CASCADE")
        types = "SELECT typname FROM pg_type WHERE typtype = 'e' AND typnamespace = current_schema()::regnamespace"
        for (name,) in connection.exec_driver_sql(types).fetchall():
            connection.exec_driver_sql(f"DROP TYPE {self.quote(connection, name)}")

    def loosen(self, connection: sa.Connection) -> list[tuple[str, str, str]]:
        found = [(str(table), str(name), str(text)) for table, name, text in connection.execute(self._KEYS)]
        for table, name, _ in found:
            connection.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT {self.quote(connection, name)}")
        return [(table, name, text.removesuffix(" NOT VALID")) for table, name, text in found]

    def tighten(self, connection: sa.Connection, keys: Sequence[tuple[str, str, str]]) -> None:
        for table, name, text in keys:
            quoted = self.quote(connection, name)
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD CONSTRAINT {quoted} {text} NOT VALID")

    def settle(self, keys: Sequence[tuple[str, str, str]], tables: Sequence[str]) -> list[str]:
        validate = [f'ALTER TABLE {table} VALIDATE CONSTRAINT "{name}"' for table, name, _ in keys]
        return [*validate, *(f'ANALYZE "{table}"' for table in tables)]

    def set_sequence(self, connection: sa.Connection, subject: Subject, last: int) -> None:
        names = {"t": self.quote(connection, subject.name), "c": subject.keys[0].name}
        owned = connection.execute(sa.text("SELECT pg_get_serial_sequence(:t, :c)"), names).scalar()
        if owned is not None:
            connection.execute(sa.text("SELECT setval(:s, :v)"), {"s": owned, "v": last})


class MariaDB(Dialect):
    """Its DDL commits by itself, so what is done here is done again when it was interrupted."""

    relax = "SET SESSION foreign_key_checks = 0"

    def drop_all(self, connection: sa.Connection, keep: str) -> None:
        connection.exec_driver_sql("SET SESSION foreign_key_checks = 0")
        for name in sa.inspect(connection).get_table_names():
            if name != keep:
                connection.exec_driver_sql(f"DROP TABLE {self.quote(connection, name)}")

    def loosen(self, connection: sa.Connection) -> list[tuple[str, str, str]]:
        return []

    def tighten(self, connection: sa.Connection, keys: Sequence[tuple[str, str, str]]) -> None:
        pass

    def settle(self, keys: Sequence[tuple[str, str, str]], tables: Sequence[str]) -> list[str]:
        return [f"ANALYZE TABLE `{table}`" for table in tables]

    def set_sequence(self, connection: sa.Connection, subject: Subject, last: int) -> None:
        table = self.quote(connection, subject.name)
        connection.exec_driver_sql(f"ALTER TABLE {table} AUTO_INCREMENT = {last + 1:d}")


def dialect_of(dialect: Any) -> Dialect:
    """How to speak to the server behind an SQLAlchemy dialect. Raises ConfigError for others."""
    known: dict[str, Dialect] = {"postgresql": PostgreSQL(), "mysql": MariaDB(), "mariadb": MariaDB()}
    if dialect.name not in known:
        raise ConfigError(
            f"a database cannot be moved to {dialect.name}.",
            where="--to",
            remedy="Name a postgresql:// or mysql:// database.",
        )
    return known[dialect.name]
