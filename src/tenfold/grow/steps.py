"""Which step of a move comes next, from what source and target say of themselves. Pure.

Nothing else is remembered: a command that was killed at any point is started again, looks, and goes on. Each step is
idempotent, and the only one that cannot be undone is the cut-over, which is one commit of the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tenfold.db.moved import Mark
from tenfold.errors import ConfigError


class Step(StrEnum):
    """In this order; each value is what people read."""

    CLAIM = "claim"
    """Write into source and target that the one moves to the other."""
    CAPTURE = "capture"
    """From now on the source notes which rows change."""
    MAKE = "schema"
    """Make the tables of the target."""
    COPY = "copy"
    """Copy the rows, and again those that change meanwhile."""
    VERIFY = "verify"
    """Compare every row of one moment."""
    CUT = "cut over"
    """Hold the app, copy what is left, mark the source as moved."""
    SETTLE = "settle"
    """Check the target's foreign keys, gather its statistics, remove the notes of the move."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class SourceState:
    """What the SQLite file says."""

    mark: Mark | None = None
    captured: bool = False
    """Every trigger is there, and the schema is that of the time when they were made."""

    @property
    def moved(self) -> bool:
        return self.mark is not None and self.mark.moved


@dataclass(frozen=True, slots=True)
class TargetState:
    """What the new database says."""

    claim: str | None = None
    """The id of the move that it belongs to."""
    tables: tuple[str, ...] = ()
    """What is in it, besides the notes of the move."""
    made: bool = False
    copied: bool = False
    """Every table with a primary key has been copied once."""


def next_step(source: SourceState, target: TargetState, *, url: str, verified: bool = False) -> Step:
    """What is to be done now; ``url`` is the target's, without its password.

    Raises ConfigError when source and target do not belong together.
    """
    mark = source.mark
    if mark is not None and mark.target != url:
        raise ConfigError(
            f"this database {'has moved' if mark.moved else 'is being moved'} to {mark.target}, not to {url}.",
            where="--to",
            remedy="" if mark.moved else "Give that one up first: tenfold grow --rollback",
        )
    if mark is not None and mark.moved:
        return Step.SETTLE if target.claim == mark.id else Step.DONE
    if target.claim is not None and (mark is None or target.claim != mark.id):
        raise ConfigError(
            f"{url} belongs to another move that was not finished.",
            where="--to",
            remedy="Finish or roll back that one, or name an empty database.",
        )
    if target.claim is None:
        _refuse_full(target, url)
        return Step.CLAIM
    return _within(source, target, verified)


def _within(source: SourceState, target: TargetState, verified: bool) -> Step:
    if not source.captured:
        return Step.CAPTURE
    if not target.made:
        return Step.MAKE
    if not target.copied:
        return Step.COPY
    return Step.CUT if verified else Step.VERIFY


def _refuse_full(target: TargetState, url: str) -> None:
    if target.tables:
        some = ", ".join(target.tables[:5]) + (", …" if len(target.tables) > 5 else "")
        raise ConfigError(
            f"{url} is not empty: it has {some}.",
            where="--to",
            remedy="Name an empty database; nothing that exists is ever changed or dropped.",
        )
