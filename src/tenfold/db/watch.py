"""Looking at one node of a replicated database: what it is, and how far it has come."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from tenfold._core.causal import Position


class Look(NamedTuple):
    """What one look at a node found."""

    cluster: str
    """The same on a primary and all its copies, and on no other: lower-case letters and digits, at most 16."""
    copy: bool
    """It follows another node and takes no writes."""
    position: Position
    """A primary: at or behind everything committed so far. A copy: what reads that begin now see at least."""


class Watch(ABC):
    """A connection of its own, so that a full pool does not look like a dead node.

    Cancelling any of its methods is safe; the watch is closed then and not used again. Errors are those below
    :class:`~tenfold.errors.DatabaseError`.
    """

    @abstractmethod
    async def look(self) -> Look:
        """One round trip. Raises DatabaseUnavailable when the node does not answer, ConfigError when it refuses to
        tell."""

    @abstractmethod
    def close(self) -> None:
        """Disconnect, at once."""
