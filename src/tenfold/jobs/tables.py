"""The tables of flows and groups, on the framework's metadata.

``tenfold_step`` is what a flow has done and what it waits for; it is read by the flow's id only. What somebody else
puts there for a flow stands in tables of its own, so that no sender ever waits for a running flow.
"""

from __future__ import annotations

import sqlalchemy as sa

from tenfold.db.schema import framework, framework_part

_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_text = sa.Text()
_seconds: sa.Double[float] = sa.Double()

NAME_MAX_CHARS = 200
"""Longest name of a step or signal."""

step = sa.Table(
    "tenfold_step",
    framework,
    # the id of the flow's message
    sa.Column("flow_id", _big, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    # what would wake it: the name of a signal, the topic and key of an event, the id of a group
    sa.Column("awaits", sa.String(512)),
    # of an event: the number of the arrival that was taken
    sa.Column("position", _big),
    sa.Column("due_at", _seconds),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("result", _text),
    sa.Column("error", _text),
    sa.Column("created_at", _seconds, nullable=False),
    sa.Column("finished_at", _seconds),
    sqlite_with_rowid=False,
)

signal = sa.Table(
    "tenfold_signal",
    framework,
    sa.Column("id", _big, primary_key=True, autoincrement=True),
    sa.Column("flow_id", _big, nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("body", _text, nullable=False),
    sa.Column("at", _seconds, nullable=False),
    sqlite_autoincrement=True,
)
sa.Index("tenfold_signal_flow", signal.c.flow_id, signal.c.name, signal.c.id)

arrival = sa.Table(
    "tenfold_arrival",
    framework,
    sa.Column("id", _big, primary_key=True, autoincrement=True),
    sa.Column("awaits", sa.String(512), nullable=False),
    sa.Column("body", _text, nullable=False),
    sa.Column("at", _seconds, nullable=False),
    sa.Column("expires_at", _seconds, nullable=False),
    sqlite_autoincrement=True,
)
"""Events of topics that flows wait for: kept for a while, since a flow may begin to wait after its event has come."""
sa.Index("tenfold_arrival_awaits", arrival.c.awaits, arrival.c.id)
sa.Index("tenfold_arrival_expires", arrival.c.expires_at)

wait = sa.Table(
    "tenfold_wait",
    framework,
    sa.Column("awaits", sa.String(512), primary_key=True),
    sa.Column("flow_id", _big, primary_key=True, autoincrement=False),
)
"""Which flows wait for an event, to be found by whoever brings it."""

group = sa.Table(
    "tenfold_group",
    framework,
    # as it stands in the event_id of its members
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    # members below this number have ended, and are counted in done and failed
    sa.Column("passed", sa.Integer, nullable=False),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    # who is woken at the end: a flow, or one of two messages that are put into the queue
    sa.Column("flow_id", _big),
    sa.Column("on_done", _text),
    sa.Column("on_failed", _text),
    sa.Column("created_at", _seconds, nullable=False),
    sa.Column("finished_at", _seconds),
    sa.Column("expires_at", _seconds),
)
sa.Index("tenfold_group_state", group.c.state, group.c.id)
sa.Index("tenfold_group_expires", group.c.expires_at)

member = sa.Table(
    "tenfold_member",
    framework,
    sa.Column("group_id", sa.String(64), primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("message_id", _big, nullable=False),
    sqlite_with_rowid=False,
)

framework_part("jobs")
