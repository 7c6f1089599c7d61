"""From events to states: folds pages of rows, beginning at what is known, a snapshot, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tenfold.errors import WrongArguments
from tenfold.eventstore.contract import Bounds, EventRow, Want
from tenfold.eventstore.states import Known, States

if TYPE_CHECKING:
    from tenfold.db.database import Reader
    from tenfold.eventstore.contract import EventStoreBackend
    from tenfold.eventstore.types import EventTypes, StateCodec

S = TypeVar("S")

PAGE = 1_000
"""Rows that are read at a time."""


@dataclass(slots=True)
class Folded(Generic[S]):
    """A state, how far it has come, and the event that it was made up to."""

    state: S
    version: int = 0
    snapshot_version: int = 0
    """Of the snapshot that it began with, or 0."""
    last: EventRow | None = None
    closed: bool = False
    """An event that is later than wanted was met: those behind it do not count either."""

    def known(self) -> Known[S] | None:
        """What may be remembered of it; None where no event tells how far it has come."""
        if self.last is None or self.closed:
            return None
        return Known(self.version, self.state, self.last.data, self.last.at)


class Loader(Generic[S]):
    """Loads the states of one aggregate."""

    def __init__(
        self,
        category: str,
        types: EventTypes,
        codec: StateCodec[S],
        initial: Callable[[], S],
        evolve: Callable[[S, Any], S],
    ) -> None:
        self._category = category
        self._types = types
        self._codec = codec
        self._initial = initial
        self._evolve = evolve

    async def load(
        self, store: EventStoreBackend, reader: Reader, streams: Collection[str], bounds: Bounds
    ) -> dict[str, Folded[S]]:
        """The states as far as ``bounds`` go, read from the beginning or a snapshot."""
        folded = {stream: Folded(self._initial()) for stream in streams}
        await self._go_on(store, reader, folded, bounds)
        return folded

    async def refresh(
        self,
        store: EventStoreBackend,
        reader: Reader,
        streams: Collection[str],
        states: States[S],
        fingerprint: str,
    ) -> dict[str, Folded[S]]:
        """The newest states, beginning at what ``states`` has; what does not fit the events any more is dropped."""
        folded: dict[str, Folded[S]] = {}
        known: dict[str, Known[S]] = {}
        for stream in streams:
            found = states.get(stream)
            if found is None:
                folded[stream] = Folded(self._initial())
            else:
                known[stream] = found
                folded[stream] = Folded(found.state, found.version - 1)
        gone = await self._go_on(store, reader, folded, Bounds(fingerprint=fingerprint), known)
        if gone:
            for stream in gone:
                states.drop(stream)
            folded.update(await self.load(store, reader, gone, Bounds(fingerprint=fingerprint)))
        return folded

    async def _go_on(
        self,
        store: EventStoreBackend,
        reader: Reader,
        folded: dict[str, Folded[S]],
        bounds: Bounds,
        known: dict[str, Known[S]] | None = None,
    ) -> list[str]:
        """Fold all that follows, page by page; answers the streams whose known event is not what it was."""
        unproved = dict(known or {})
        gone: list[str] = []
        left = [Want(stream, at.version) for stream, at in folded.items()]
        while left:
            rows = await store.read(reader, self._category, left, bounds, PAGE)
            for row in rows:
                at = folded[row.stream]
                expected = unproved.pop(row.stream, None)
                if expected is None:
                    self._fold(at, row, bounds)
                elif expected.fits(row):
                    at.version, at.last = row.version, row
                else:
                    gone.append(row.stream)
            if len(rows) < PAGE:
                break
            last = rows[-1].stream
            whole = {row.stream for row in rows} - {last}
            left = [Want(s, folded[s].version) for s, _ in left if s not in whole]
        return [*gone, *unproved]

    def _fold(self, at: Folded[S], row: EventRow, bounds: Bounds) -> None:
        if not row.type:
            at.state, at.version, at.snapshot_version = self._codec.decode(row.data), row.version, row.version
            return
        if row.at > bounds.at:
            at.closed = True
        if at.closed:
            return
        at.state = self.evolve(at.state, self._types.decode(row).data)
        at.version, at.last = row.version, row

    def evolve(self, state: S, event: Any) -> S:
        """The next state; a sentence when the function forgot to return it."""
        after = self._evolve(state, event)
        if after is None:
            raise WrongArguments(
                f"{self._category}: evolve returned None for a {type(event).__name__}; it returns the next state, for "
                "instance msgspec.structs.replace(state, …)."
            )
        return after
