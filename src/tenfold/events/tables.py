"""The outbox, on the framework's metadata: one row per published event, from the publisher's transaction.

A row is unsent while ``sent_at`` is NULL. The relay finds unsent rows by an index on nothing else, so that a week of
rows that were sent, and are kept for a replay, costs it nothing.
"""

from __future__ import annotations

from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import event

from tenfold.db.schema import framework, framework_part

_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

outbox = sa.Table(
    "tenfold_outbox",
    framework,
    sa.Column("id", _big, primary_key=True, autoincrement=True),
    sa.Column("topic", sa.String(255), nullable=False),
    sa.Column("event_key", sa.String(512)),
    sa.Column("event_id", sa.String(64), nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("context", sa.Text),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("sent_at", sa.Double),
    # What the broker last said of it, and how often it has refused: for people, not for the relay.
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error", sa.Text),
    sqlite_autoincrement=True,  # an id is never used again: order is the order of ids
)
_unsent = sa.Index("tenfold_outbox_unsent", outbox.c.id, sqlite_where=sa.text("sent_at IS NULL"))
_sent = sa.Index("tenfold_outbox_sent", outbox.c.sent_at, outbox.c.id)

PARTIAL = ("sqlite", "postgresql")
"""Databases whose indexes can be partial; on the others the index of sent rows, which begins with NULL, serves both."""
_unsent.ddl_if(dialect=cast("Any", PARTIAL))


def _in_this_dialect(table: sa.Table, connection: sa.Connection, **_: Any) -> None:
    """Naming PostgreSQL's option at the top would import its dialect at every start."""
    if connection.dialect.name == "postgresql":
        _unsent.dialect_options["postgresql"]["where"] = sa.text("sent_at IS NULL")


def _storage(table: sa.Table, connection: sa.Connection, **_: Any) -> None:
    """Each row is written, marked, and removed by age: swept by number, not by a share of a week's rows."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            sa.text(
                "ALTER TABLE tenfold_outbox SET (fillfactor = 85, autovacuum_vacuum_cost_delay = 0, "
                "autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 20000, "
                "autovacuum_analyze_scale_factor = 0.0, autovacuum_analyze_threshold = 50000)"
            )
        )


event.listen(outbox, "before_create", _in_this_dialect)
event.listen(outbox, "after_create", _storage)

framework_part("events")
