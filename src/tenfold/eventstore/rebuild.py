"""Fills a projection's tables anew from the first event on, beside those that serve, and swaps them at the end.

1. Shadow tables are made, and the projection's row notes that a rebuild is under way, from position 0.
2. The projection's function runs over all events, its statements on the shadow tables. Each transaction also moves
   the rebuild's position on: whoever is killed in between goes on there, and of two only one moves on.
3. In one transaction, what has come meanwhile is applied and the rows of the shadow tables replace those that serve.
   For a synchronous projection nobody can append to its aggregates until that is committed: those that were under way
   are waited for, so their effect is in the old tables and their events are seen here; those that wait then have
   their effect in the new rows. For an asynchronous one the position is set to that of the rebuild.

Readers see the old rows until the last transaction commits, and the new ones from then on. Rows are copied and tables
are not renamed: names of indexes and constraints stay what the migrations made them, and it works where changes of
tables cannot be undone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from tenfold._core.failpoints import failpoints
from tenfold._core.tasks import end_tasks
from tenfold.errors import ConfigError, LeaseTaken
from tenfold.eventstore import progress
from tenfold.eventstore.contract import END
from tenfold.eventstore.follower import WINDOW
from tenfold.eventstore.shadow import Shadows, ShadowTx, past_keys

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.database import Database
    from tenfold.eventstore.contract import EventRow, EventStoreBackend
    from tenfold.eventstore.projection import BoundProjection

BATCH = 2_000
"""Events per transaction, unless the projection wants more."""
NEAR = 10_000
"""Positions that may be left for the last transaction."""

Report = Callable[[int, int], None]
"""Called with the position and the one to come to."""


class Rebuild:
    """The rebuild of one projection. May run in any process, also while the app runs in others."""

    def __init__(
        self, projection: BoundProjection, database: Database, store: EventStoreBackend, clock: Clock
    ) -> None:
        self._projection = projection
        self._database = database
        self._store = store
        self._clock = clock
        self._name = projection.name
        self._shadows = Shadows(projection.name, projection.declared.tables)
        self._batch = max(BATCH, projection.declared.batch)

    async def run(self, report: Report = lambda _done, _of: None, *, anew: bool = False) -> int:
        """Rebuild, going on where one that was killed has left off unless ``anew``; returns the events it took.

        Raises ConfigError for a projection without tables, what its function raises (the old tables go on serving),
        and LeaseTaken when another process rebuilds it at the same time.
        """
        if not self._shadows.tables:
            raise ConfigError(
                "it has no tables that could be rebuilt.",
                where=self._name,
                remedy="Declare them: projection(…, tables=[…]).",
            )
        position = await self._begin(anew=anew)
        handled = 0
        while True:
            horizon = await self._horizon()
            handled += await self._fill(position, horizon, report)
            position = max(position, horizon)
            if await self._horizon() - position <= NEAR:
                break
        handled += await self._swap(position)
        await self._shadows.drop(self._database)
        return handled

    async def _begin(self, *, anew: bool) -> int:
        declared = self._projection.declared
        async with self._database.tx() as tx:
            row = await progress.ensure(tx, self._name, declared.revision, self._clock.now())
        if row.rebuild_position is not None and row.rebuild_revision == declared.revision and not anew:
            return row.rebuild_position
        await self._shadows.make(self._database)
        async with self._database.tx() as tx:
            await progress.begin_rebuild(tx, self._name, declared.revision)
        return 0

    async def _horizon(self) -> int:
        async with self._database.tx() as tx:
            return await self._store.horizon(tx)

    async def _fill(self, position: int, horizon: int, report: Report) -> int:
        """Batch after batch up to the horizon; the next one is read while one is applied."""
        handled = 0
        reading = asyncio.create_task(self._read(position, horizon))
        try:
            while position < horizon:
                rows, end = await reading
                if end < horizon:
                    reading = asyncio.create_task(self._read(end, horizon))
                await self._take(position, rows, end)
                position = end
                handled += len(rows)
                report(position, horizon)
        finally:
            await end_tasks(reading)
        return handled

    async def _read(self, position: int, horizon: int) -> tuple[list[EventRow], int]:
        """A batch of events, and the position that it reaches."""
        until = min(horizon, position + WINDOW)
        reader = self._database.read(consistency="strong")
        rows = await self._store.follow(reader, self._projection.categories, position, until, self._batch)
        return rows, rows[-1].id if len(rows) == self._batch else until

    async def _take(self, position: int, rows: list[EventRow], end: int) -> None:
        """Their effect, and the rebuild's position, in one transaction."""
        async with ShadowTx(self._database, self._shadows) as tx:
            if not await progress.advance_rebuild(tx, self._name, position, end):
                raise self._two()
            await self._apply(tx, rows)
            if failpoints.on:
                failpoints.visit("rebuild.effect")
        if failpoints.on:
            failpoints.visit("rebuild.moved")

    async def _apply(self, tx: ShadowTx, rows: list[EventRow]) -> None:
        if rows:
            await self._projection.apply_apart(tx, [self._projection.decode(row) for row in rows])

    async def _swap(self, position: int) -> int:
        sync = self._projection.declared.mode == "sync"
        handled = 0
        async with ShadowTx(self._database, self._shadows) as tx:
            if sync:
                await self._store.hold(tx, self._projection.categories)
                last = -1
                while last != (last := await self._store.horizon(tx)):
                    pass  # it is moved on by so many events at a time
                # Beyond the horizon, too: of these aggregates nothing is under way.
                handled = await self._catch_up(tx, position)
            if not await progress.swapped(tx, self._name, position, position, self._clock.now()):
                raise self._two()
            await self._replace_rows(tx)
            if failpoints.on:
                failpoints.visit("rebuild.swapping")
        if failpoints.on:
            failpoints.visit("rebuild.swapped")
        return handled

    async def _catch_up(self, tx: ShadowTx, position: int) -> int:
        handled = 0
        while True:
            rows = await self._store.follow(tx, self._projection.categories, position, END, self._batch)
            await self._apply(tx, rows)
            handled += len(rows)
            if len(rows) < self._batch:
                return handled
            position = rows[-1].id

    async def _replace_rows(self, tx: ShadowTx) -> None:
        ordered = self._shadows.ordered()
        quote = self._database.backend.dialect.identifier_preparer
        for table in reversed(ordered):
            await tx.execute_as_it_is(f"DELETE FROM {quote.format_table(table)}")  # noqa: S608 - quoted
        for table in ordered:
            columns = ", ".join(quote.format_column(column) for column in table.columns)
            shadow = quote.format_table(self._shadows.of[table])
            await tx.execute_as_it_is(
                f"INSERT INTO {quote.format_table(table)} ({columns}) SELECT {columns} FROM {shadow}"  # noqa: S608 - quoted
            )
            if (moves_on := past_keys(table, self._database.backend.dialect)) is not None:
                await tx.execute_as_it_is(moves_on)

    def _two(self) -> LeaseTaken:
        return LeaseTaken(f"{self._name} is being rebuilt by another process, too: this one stops.")
