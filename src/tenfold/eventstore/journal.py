"""Writing: events into the store, and what goes with them into the same transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from tenfold.db.database import Tx
from tenfold.errors import DeclarationError
from tenfold.eventstore.contract import Last, NewEvent, Stamp, Write
from tenfold.eventstore.record import Recorded

if TYPE_CHECKING:
    from tenfold.events.topic import Topic
    from tenfold.eventstore.contract import EventStoreBackend
    from tenfold.eventstore.types import EventTypes

S = TypeVar("S")

Applied = Callable[[Tx, Sequence[Recorded[Any]]], Awaitable[None]]
"""A synchronous projection: what is appended has its effect in the same transaction."""
Route = tuple["Topic[Any]", Callable[[Recorded[Any]], Any]]

_TOUCHED = "tenfold.eventstore"


class Batch(NamedTuple):
    """Events for one stream, which is expected to have a version."""

    stream: str
    expected: int
    events: Sequence[Any]
    last: Last | None = None
    """As :attr:`Write.last <tenfold.eventstore.contract.Write.last>`."""


class Appended(NamedTuple):
    """What an append came to."""

    recorded: list[Recorded[Any]]
    last: dict[str, NewEvent]
    """The last event of each stream, as it is kept."""
    refused: dict[str, int]
    """The versions expected of the streams that had another one."""


class Journal:
    """Appends to the streams of one aggregate."""

    def __init__(self, category: str, types: EventTypes, routes: Mapping[type[Any], Route]) -> None:
        self._category = category
        self._types = types
        self._routes = routes

    async def append(
        self, store: EventStoreBackend, tx: Tx, batches: Sequence[Batch], stamp: Stamp, *, gated: bool
    ) -> Appended:
        """Encode and append; the streams that have another version than the expected one stay as they are."""
        done = Appended([], {}, {})
        for part in _parts(batches, store.append_max):
            rows = [
                Write(b.stream, b.expected, [self._types.encode(e) for e in b.events], b.last) for b in part
            ]
            newest = await store.append(tx, self._category, rows, stamp, gated=gated)
            for batch, row in zip(part, rows, strict=True):
                if batch.stream in newest:
                    done.recorded.extend(self._recorded(batch, row, newest[batch.stream], stamp))
                    done.last[batch.stream] = row.events[-1]
                else:
                    done.refused[batch.stream] = batch.expected
        for batch in batches:
            if len(batch.events) > store.append_max:
                await self._append_long(store, tx, batch, stamp, done, gated=gated)
        touched: set[tuple[str, str]] = tx.state.setdefault(_TOUCHED, set())
        touched.update((self._category, stream) for stream in done.last)
        return done

    async def _append_long(
        self,
        store: EventStoreBackend,
        tx: Tx,
        batch: Batch,
        stamp: Stamp,
        done: Appended,
        *,
        gated: bool,
    ) -> None:
        """More than one statement takes: piece after piece, each expecting what the one before has made."""
        expected, last = batch.expected, batch.last
        for start in range(0, len(batch.events), store.append_max):
            piece = Batch(batch.stream, expected, batch.events[start : start + store.append_max], last)
            part = await self.append(store, tx, [piece], stamp, gated=gated)
            if part.refused:
                done.refused[batch.stream] = batch.expected
                return
            done.recorded.extend(part.recorded)
            done.last.update(part.last)
            expected, last = part.recorded[-1].version, None

    def _recorded(self, batch: Batch, row: Write, newest: int, stamp: Stamp) -> Iterator[Recorded[Any]]:
        first = newest - len(batch.events) + 1
        for n, (new, event) in enumerate(zip(row.events, batch.events, strict=True)):
            yield Recorded(
                aggregate=self._category, stream=batch.stream, version=first + n, type=new.type, data=event,
                time_s=stamp.at, metadata_json=stamp.metadata,
            )  # fmt: skip

    async def publish(self, tx: Tx, recorded: Sequence[Recorded[Any]]) -> None:
        """To topics, as declared; they exist if and only if the events do."""
        if not self._routes:
            return
        for event in recorded:
            route = self._routes.get(type(event.data))
            if route is not None:
                topic, convert = route
                await topic.publish(tx, convert(event), key=event.stream)


def is_touched(tx: Tx, category: str, stream: str) -> bool:
    """Whether this transaction has appended to the stream: then it sees what may never be."""
    return (category, stream) in tx.state.get(_TOUCHED, ())


def routes_of(
    where: str, publish: Mapping[type[Any], Any], declared: Sequence[type[Any]]
) -> dict[type[Any], Route]:
    """The topics of ``publish``, checked."""
    routes: dict[type[Any], Route] = {}
    for type_, given in publish.items():
        if type_ not in declared:
            raise DeclarationError(
                f"it publishes {type_.__name__}, which is none of its events.",
                where=where,
                remedy="Add the type to events=[…], or remove it from publish={…}.",
            )
        topic, convert = given if isinstance(given, tuple) else (given, _data)
        if convert is _data and topic.type is not type_:
            raise DeclarationError(
                f"it publishes {type_.__name__} to {topic.name}, whose events are {topic.type.__name__}.",
                where=where,
                remedy="Say how one becomes the other: publish={…: (topic, convert)}.",
            )
        routes[type_] = (topic, convert)
    return routes


def _data(recorded: Recorded[Any]) -> Any:
    return recorded.data


def _parts(batches: Sequence[Batch], most: int) -> Iterator[list[Batch]]:
    """Batches that fit into one statement together; those that do not even alone are left out."""
    part: list[Batch] = []
    room = most
    for batch in batches:
        if len(batch.events) > most:
            continue
        if len(batch.events) > room:
            yield part
            part, room = [], most
        part.append(batch)
        room -= len(batch.events)
    if part:
        yield part
