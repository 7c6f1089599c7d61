"""What users hold: declared event types, recorded events, and an aggregate's state as it was loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from tenfold.eventstore.contract import ANY_VERSION

if TYPE_CHECKING:
    from tenfold.events.schema import Upcaster

E = TypeVar("E")
S = TypeVar("S")

ANY: Final = ANY_VERSION
"""``expected=ANY``: append whatever the version is."""
NONE: Final = 0
"""``expected=NONE``: there is no such stream yet."""

_metadata = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True)
class Event(Generic[E]):
    """A type of event whose data has changed since the first were recorded, or that was renamed.

    ``upcast[n]`` makes the data of version n + 1 from that of version n, so that all code sees ``type`` only. ``name``
    is what the type is called in the store, by default the name of the class; ``formerly`` are names under which
    events were recorded before.
    """

    type: type[E]
    version: int = 1
    upcast: Mapping[int, Upcaster] | None = None
    name: str | None = None
    formerly: tuple[str, ...] = ()


class Recorded(msgspec.Struct, Generic[E], frozen=True, kw_only=True):
    """An event as the store has it. Its identity is aggregate, stream and version, for ever."""

    aggregate: str
    """Such as ``inventory.stock``."""
    stream: str
    version: int
    """1 for the first event of the stream."""
    type: str
    data: E
    time_s: float
    """Seconds since the epoch."""
    metadata_json: str | None = None
    position: int | None = None
    """The place among all events; None as long as there is none to tell: before the commit."""

    @property
    def at(self) -> datetime:
        """When it was recorded, by the clock of who did, in UTC."""
        return datetime.fromtimestamp(self.time_s, UTC)

    @property
    def metadata(self) -> dict[str, Any]:
        """Who and what caused it: ``principal``, ``tenant``, ``operation``, ``trace``, ``correlation`` and
        ``causation`` where known, and what ``metadata=…`` added."""
        return _metadata.decode(self.metadata_json) if self.metadata_json else {}

    def __str__(self) -> str:
        return f"{self.aggregate}/{self.stream}@{self.version} ({self.type})"


class Loaded(msgspec.Struct, Generic[S], frozen=True):
    """The state of one aggregate after its event ``version``; 0 when it has none yet."""

    stream: str
    version: int
    state: S
    events: tuple[Any, ...] = ()
    """What the call that answered this has appended."""
