"""The promise of a queue backend: the SQL of the message table for one kind of database.

* **Order.** Within one queue and lane, ready messages are claimed by priority (lower first), then by id, which
  is the order of their commits as far as the database numbers rows so. Messages of one ``order_key`` never run
  side by side and are claimed in the order of their ids; a key whose head fails, is parked or delayed holds up
  nothing but itself.
* **Loss and duplication.** A message exists if and only if the transaction that inserted it committed. A
  claimed message whose lease runs out is handed out again; only the holder of the newest fence can settle it.
* **Atomic with what?** Every method works inside the caller's transaction and commits with it.
* **Consistency.** A claim sees every message committed before it began.
* **Time-outs.** Statements end with the transaction's deadline; nothing waits for a message to appear.
* **Errors.** Those of the database (``errors.DatabaseError``). A settlement that lost its lease is reported in
  the answer, not raised.

Times are wall-clock seconds since the epoch; they come from the caller's clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx
    from tenfold.queue.message import Beat, Claim, Message, NewMessage, Settlement
    from tenfold.queue.policy import Lane


class Stored(NamedTuple):
    """Where a message went: its id, and whether it is an older one with the same unique key."""

    id: int
    existed: bool


class Look(NamedTuple):
    """What a glance at the queue shows."""

    lanes: list[Lane]
    """Those with ready messages."""
    due_at: float | None
    """Earliest time of a delayed message."""
    lease_until: float | None
    """Earliest end of a lease."""
    server_at: float | None = None
    """The server's clock; None where it is that of this machine."""
    paused: frozenset[str] = frozenset()
    """Queues of which nothing is claimed."""


class Expired(NamedTuple):
    """A running message whose lease has run out."""

    id: int
    fence: int
    crashes: int
    cancel: str | None
    """Who wants it stopped and why, if anybody does."""
    queue: str = ""


class Keep(NamedTuple):
    """How long finished messages are kept, in seconds; ``queues`` differ."""

    done_s: float
    dead_s: float
    cancelled_s: float | None = None
    """Default: as long as done ones."""
    queues: Mapping[str, Keep] | None = None
    inbox_s: float = 0.0
    """How long events are remembered that were handled or given up, when that is longer: a broker may deliver old ones
    again."""

    def seconds(self, queue: str, state: str) -> float:
        """For one message."""
        said = self.queues.get(queue, self) if self.queues else self
        if state == "cancelled" and said.cancelled_s is not None:
            return said.cancelled_s
        return said.dead_s if state == "dead" else said.done_s


USUAL_KEEP = Keep(done_s=7 * 86_400.0, dead_s=90 * 86_400.0, cancelled_s=7 * 86_400.0)
"""Dead letters wait so long for somebody to look at them, unless they are told to wait longer."""


class QueueBackend(ABC):
    """See the module's docstring for the guarantees; :class:`Inbox` is the other half.

    It has fourteen methods, one per kind of statement: each is a round trip that the worker counts on.
    """

    insert_max: int = 1_000
    """Messages that one ``insert`` may be given."""

    @abstractmethod
    async def hold_keys(self, tx: Tx, keys: Sequence[str]) -> None:
        """From the next statement of ``tx`` until it ends, nobody else adds messages of these order keys or moves their
        lines on."""

    def one_statement(self, rows: Sequence[NewMessage]) -> bool:
        """Whether :meth:`insert` adds these by one statement, besides what is sent ahead of it, so that it may be committed
        together with it."""
        return False

    @abstractmethod
    async def insert(self, tx: Tx, rows: Sequence[NewMessage]) -> list[Stored]:
        """Add messages in order; one whose unique key is pending already is not added again."""

    @abstractmethod
    async def look(self, reader: Reader) -> Look:
        """What there is to do, by one cheap read: in time proportional to the number of lanes, not to that of
        the messages."""

    @abstractmethod
    async def running(self, tx: Tx, handlers: Collection[str]) -> dict[str, int]:
        """Running messages of the handlers with a concurrency limit, of all workers; until ``tx`` ends, nobody
        else who asks this claims messages of theirs."""

    @abstractmethod
    async def wake_due(self, tx: Tx, now: float, limit: int) -> int:
        """Make delayed messages ready whose time has come; answers how many."""

    @abstractmethod
    async def wake(self, tx: Tx, ids: Collection[int], now: float) -> int:
        """Make these of the delayed messages ready now, whatever they were waiting for; answers how many were
        delayed. Others are left as they are: one that is running, for one, will not hear of it."""

    @abstractmethod
    async def expired(self, tx: Tx, now: float, limit: int) -> list[Expired]:
        """Running messages whose lease has run out."""

    @abstractmethod
    async def claim(self, tx: Tx, claim: Claim, worker: str, now: float, lease_until: float) -> list[Message]:
        """Take ready messages of nobody's share of one lane, by priority, then id; their fence is raised. A queue
        that was paused when this began gives none."""

    @abstractmethod
    async def claim_in_turn(
        self, tx: Tx, claim: Claim, after: str, worker: str, now: float, lease_until: float
    ) -> list[Message]:
        """Like :meth:`claim` for a lane with shares: from those that follow the share ``after``, in a ring, equally
        many of each (rounded down), and of each by priority, then id. In time proportional to the messages taken,
        however many shares there are and however many messages stand in one."""

    @abstractmethod
    async def extend(
        self, tx: Tx, held: Sequence[tuple[int, int]], lease_until: float, progress: Mapping[int, str]
    ) -> Beat:
        """Heartbeat of ``(id, fence)`` pairs: prolongs their leases and keeps the progress given."""

    @abstractmethod
    async def asked_to_stop(self, reader: Reader, ids: Collection[int]) -> dict[int, str]:
        """Which of these messages somebody wants stopped, with who and why; a read, by their ids."""

    @abstractmethod
    async def settle(self, tx: Tx, settlements: Sequence[Settlement], now: float, keep: Keep) -> set[int]:
        """Record what became of claimed messages; answers the ids whose lease was lost (not recorded). An event that
        ends as dead or cancelled is given up: see :meth:`Inbox.remember`."""

    @abstractmethod
    async def adopt(self, tx: Tx, lanes: Mapping[str, str], now: float) -> int:
        """Unpark the messages of the handlers in ``lanes``, into the lane of each; answers how many."""

    @abstractmethod
    async def prune(self, tx: Tx, now: float, limit: int) -> int:
        """Remove at most ``limit`` each of expired archive rows, results and inbox rows."""


class Inbox(ABC):
    """Remembers which events a subscription has handled, in the transaction of their effect, and which it has given up,
    in that of the settlement."""

    @abstractmethod
    async def remember(self, tx: Tx, subscription: str, event_id: str, expires_at: float) -> bool:
        """True when the event is new to the subscription; it is remembered until ``expires_at``.

        One that was given up is not new either: its key went on, so that another delivery would take effect behind what
        follows it. Who brings it back removes what was remembered of it. A message with a unique key says itself when
        it may come again, and is not remembered as given up."""
