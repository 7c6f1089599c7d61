"""The promise of an event store's backend: streams of events in one kind of database.

* **Order.** The events of a stream have the versions 1, 2, 3 … without gaps. All events together have one order, by
  *position*, in which those of a stream keep theirs. Positions may have gaps. Whoever has read everything up to
  :meth:`~EventStoreBackend.horizon` has read all that will ever be there, however late something commits.
* **Loss and duplication.** No two events of a stream have the same version. Events are never changed or removed.
* **Atomic with what?** Every method works inside the caller's transaction and commits with it. The events of one
  :class:`Write` are appended all or not at all; of several writes, some may be refused and the others not.
* **Consistency.** A read sees what was committed before it began, and what its own transaction has appended. The
  positions of what is not committed yet are nobody's business.
* **Time-outs.** Statements end with the transaction's deadline. An append waits for another transaction that has
  appended to the same stream and is not over, and for who holds the category (:meth:`~EventStoreBackend.hold`).
* **Errors.** Those of the database (``errors.DatabaseError``). A version that is not the expected one is told in the
  answer, and the transaction can go on: where it is READ COMMITTED, the next read sees the version that won.

Times are wall-clock seconds since the epoch; they come from the caller's clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx

ANY_VERSION = -1
"""As the expected version: whatever it is."""
END = 2**62
"""A version and a position that nothing reaches."""


class NewEvent(NamedTuple):
    """What is appended."""

    type: str
    data: str


class Last(NamedTuple):
    """By what the newest event of a stream is known again."""

    data: str
    at: float


class Write(NamedTuple):
    """Events for one stream, which has ``expected`` events so far (or :data:`ANY_VERSION`)."""

    stream: str
    expected: int
    events: Sequence[NewEvent]
    last: Last | None = None
    """What the event ``expected`` is, for who has not read it now: where it is another one, so is the version."""


class Stamp(NamedTuple):
    """What the events of one append have in common."""

    at: float
    metadata: str | None


class Want(NamedTuple):
    """The events of ``stream`` with a version above ``after``."""

    stream: str
    after: int = 0


class Bounds(NamedTuple):
    """Which part of the streams, and which snapshots, are wanted."""

    version: int = END
    """No event above this version."""
    at: float = float(END)
    """No snapshot of a later state."""
    fingerprint: str = ""
    """Of the snapshots that may stand for the events before them; empty: none."""


class EventRow(NamedTuple):
    """An event, or with the type ``""`` a snapshot, whose data is the state after the event of that version."""

    id: int
    """In :meth:`EventStoreBackend.follow` the position."""
    category: str
    stream: str
    version: int
    type: str
    data: str
    metadata: str | None
    at: float


class SnapshotRow(NamedTuple):
    stream: str
    version: int
    state: str
    at: float


class EventStoreBackend(ABC):
    """See the module's docstring for the guarantees."""

    append_max: int = 2_000
    """Events that one ``append`` may be given."""

    @abstractmethod
    async def append(
        self, tx: Tx, category: str, writes: Sequence[Write], stamp: Stamp, *, gated: bool
    ) -> dict[str, int]:
        """Append each write whose stream has the expected version; answers the newest version of those streams.

        ``writes`` are of different streams, none without events. With ``gated`` nobody can :meth:`hold` the category
        until ``tx`` ends.
        """

    @abstractmethod
    async def read(
        self, reader: Reader, category: str, wants: Sequence[Want], bounds: Bounds, limit: int
    ) -> list[EventRow]:
        """At most ``limit`` rows, those of one stream together and by version. A snapshot comes first and stands for
        the events up to it; only streams that are wanted from the beginning have one."""

    @abstractmethod
    async def versions(self, reader: Reader, category: str, streams: Collection[str]) -> dict[str, int]:
        """The newest version of each stream; those without events are left out."""

    @abstractmethod
    async def save(self, tx: Tx, category: str, fingerprint: str, snapshots: Sequence[SnapshotRow]) -> None:
        """Keep snapshots, one per stream: the newest state wins, unless the one there is of another fingerprint."""

    @abstractmethod
    async def horizon(self, tx: Tx) -> int:
        """A position at or below which nothing can appear any more. It reaches every event that was committed, as
        soon as the transactions are over that appended something before it and had not committed then."""

    @abstractmethod
    async def follow(
        self, reader: Reader, categories: Collection[str], after: int, until: int, limit: int
    ) -> list[EventRow]:
        """Events with positions above ``after`` and up to ``until``, in their order; of all categories when none is
        named. Complete as far as ``until`` is at or below a :meth:`horizon`."""

    @abstractmethod
    async def hold(self, tx: Tx, categories: Collection[str]) -> None:
        """Wait until all gated appends to the categories are committed or rolled back, and let none begin until ``tx``
        ends. After it, :meth:`follow` without a bound sees all of their events, once :meth:`horizon` was asked."""
