"""The cut-over: hold, copy what is left, mark, go on. One commit of the source decides."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tenfold._core.failpoints import failpoints
from tenfold.assembly.switch import Status
from tenfold.errors import DatabaseError
from tenfold.grow.copier import Copier, checksum
from tenfold.grow.live import Live
from tenfold.grow.source import Lock, Source
from tenfold.grow.target import Target

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.reader import Reader

PAUSE_MAX_S = 2.0
"""No request waits longer for the cut-over."""
QUIET_S = 1.0
"""Of that, for running transactions to end."""
MARGIN_S = 0.3
"""The mark is not written later than this before the hold is over."""
_SEQUENCE = sa.text("SELECT seq FROM sqlite_sequence WHERE name = :table")


class Late(DatabaseError):
    """What was left took so long that the hold was nearly over."""


class Cutover:
    """Tries to cut over; a try that fails leaves everything as it was."""

    def __init__(
        self, source: Source, target: Target, copier: Copier, live: Live, clock: Clock, url: str
    ) -> None:
        self._source, self._target, self._copier = source, target, copier
        self._live, self._clock, self._url = live, clock, url

    async def attempt(self, id_: str, lock: Lock | None) -> list[Status]:
        """What the processes say afterwards. Raises Conflict when one cannot be held now, Late, or what failed.

        ``lock`` is the file's write lock where it is held already, because no app runs.
        """
        until = self._clock.monotonic() + PAUSE_MAX_S - MARGIN_S
        if self._live:
            await self._live.hold(id_, QUIET_S, PAUSE_MAX_S)
        _visit("grow.held")
        try:
            await self._finish(lock, until if self._live else float("inf"))
        except BaseException:
            await self._give_up(id_)
            raise
        _visit("grow.marked")
        return await self._live.resume(id_) if self._live else []

    async def _finish(self, given: Lock | None, until: float) -> None:
        lock = given or await self._source.lock()
        try:
            async with self._source.database.read() as reader:
                await self._copier.round(reader)
                await self._copy_keyless(reader)
                last = await self._last_numbers(reader)
            await self._target.finish(last)
            _visit("grow.drained")
            self._refuse_late(until)
            await lock.mark(self._url, self._clock.now())
        except BaseException:
            if given is None:
                await asyncio.to_thread(lock.release)
            raise

    def _refuse_late(self, until: float) -> None:
        if self._clock.monotonic() > until:
            raise Late("copying what was left took too long")

    async def _give_up(self, id_: str) -> None:
        if self._live:
            await self._live.resume(id_)
        await self._target.loosen()

    async def _copy_keyless(self, reader: Reader) -> None:
        """Tables without a primary key: whole, now that nobody writes."""
        target = self._target
        for subject in self._source.subjects:
            if subject.keys:
                continue
            statement = sa.select(*subject.columns)
            rows = await reader.all(statement, tuple)
            async with target.database.tx() as tx:
                await target.begin(tx)
                await tx.execute(sa.delete(subject.table))
                await target.load(tx, subject, rows)
                if checksum(await tx.all(statement, tuple)) != checksum(rows):
                    raise DatabaseError(
                        f"{subject.name} is not in the new database what it is in the old one."
                    )

    async def _last_numbers(self, reader: Reader) -> dict[str, int]:
        """By table that numbers its rows itself: the highest number that was ever given."""
        found: dict[str, int] = {}
        for subject in self._source.subjects:
            column = subject.table.autoincrement_column
            if column is None:
                continue
            highest = await reader.scalar(sa.select(sa.func.max(column)))
            given = await reader.maybe(_SEQUENCE, int, table=subject.name)
            if last := max(highest or 0, given or 0):
                found[subject.name] = last
        return found


def _visit(name: str) -> None:
    if failpoints.on:
        failpoints.visit(name)
