"""What people do with projections: look at them, pause, resume and rebuild them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from tenfold._core.text import nearest
from tenfold.errors import ConfigError
from tenfold.eventstore import progress
from tenfold.eventstore.rebuild import Rebuild, Report

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.database import Database
    from tenfold.eventstore.contract import EventStoreBackend
    from tenfold.eventstore.projection import BoundProjection


class ProjectionInfo(msgspec.Struct, frozen=True):
    """One projection, as the code and the database know it."""

    name: str
    mode: str
    """``sync``, ``async``, or ``gone`` when the code has it no more."""
    state: str
    """``running``, ``paused``, ``failed``, ``rebuilding``, ``new``, or ``stale``: it needs a rebuild."""
    position: int
    behind: int
    """Positions up to the newest event that may be read; 0 for synchronous ones."""
    note: str


class Projections:
    """The projections of one database."""

    def __init__(
        self,
        declared: Sequence[BoundProjection],
        database: Database,
        store: EventStoreBackend,
        clock: Clock,
    ) -> None:
        self._declared = {projection.name: projection for projection in declared}
        self._database = database
        self._store = store
        self._clock = clock

    async def list(self) -> list[ProjectionInfo]:
        """Every projection, by name; also those that have run here and are gone from the code."""
        async with self._database.tx() as tx:
            horizon = await self._store.horizon(tx)
            rows = {row.name: row for row in await progress.read_all(tx)}
        names = sorted({*self._declared, *rows})
        return [_info(self._declared.get(name), rows.get(name), name, horizon) for name in names]

    async def pause(self, name: str) -> None:
        """Let it rest after the batch at hand. Raises ConfigError for a synchronous or unknown one."""
        await self._set(name, "paused")

    async def resume(self, name: str) -> None:
        """Let it go on where it was, also after an event that it failed at."""
        await self._set(name, "running")

    async def rebuild(self, name: str, report: Report, *, anew: bool = False) -> int:
        """See :meth:`Rebuild.run`."""
        rebuild = Rebuild(self._known(name), self._database, self._store, self._clock)
        return await rebuild.run(report, anew=anew)

    async def _set(self, name: str, state: progress.State) -> None:
        declared = self._known(name).declared
        if declared.mode == "sync":
            raise ConfigError(
                "it is synchronous: it runs with every append, and cannot rest.", where=f"projection {name}"
            )
        async with self._database.tx() as tx:
            await progress.ensure(tx, name, declared.revision, self._clock.now())
            await progress.set_state(tx, name, state, self._clock.now())

    def _known(self, name: str) -> BoundProjection:
        found = self._declared.get(name)
        if found is None:
            raise ConfigError(
                f"there is no projection {name!r}.{nearest(name, list(self._declared))}",
                where="projections",
                remedy="Run: tenfold projections list",
            )
        return found


def _info(
    bound: BoundProjection | None, row: progress.Progress | None, name: str, horizon: int
) -> ProjectionInfo:
    mode = "gone" if bound is None else bound.declared.mode
    position = 0 if row is None else row.position
    behind = max(0, horizon - position) if mode == "async" else 0
    state, note = _state(bound, row, horizon)
    return ProjectionInfo(name, mode, state, position, behind, note)


def _state(bound: BoundProjection | None, row: progress.Progress | None, horizon: int) -> tuple[str, str]:
    if bound is None:
        return "gone", "The code has it no more; its row is kept."
    rebuild = f"Run: tenfold projections rebuild {bound.name}"
    if row is None:
        if bound.declared.mode == "sync" and horizon and bound.declared.tables:
            return "new", f"It may lack the events before it was declared. {rebuild}"
        return "new", ""
    if row.rebuild_position is not None:
        return "rebuilding", f"At {row.rebuild_position:,} of {horizon:,}. To go on after a kill: {rebuild}"
    if row.revision != bound.declared.revision and bound.declared.tables:
        return (
            "stale",
            f"Filled by revision {row.revision} of the code, which has {bound.declared.revision}. {rebuild}",
        )
    return row.state, row.error or ""
