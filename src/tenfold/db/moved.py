"""The mark of a database that was moved elsewhere (``tenfold grow``), and the state of one that is being moved.

One row in the old database. With ``moved_at`` set, the old database is history: triggers refuse every write, and a
process that is started on it refuses in a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GROWTH: Final = "tenfold_grow"
"""The table of the one row."""
READ_MARK: Final = f"SELECT id, target, moved_at FROM {GROWTH}"  # noqa: S608 - a constant
FENCE: Final = "tenfold: this database has moved"
"""How the message of the triggers begins that refuse writes."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where the database goes, or has gone."""

    id: str
    """A random name of the move; who knows it can read the file."""
    target: str
    """The new URL, without its password."""
    moved_at: float | None
    """Seconds since the epoch; None before the cut-over."""

    @property
    def moved(self) -> bool:
        return self.moved_at is not None


def sentence(target: str) -> str:
    """What is said to who starts on the old database."""
    return f"this database has moved to {target}, and what is here is as it was then."
