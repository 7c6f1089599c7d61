"""What moves through the queue: a message as it is put in, claimed, and settled.

The life of a message (one row of ``tenfold_message`` until it is finished, then one of the archive)::

    put ─→ delayed ──due──→ ready ──claim──→ running ─→ done | dead | cancelled   (archive)
       ├─→ waiting ─first of its key─→ ready    ├─→ delayed     failed, will be retried
       └─→ ready                                ├─→ delayed     a flow waits, holding no worker
                                                ├─→ ready       worker stopped or died
                                                └─→ parked      nobody knows how to run it

Every claim raises the row's ``fence``. A worker may only settle the row with the fence it claimed, so whoever
lost the lease cannot commit anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

Kind = Literal["job", "event", "tick"]
State = Literal["ready", "delayed", "waiting", "running", "parked", "done", "dead", "cancelled"]
Verdict = Literal["done", "dead", "cancelled", "retry", "wait", "park", "release", "crash"]

PENDING: tuple[State, ...] = ("ready", "delayed", "waiting", "parked")
FINISHED: tuple[State, ...] = ("done", "dead", "cancelled")

GROUP, GROUP_WITH_RESULTS = "b:", "r:"
"""How the ``event_id`` of a job begins that belongs to a group; the second keeps what each member returns."""

PRIORITY_MIN, PRIORITY_MAX = -32_768, 32_767


class NewMessage(msgspec.Struct, array_like=True):
    """A message to be put into the queue. Times are seconds since the epoch, UTC."""

    kind: Kind
    handler: str
    payload: str
    """JSON text: the arguments of a job, the body of an event."""
    context: str | None
    """JSON text of the sender's context (trace, request id, tenant), or None."""
    queue: str
    lane: str
    """Empty, or the handler's name when it has a concurrency limit: lanes are claimed apart."""
    priority: int
    """Lower runs first within one queue."""
    run_at: float
    created_at: float
    order_key: str | None = None
    """Messages of one key run one after another, in the order of their ids."""
    unique_key: str | None = None
    """At most one message with this key is pending at a time."""
    event_id: str | None = None
    """The same for every subscription of one published event, or for every job of one group."""
    state: State = "ready"
    share: str = ""
    """In a fair queue the tenant: shares of one lane are claimed in turn."""


def alike(first: NewMessage, payloads: Iterable[str]) -> list[NewMessage]:
    """One message per payload; all else is that of ``first``, which has no unique key."""
    m = first
    return [
        NewMessage(
            m.kind, m.handler, payload, m.context, m.queue, m.lane, m.priority, m.run_at, m.created_at, m.order_key,
            None, m.event_id, m.state, m.share,
        )
        for payload in payloads
    ]  # fmt: skip


class Message(NamedTuple):
    """A claimed message: what a worker needs to run it, in the order of the claim's columns."""

    id: int
    fence: int
    kind: Kind
    handler: str
    payload: str
    context: str | None
    queue: str
    lane: str
    priority: int
    run_at: float
    created_at: float
    failures: int
    crashes: int
    order_key: str | None
    event_id: str | None
    progress: str | None
    share: str = ""

    @property
    def attempt(self) -> int:
        """Number of this run, starting at 1."""
        return self.failures + self.crashes + 1

    @property
    def group(self) -> str | None:
        """The group that a job belongs to (a batch, or the jobs that a flow waits for)."""
        return self.event_id if self.kind == "job" else None


class Settlement(msgspec.Struct, array_like=True):
    """What became of one claimed message."""

    id: int
    fence: int
    verdict: Verdict
    run_at: float = 0.0
    """For ``retry`` and ``wait``: when it runs again."""
    failures: int = 0
    """For ``retry`` and ``dead``: failures counted by this run (0 or 1); negative to forget earlier ones."""
    error: str | None = None
    result: str | None = None
    """JSON text, only for handlers that keep results."""
    result_until: float | None = None
    progress: str | None = None
    crashes: int = 0
    """For ``crash`` and ``dead``: crashes counted by this run (0 or 1); negative to forget earlier ones."""
    suspect: bool = False
    """For ``crash``: it died often enough to be run apart from other suspects."""
    lane: str | None = None
    """For ``release``: the lane where it is to stand from now on."""
    queue: str = ""
    """The message's, by which it is known how long it is kept."""
    order_key: str | msgspec.UnsetType | None = msgspec.UNSET
    """The message's, where whoever settles it knows it: its line can then move on in the same round trip."""
    frees: bool = True
    """Another message of its key may be ready now. A backend that has seen that none waited says so here."""


class Claim(NamedTuple):
    """How many messages to take from one lane of one queue."""

    queue: str
    lane: str
    limit: int


class Beat(NamedTuple):
    """Answer to a heartbeat: fences that were lost, and messages somebody wants cancelled, with who and why."""

    lost: set[int]
    cancelled: dict[int, str]


class Progress(msgspec.Struct, frozen=True):
    """How far a job says it is."""

    done: float
    total: float
    note: str = ""
    at: float = 0.0
