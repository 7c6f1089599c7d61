"""The tables of the queue, on the framework's metadata (they are created and upgraded with it).

``tenfold_message`` holds hot rows only, so that a claim costs the same whether ten or ten million messages
have been finished. Every index that a claim walks is partial to one state: what is delayed, waits behind its
key, is parked or running is never between a claim and the ready messages.
"""

from __future__ import annotations

from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import event

from tenfold.db.schema import framework, framework_part

_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_text = sa.Text()
_seconds: sa.Double[float] = sa.Double()


def _partial(name: str, condition: str, *columns: sa.Column[Any], unique: bool = False) -> None:
    """An index on the rows of one condition only, where the database has such.

    An option of a dialect that is named here would import the dialect at every start, also where it is not
    used. So the others get theirs when the tables are made (:func:`_in_this_dialect`).
    """
    index = sa.Index(name, *columns, unique=unique, sqlite_where=sa.text(condition))
    index.info["partial"] = condition
    if condition.startswith("state = ") and columns[0] is not message.c.order_key:
        index.info["lead"] = (
            "state"  # where no index is partial, it begins with what would have been the condition
        )


message = sa.Table(
    "tenfold_message",
    framework,
    sa.Column("id", _big, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("handler", sa.String(255), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("queue", sa.String(64), nullable=False),
    sa.Column("lane", sa.String(255), nullable=False),
    # Whose turn it is: the tenant in a fair queue, else nobody's.
    sa.Column("share", sa.String(255), nullable=False, server_default=""),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("run_at", _seconds, nullable=False),
    sa.Column("created_at", _seconds, nullable=False),
    sa.Column("payload", _text, nullable=False),
    sa.Column("context", _text),
    sa.Column("order_key", sa.String(512)),
    # unique_key is what was asked for; pending_key is the same while the message is pending, else NULL, so
    # that a plain unique index means "one pending" on every database.
    sa.Column("unique_key", sa.String(512)),
    sa.Column("pending_key", sa.String(512)),
    # Likewise of order_key: head_key is the same for the one message of a key that may run next or does, and
    # NULL for those in line behind it, so that two heads of one key cannot be.
    sa.Column("head_key", sa.String(512)),
    sa.Column("event_id", sa.String(64)),
    # fence is raised by every claim and never lowered.
    sa.Column("fence", sa.Integer, nullable=False, server_default="0"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("crashes", sa.Integer, nullable=False, server_default="0"),
    sa.Column("worker", sa.String(128)),
    sa.Column("lease_until", _seconds),
    sa.Column("started_at", _seconds),
    # NULL, or the sentence of who wants it stopped, and why.
    sa.Column("cancel", _text),
    sa.Column("progress", _text),
    sa.Column("error", _text),
    sqlite_autoincrement=True,  # an id is never used again: the archive and handles keep it
)
_c = message.c
_partial("tenfold_message_ready", "state = 'ready'", _c.queue, _c.lane, _c.share, _c.priority, _c.id)
_partial("tenfold_message_due", "state = 'delayed'", _c.run_at)
# By the lease, not by the state: who settles messages by id must not be led to walk over all that run.
_partial("tenfold_message_lease", "lease_until IS NOT NULL", _c.lease_until)
_partial("tenfold_message_limited", "state = 'running' AND lane <> ''", _c.handler, _c.queue)
_limited = next(index for index in message.indexes if index.name == "tenfold_message_limited")
_limited.ddl_if(dialect=cast("Any", ("sqlite", "postgresql")))  # elsewhere it would be much like the next
_partial("tenfold_message_parked", "state = 'parked'", _c.handler)
_partial("tenfold_message_line", "state = 'waiting'", _c.order_key, _c.id)
_partial("tenfold_message_head", "head_key IS NOT NULL", _c.head_key, unique=True)
_head = next(index for index in message.indexes if index.name == "tenfold_message_head")
_head.ddl_if(dialect=cast("Any", ("sqlite", "postgresql")))
# InnoDB looks for doubles by locking the entry behind, too, which is the head of another key: two who move other
# lines on would wait for each other. There, that one head is all is the doing of who holds the key alone.
sa.Index("tenfold_message_head", _c.head_key).ddl_if(dialect=cast("Any", ("mysql", "mariadb")))
_partial("tenfold_message_unique", "pending_key IS NOT NULL", _c.pending_key, unique=True)

archive = sa.Table(
    "tenfold_message_archive",
    framework,
    sa.Column("id", _big, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("handler", sa.String(255), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("queue", sa.String(64), nullable=False),
    sa.Column("lane", sa.String(255), nullable=False),
    sa.Column("share", sa.String(255), nullable=False, server_default=""),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("created_at", _seconds, nullable=False),
    sa.Column("started_at", _seconds),
    sa.Column("finished_at", _seconds, nullable=False),
    sa.Column("payload", _text, nullable=False),
    sa.Column("context", _text),
    sa.Column("order_key", sa.String(512)),
    sa.Column("unique_key", sa.String(512)),
    sa.Column("event_id", sa.String(64)),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("crashes", sa.Integer, nullable=False),
    sa.Column("progress", _text),
    sa.Column("error", _text),
    sa.Column("result", _text),
    sa.Column("result_until", _seconds),
    sa.Column("expires_at", _seconds, nullable=False),
)
sa.Index("tenfold_archive_expires", archive.c.expires_at)
_partial("tenfold_archive_dead", "state = 'dead'", archive.c.id)
_partial("tenfold_archive_result", "result IS NOT NULL", archive.c.result_until)

inbox = sa.Table(
    "tenfold_inbox",
    framework,
    sa.Column("subscription", sa.String(255), primary_key=True),
    sa.Column("event_id", sa.String(64), primary_key=True),
    sa.Column("expires_at", _seconds, nullable=False),
    # NULL: it was handled. Else it was not and will not be, unless somebody brings it back: a delivery that comes after
    # its key went on would take effect behind what follows it.
    sa.Column("given_up_at", _seconds),
    sqlite_with_rowid=False,
)
sa.Index("tenfold_inbox_expires", inbox.c.expires_at)

schedule = sa.Table(
    "tenfold_schedule",
    framework,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("spec", sa.String(255), nullable=False),
    sa.Column("next_at", _seconds, nullable=False),
    sa.Column("last_at", _seconds),
    # Ticks that were not made because nobody was there for them, and the last time that happened.
    sa.Column("missed", sa.Integer, nullable=False, server_default="0"),
    sa.Column("missed_at", _seconds),
)

queue = sa.Table(
    "tenfold_queue",
    framework,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("paused_at", _seconds),
    # Who paused it, and why.
    sa.Column("paused_by", _text),
    # Of a queue with a rate: see guard/gcra.py. Microseconds on the database's clock.
    sa.Column("tat_us", sa.BigInteger, nullable=False, server_default="0"),
)
"""Queues that are paused, were so once, or have a limit. All others are in the names of their messages only."""


def _in_this_dialect(table: sa.Table, connection: sa.Connection, **_: Any) -> None:
    """Before a table is made: what its indexes are called in the dialect at hand."""
    if connection.dialect.name == "postgresql":
        for index in table.indexes:
            if "partial" in index.info:
                index.dialect_options["postgresql"]["where"] = sa.text(index.info["partial"])


_STORAGE = {
    # Each message is written, claimed and removed: dead rows are swept up by number, however few live ones there
    # are, a claimed row finds room on its own page, and sweeping never locks out the others to shrink the file.
    message: (
        "fillfactor = 70, vacuum_truncate = off, autovacuum_vacuum_cost_delay = 0, "
        "autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000, "
        "autovacuum_analyze_scale_factor = 0.0, autovacuum_analyze_threshold = 5000"
    ),
    # Written once and removed by age: swept by number, not by a share of ten million rows.
    archive: (
        "autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 50000, "
        "autovacuum_vacuum_insert_scale_factor = 0.0, autovacuum_vacuum_insert_threshold = 200000"
    ),
    inbox: "autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 50000",
}

# A plan is made once per connection and kept. Were it made while the table's file is nearly empty, it would read
# all of the file, and go on to do so when ten thousand messages have come. So the file is born with some pages.
_PAGES = (
    "INSERT INTO tenfold_message (id, kind, handler, state, queue, lane, priority, run_at, created_at, payload) "
    "SELECT -i, '', '', 'unborn', '', '', 0, 0, 0, repeat(' ', 1500) FROM generate_series(1, 768) AS i",
    "DELETE FROM tenfold_message WHERE id < 0",
)


def _storage(table: sa.Table, connection: sa.Connection, **_: Any) -> None:
    """After a table is made: how it is stored and vacuumed where that can be said."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"ALTER TABLE {table.name} SET ({_STORAGE[table]})"))
        for statement in _PAGES if table is message else ():
            connection.execute(sa.text(statement))


for _table in (message, archive, inbox):
    event.listen(_table, "before_create", _in_this_dialect)
    event.listen(_table, "after_create", _storage)

lock = sa.Table(
    "tenfold_queue_lock",
    framework,
    sa.Column("bucket", sa.Integer, primary_key=True, autoincrement=False),
)
"""Rows that stand for locks, on databases whose named locks do not end with a transaction. Empty on the others."""
LOCKS = 2048
"""All of them are there from the beginning. Were they made when first asked for, then who takes several would have
some already when it makes those that are missing, which is another order than that of who finds them all."""


def _locks(table: sa.Table, connection: sa.Connection, **_: Any) -> None:
    """After the table of locks is made."""
    if connection.dialect.name in ("mysql", "mariadb"):
        rows = ", ".join(f"({bucket})" for bucket in range(LOCKS))
        connection.execute(sa.text(f"INSERT INTO {table.name} (bucket) VALUES {rows}"))  # noqa: S608 - numbers


event.listen(lock, "after_create", _locks)

framework_part("queue")
