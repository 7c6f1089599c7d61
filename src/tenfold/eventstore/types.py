"""The event types of an aggregate: from events to rows and back, and its state as a snapshot."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from tenfold._core.text import nearest
from tenfold.errors import DeclarationError, UndecodableEvent, WrongArguments
from tenfold.events.schema import EventSchema
from tenfold.eventstore.contract import EventRow, NewEvent
from tenfold.eventstore.record import Event, Recorded
from tenfold.eventstore.tables import TYPE_MAX_CHARS
from tenfold.queue.arguments import Codec, enc_hook

S = TypeVar("S")


class EventTypes:
    """Finds the schema of an event by its class, and that of a row by its type's name."""

    def __init__(self, where: str, events: Sequence[type[Any] | Event[Any]]) -> None:
        self._where = where
        self._by_class: dict[type[Any], tuple[str, EventSchema[Any]]] = {}
        self._by_name: dict[str, EventSchema[Any]] = {}
        for given in events:
            self._add(given if isinstance(given, Event) else Event(given))
        if not self._by_class:
            raise DeclarationError("it has no types of events.", where=where, remedy="Name them: events=[…].")

    def _add(self, event: Event[Any]) -> None:
        name = event.name or event.type.__name__
        schema = EventSchema(
            f"{self._where}.{name}", event.type, event.version, event.upcast, kind="recorded event"
        )
        self._by_class[event.type] = (name, schema)
        for known_as in (name, *event.formerly):
            if not 1 <= len(known_as) <= TYPE_MAX_CHARS:
                raise DeclarationError(
                    f"{known_as!r} is no name of an event: it has 1 to {TYPE_MAX_CHARS} characters.",
                    where=self._where,
                )
            if known_as in self._by_name:
                raise DeclarationError(
                    f"two types of events are called {known_as!r}.",
                    where=self._where,
                    remedy="Give one of them another name: Event(…, name=…).",
                )
            self._by_name[known_as] = schema

    @property
    def classes(self) -> list[type[Any]]:
        """The declared types."""
        return list(self._by_class)

    def encode(self, event: Any) -> NewEvent:
        """The row's part of an event; raises WrongArguments for what is not declared, or does not fit its type."""
        known = self._by_class.get(type(event))
        if known is None:
            names = ", ".join(cls.__name__ for cls in self._by_class)
            raise WrongArguments(
                f"{self._where}: {type(event).__name__} is none of its events ({names}); add it to events=[…]."
            )
        name, schema = known
        return NewEvent(name, schema.encode(event))

    def decode(self, row: EventRow, *, position: int | None = None) -> Recorded[Any]:
        """The event of a row; raises UndecodableEvent or UnknownVersion, naming stream and version."""
        schema = self._by_name.get(row.type)
        place = f"{row.stream!r} at version {row.version}"
        if schema is None:
            raise UndecodableEvent(
                f"{self._where}: the event of {place} is of the type {row.type!r}, which the running code does not "
                f"know.{nearest(row.type, list(self._by_name))} Declare it in events=[…], or as formerly=… of the "
                "type that replaced it."
            )
        try:
            data = schema.decode(row.data)
        except WrongArguments as error:
            raise type(error)(f"{error} (The event of {place}.)") from None
        return Recorded(
            aggregate=row.category,
            stream=row.stream,
            version=row.version,
            type=row.type,
            data=data,
            time_s=row.at,
            metadata_json=row.metadata,
            position=position,
        )


class StateCodec(Generic[S]):
    """A state as text, and a fingerprint of what it is: snapshots of another shape are not read."""

    def __init__(self, where: str, type_: type[S], revision: int) -> None:
        self._where = where
        self._codec = Codec(type_, f"{where}, state")
        try:
            shape = msgspec.json.encode(msgspec.json.schema(type_), order="sorted")
        except TypeError:  # a type that only its own library can describe
            shape = repr(type_).encode()
        self.fingerprint = hashlib.blake2b(shape + b"%d" % revision, digest_size=16).hexdigest()

    def encode(self, state: S) -> str:
        """The text of a snapshot; raises WrongArguments when it would not come back."""
        return self._codec.encode(state)

    def decode(self, text: str) -> S:
        """The state of a snapshot; raises WrongArguments when somebody has changed the text."""
        state: S = self._codec.decode(text)
        return state


def to_json(value: Any) -> str:
    """JSON text of metadata."""
    return msgspec.json.encode(value, enc_hook=enc_hook).decode()
