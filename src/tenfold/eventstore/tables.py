"""The tables of the event store, on the framework's metadata (they are created and upgraded with it)."""

from __future__ import annotations

from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import event as listening

from tenfold.db.schema import framework, framework_part

STREAM_MAX_CHARS = 255
CATEGORY_MAX_CHARS = 128
TYPE_MAX_CHARS = 128

_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_long = sa.Text()

event = sa.Table(
    "tenfold_event",
    framework,
    sa.Column("id", _big, primary_key=True, autoincrement=True),
    # The place among all events where that is not the id: MariaDB and MySQL, which give it after the commit. NULL
    # until then, and everywhere else.
    sa.Column("position", _big),
    sa.Column("category", sa.String(CATEGORY_MAX_CHARS), nullable=False),
    sa.Column("stream", sa.String(STREAM_MAX_CHARS), nullable=False),
    sa.Column("version", _big, nullable=False),
    sa.Column("type", sa.String(TYPE_MAX_CHARS), nullable=False),
    sa.Column("data", _long, nullable=False),
    sa.Column("metadata", _long),
    sa.Column("at", sa.Double(), nullable=False),
    sa.UniqueConstraint("category", "stream", "version", name="tenfold_event_version"),
    sqlite_autoincrement=True,  # an id is never used again: who follows has seen it
)
_placed = sa.Index("tenfold_event_position", event.c.position)
_placed.ddl_if(dialect=cast("Any", ("mysql", "mariadb")))

snapshot = sa.Table(
    "tenfold_event_snapshot",
    framework,
    sa.Column("category", sa.String(CATEGORY_MAX_CHARS), primary_key=True),
    sa.Column("stream", sa.String(STREAM_MAX_CHARS), primary_key=True),
    sa.Column("fingerprint", sa.String(32), nullable=False),
    sa.Column("version", _big, nullable=False),
    sa.Column("state", _long, nullable=False),
    sa.Column("at", sa.Double(), nullable=False),
)

gate = sa.Table(
    "tenfold_event_gate",
    framework,
    sa.Column("category", sa.String(CATEGORY_MAX_CHARS), primary_key=True),
)
"""Rows that stand for locks, on databases whose named locks do not end with a transaction. Empty on the others."""

place = sa.Table(
    "tenfold_event_place",
    framework,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("last", _big, nullable=False),
)
"""The last place that was given; one row, locked by who gives places. Empty where the id is the place."""

projection = sa.Table(
    "tenfold_projection",
    framework,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    # All events up to here have had their effect; of a synchronous one it is where its last rebuild ended.
    sa.Column("position", _big, nullable=False),
    sa.Column("error", _long),
    sa.Column("changed_at", sa.Double(), nullable=False),
    # Likewise for the shadow tables, while it is being rebuilt.
    sa.Column("rebuild_position", _big),
    sa.Column("rebuild_revision", sa.Integer),
)


_STORAGE = {
    # Rows that only come: vacuumed and analysed by number, not by a share of a hundred million.
    event: (
        "autovacuum_vacuum_insert_scale_factor = 0.0, autovacuum_vacuum_insert_threshold = 200000, "
        "autovacuum_analyze_scale_factor = 0.0, autovacuum_analyze_threshold = 100000"
    ),
    # Few rows that are changed all the time: the next version finds room on the same page.
    projection: "fillfactor = 50",
    snapshot: "fillfactor = 70",
}


def _storage(table: sa.Table, connection: sa.Connection, **_: Any) -> None:
    """After a table is made: how it is stored and vacuumed where that can be said."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"ALTER TABLE {table.name} SET ({_STORAGE[table]})"))


for _table in _STORAGE:
    listening.listen(_table, "after_create", _storage)

framework_part("eventstore")
