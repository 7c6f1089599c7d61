"""What runs beside requests: jobs, queues, events, and whose turn it is."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from tenfold._core.sections.kinds import Count, Seconds


class WorkerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[worker]: runs jobs, subscribers and schedules"""

    enabled: bool = True
    concurrency: Count = 64
    batch: Count = 200
    """Messages claimed at a time."""
    lease_s: Seconds = 15.0
    """A worker that is silent for so long loses its messages to another."""
    poll_s: Seconds = 1.0
    """Longest time between two looks at the queue when no notification came."""
    processes: Count = 2
    """Size of the pool for CPU-bound jobs."""
    retention_s: Seconds = 604_800.0
    """How long finished messages and inbox rows are kept."""


class QueueSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[queues.NAME]: one queue; what is not said here is as declared with ``service.queue``"""

    rate: str | None = None
    """How many messages may start: "100/minute", or "100/minute burst 10"; empty for no limit."""
    concurrency: Count | None = None
    """How many messages may run at a time, in the whole fleet."""
    fair: bool | None = None
    """Whether tenants take turns. Default: yes."""
    keep_done_s: Seconds | None = None
    """How long messages that are done are kept. Default: worker.retention_s."""
    keep_dead_s: Seconds | None = None
    """How long dead ones are kept. Default: 90 days, or worker.retention_s where that is longer."""
    keep_cancelled_s: Seconds | None = None
    """How long cancelled ones are kept. Default: worker.retention_s."""


class TenantSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[tenants.NAME]: one tenant; who is not named here is as ``App(tenant_weight=…)`` says, or has weight 1"""

    weight: Annotated[float, Meta(ge=0.01, le=1000)] = 1.0
    """How many turns it has, where tenants take turns under pressure, for every one of a tenant of weight 1."""


class EventsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[events]: what carries events from topics to subscriptions"""

    url: str = ""
    """A broker: "rabbitmq://…", "kafka://h1:9092,h2:9092", "nats://…", "redis://…" (streams) or "sqs://…". Empty: the
    app's own database carries them."""
    prefix: str = "tenfold"
    """Begins every name that is made at the broker; apps that share one and are not to share events differ in it."""
    batch: Count = 2_000
    """Events that are published, or taken in, at a time."""
    timeout_s: Seconds = 10.0
    """How long the broker may take to confirm a batch, or to answer anything else."""
    poll_s: Seconds = 1.0
    """Longest time between two looks at the outbox when nobody told of something new."""
    lease_s: Seconds = 15.0
    """A process that publishes or takes in alone, and is silent for so long, is replaced by another."""
    redeliver_s: Seconds = 60.0
    """What was handed to a process that then fell silent is handed to another after so long."""
    outbox_keep_s: Seconds = 604_800.0
    """How long published events are kept, so that they can be published again to a broker that lost them."""
    inbox_keep_s: Seconds = 1_209_600.0
    """How long is remembered which events were handled. Longer than ``outbox_keep_s``, and than the broker keeps
    messages, or an old one that comes again would be handled again."""
    retry_max_s: Seconds = 30.0
    """Longest pause before the broker is tried again after it failed; the first ones are shorter."""
