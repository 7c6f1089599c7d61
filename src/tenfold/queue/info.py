"""What people see of the queue, and how they say which part of it they mean."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from tenfold.queue.message import FINISHED, Progress, State
from tenfold.queue.tables import archive, message


class MessageInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One message as people see it. Times are seconds since the epoch."""

    id: int
    kind: str
    handler: str
    state: State
    queue: str
    priority: int
    payload: str
    created_at: float
    failures: int
    crashes: int
    run_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    lease_until: float | None = None
    worker: str | None = None
    cancel: str | None = None
    """Who asked it to stop, and why, while it runs."""
    order_key: str | None = None
    unique_key: str | None = None
    event_id: str | None = None
    context: str | None = None
    progress: str | None = None
    error: str | None = None
    result: str | None = None
    result_until: float | None = None

    @property
    def attempts(self) -> int:
        """Runs so far that failed or died."""
        return self.failures + self.crashes

    @property
    def how_far(self) -> Progress | None:
        """The job's last word about its progress."""
        return msgspec.json.decode(self.progress, type=Progress) if self.progress else None

    @property
    def first_error_line(self) -> str:
        return (self.error or "").split("\n", 1)[0]

    @property
    def tenant(self) -> str | None:
        """Whose work it is."""
        found: dict[str, Any] = msgspec.json.decode(self.context) if self.context else {}
        return found.get("tenant")


class Count(NamedTuple):
    """How many messages of one queue are in one state."""

    queue: str
    state: str
    messages: int


class QueueInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One queue as people see it."""

    name: str
    messages: dict[str, int]
    """Unfinished ones by state, and dead ones."""
    paused_at: float | None = None
    paused_by: str | None = None
    """Who paused it, and why."""
    rate: str = ""
    concurrency: int | None = None
    fair: bool = True


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages: those that fit all of what is said."""

    state: State | None = None
    handler: str | None = None
    queue: str | None = None
    tenant: str | None = None
    older_than_s: float | None = None
    """Put in so long ago, or longer."""
    error: str | None = None
    """Part of the error's text, in the letters' case as the database compares."""

    def conditions(self, table: sa.Table, now: float) -> list[sa.ColumnElement[bool]]:
        """For a statement on the hot or the archived messages."""
        named = {"state": self.state, "handler": self.handler, "queue": self.queue}
        found = [table.c[name] == value for name, value in named.items() if value is not None]
        if self.older_than_s is not None:
            found.append(table.c.created_at <= now - self.older_than_s)
        if self.error is not None:
            found.append(table.c.error.contains(self.error, autoescape=True))
        if self.tenant is not None:
            member = f'"tenant":{msgspec.json.encode(self.tenant).decode()}'
            found.append(table.c.context.contains(member, autoescape=True))
        return found

    @property
    def hot(self) -> bool:
        """It may fit unfinished messages."""
        return self.state is None or self.state not in FINISHED

    @property
    def cold(self) -> bool:
        """It may fit finished messages."""
        return self.state is None or self.state in FINISHED


_SHARED = (
    "id", "kind", "handler", "state", "queue", "priority", "payload", "created_at", "failures", "crashes",
    "started_at", "order_key", "unique_key", "event_id", "context", "progress", "error",
)  # fmt: skip
_HOT = (*_SHARED, "run_at", "lease_until", "worker", "cancel")
_COLD = (*_SHARED, "finished_at", "result", "result_until")

hot = sa.select(*(message.c[name] for name in _HOT))
cold = sa.select(*(archive.c[name] for name in _COLD))
