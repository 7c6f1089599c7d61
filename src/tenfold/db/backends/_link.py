"""One connection to a server, as the pool sees it: whatever driver made it."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Link(ABC):
    """One connection, as the pool sees it."""

    doubtful: bool = False
    """Something went wrong, or on, that its user does not know the end of: it must not be used again."""
    stained: bool = False
    """It serves until it is given back, and nobody after that: its session was changed by what somebody ran on it, or it is
    old, or leads to where nobody is to go any more."""
    spare: bool = False
    """It belongs to the reserve of its pool."""
    opened_at: float = 0.0
    idle_since: float = 0.0
    turn_until: float = 0.0
    """Until when it may be kept by the work that it was handed to, on the clock of its pool."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """The connection is gone."""

    @abstractmethod
    async def discard(self) -> None:
        """End it whatever it is doing, and stop what it is doing in the server. Bounded in time; never raises."""

    @abstractmethod
    async def close(self) -> None:
        """End it politely while it does nothing. Bounded in time; never raises."""
