"""The tables of outgoing webhooks, on the framework's metadata. Imported by apps that send webhooks only."""

from __future__ import annotations

import sqlalchemy as sa

from tenfold.db.schema import framework, framework_part

_seconds: sa.Double[float] = sa.Double()
_long = sa.Text().with_variant(sa.Text(16_777_215), "mysql", "mariadb")
"""MariaDB gives a plain TEXT 64 KiB."""

endpoint = sa.Table(
    "tenfold_webhook_endpoint",
    framework,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("service", sa.String(64), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("topics", sa.Text, nullable=False),
    sa.Column("owner", sa.String(254), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    # Sealed with a key that is not in the database; see vault.py.
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("old_secret", sa.Text),
    sa.Column("old_secret_until", _seconds),
    sa.Column("concurrency", sa.Integer, nullable=False),
    sa.Column("ordered", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("failing_since", _seconds),
    sa.Column("created_at", _seconds, nullable=False),
)
sa.Index("tenfold_webhook_endpoint_service", endpoint.c.service)

event = sa.Table(
    "tenfold_webhook_event",
    framework,
    sa.Column("service", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("topic", sa.String(255), nullable=False),
    sa.Column("order_key", sa.String(512)),
    sa.Column("body", _long, nullable=False),
    sa.Column("created_at", _seconds, nullable=False),
)
sa.Index("tenfold_webhook_event_age", event.c.created_at)

delivery = sa.Table(
    "tenfold_webhook_delivery",
    framework,
    sa.Column("endpoint_id", sa.String(36), primary_key=True),
    sa.Column("event_id", sa.String(64), primary_key=True),
    sa.Column("topic", sa.String(255), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    # The id of the message that began it: in the order of publication, for each key.
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    # Raised by each replay: what was planned for the round before is void.
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("said", sa.Text, nullable=False),
    sa.Column("duration_ms", _seconds),
    sa.Column("tried_at", _seconds),
    sa.Column("next_at", _seconds),
    sa.Column("created_at", _seconds, nullable=False),
)
sa.Index("tenfold_webhook_delivery_age", delivery.c.created_at)
sa.Index("tenfold_webhook_delivery_endpoint", delivery.c.endpoint_id, delivery.c.position)

framework_part("webhooks")
