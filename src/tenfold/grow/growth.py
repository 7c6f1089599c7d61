"""The move as a whole: look how far it is, take the next step, until it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tenfold._core.failpoints import failpoints
from tenfold._core.secrets import hide_passwords
from tenfold.db.moved import Mark
from tenfold.errors import ConfigError, Conflict, DatabaseError
from tenfold.grow import preflight
from tenfold.grow.checksum import Checksum
from tenfold.grow.copier import Copier
from tenfold.grow.cutover import Cutover, Late
from tenfold.grow.live import Live, Unreachable
from tenfold.grow.source import Lock, Source
from tenfold.grow.steps import SourceState, Step, next_step
from tenfold.grow.tables import subjects
from tenfold.grow.target import Target
from tenfold.grow.verify import demand_equal
from tenfold.grow.watch import Watch

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.contract import DatabaseBackend
    from tenfold.db.database import Database

COPY_S = 10.0
"""How long one state of the source is copied from, at most."""
LAG_MAX = 200
"""Changes that may be left when the app is held."""
CUTS_MAX = 20
CUT_PAUSE_S = 1.0
"""Between two tries to hold the app."""


@dataclass(slots=True)
class Report:
    """How it went."""

    checksums: dict[str, Checksum] = field(default_factory=dict[str, Checksum])
    """Of every table, at the moment that was verified; rows that changed later were compared one by one."""
    followed: int = 0
    """Rows that changed during the move and were copied again."""
    pause_s: float = 0.0
    """How long the app was held; 0 without a running app."""
    waited: int = 0
    """Transactions and reads that waited meanwhile."""
    tries: int = 0
    """How often the app was held."""


class Growth:
    """One move from ``source`` to ``target``. ``url`` is the target's, with its password."""

    def __init__(
        self,
        databases: Sequence[Database],
        source: DatabaseBackend,
        target: DatabaseBackend,
        path: Path,
        live: Live,
        watch: Watch,
        clock: Clock,
    ) -> None:
        found = subjects(databases)
        self.source = Source(source, found)
        self.target = Target(target, databases, found)
        self.target.bind()
        self.url = hide_passwords(target.url)
        self.report = Report()
        self._path, self._live, self._watch, self._clock = path, live, watch, clock
        self._copier = Copier(self.source, self.target, watch, clock)
        self._lock: Lock | None = None
        self._open = False
        self._verified = False

    # ── what the command does ──

    async def check(self) -> list[preflight.Size]:
        """Everything that can be known before: raises ConfigError or DatabaseUnavailable for what is in the way,
        else answers what there is to move."""
        state = await self._look()
        if state.moved:
            return []
        await self._open_source()
        preflight.check_disk(self._path)
        await preflight.check(self.source, self.target)
        sizes = await preflight.sizes(self.source)
        self._copier.totals = {size.table: size.rows for size in sizes}
        return sizes

    async def run(self) -> Report:
        """Every step that is left. Raises what is in the way; then nothing was switched, and it can be resumed."""
        try:
            while (step := await self._next()) is not Step.DONE:
                self._watch.step(step)
                await self._take(step)
        finally:
            if self._lock is not None:
                await asyncio.to_thread(self._lock.release)
            await self._close()
        self.report.followed = self._copier.followed
        return self.report

    async def roll_back(self) -> None:
        """Undo a move before its cut-over. Raises ConfigError after it."""
        state = await self.source.state()
        mark = state.mark
        if mark is None:
            raise ConfigError("this database is not being moved.", where="--rollback")
        if mark.moved:
            raise ConfigError(
                f"it has moved to {mark.target}, and what was written since is only there.",
                where="--rollback",
                remedy="The old file is as it was at the cut-over; going back to it loses what came after. To do that, "
                "stop the app and run: tenfold grow --rollback --discard-changes",
            )
        if self._live:
            await self._live.forget(mark.id)
        await self.source.roll_back()
        if (await self.target.state()).claim == mark.id:
            await self.target.roll_back()

    # ── steps ──

    async def _next(self) -> Step:
        return next_step(
            await self.source.state(), await self.target.state(), url=self.url, verified=self._verified
        )

    async def _look(self) -> SourceState:
        state = await self.source.state()
        next_step(state, await self.target.state(), url=self.url)
        return state

    async def _take(self, step: Step) -> None:
        if step not in (Step.SETTLE, Step.DONE):
            await self._open_source()
        match step:
            case Step.CLAIM:
                await self._claim()
            case Step.CAPTURE:
                await self._capture()
            case Step.MAKE:
                await self._make()
            case Step.COPY:
                await self._copy()
            case Step.VERIFY:
                await self._verify()
            case Step.CUT:
                await self._cut()
            case Step.SETTLE:
                await self._settle()
            case Step.DONE:
                pass

    async def _claim(self) -> None:
        state = await self.source.state()
        mark = state.mark or Mark(self._clock.uuid(), self.url, None)
        await self.source.claim(mark, self._clock.now())
        await self.target.claim(mark.id)
        _visit("grow.claimed")

    async def _capture(self) -> None:
        if (await self.target.state()).made:
            raise ConfigError(
                "the tables of the database were changed during the move, so what was noted is not complete.",
                where="grow",
                remedy="Begin anew: tenfold grow --rollback, then tenfold grow --to …",
            )
        await self.source.capture()
        _visit("grow.captured")

    async def _make(self) -> None:
        for sentence in await self.target.make():
            self._watch.note(sentence)
        _visit("grow.made")

    async def _copy(self) -> None:
        await self._prepare()
        while not self._copier.copied:
            await self._round(COPY_S)

    async def _verify(self) -> None:
        """Of one moment: the source's state is kept while both sides are read."""
        await self.target.loosen()
        await self._prepare()
        totals = self._copier.totals
        async with self.source.database.read() as here:
            top = await self._copier.round(here)
            async with self.target.database.read() as there:
                for subject in self.source.subjects:
                    if subject.keys:
                        self.report.checksums[subject.name] = await demand_equal(
                            here,
                            there,
                            subject,
                            lambda name, n: self._watch.checked(name, n, totals.get(name, n)),
                        )
        await self._trim(top)
        self._copier.compare = self._verified = True
        _visit("grow.verified")

    async def _cut(self) -> None:
        mark = (await self.source.state()).mark
        assert mark is not None
        await self._prepare()
        cutover = Cutover(self.source, self.target, self._copier, self._live, self._clock, self.url)
        for attempt in range(1, CUTS_MAX + 1):
            await self._catch_up()
            self.report.tries = attempt
            try:
                statuses = await cutover.attempt(mark.id, self._lock)
            except (Conflict, Late) as error:
                self._watch.note(f"The app could not be held long enough, trying again: {error}")
                await self._clock.sleep(CUT_PAUSE_S)
                continue
            except Unreachable as error:
                if not (await self.source.state()).moved:
                    raise
                self._watch.note(f"{error} The database has moved: start the app with the new setting.")
                statuses = []
            self._lock = None
            self.report.pause_s = max((status.pause_s for status in statuses), default=0.0)
            self.report.waited = sum(status.waited for status in statuses)
            return
        raise DatabaseError(
            f"the app could not be held in {CUTS_MAX} tries: its transactions are long. Nothing was "
            "switched; resume when there is less to do: tenfold grow --resume"
        )

    async def _settle(self) -> None:
        _visit("grow.settling")
        await self.target.settle(self._watch.doing)

    # ── within ──

    async def _prepare(self) -> None:
        """Have the app's processes connect to the target; without an app, keep everybody from writing."""
        mark = (await self.source.state()).mark
        assert mark is not None
        if self._live:
            await self._live.prepare(mark.id, self.target.backend.url)
        elif self._lock is None:
            self._lock = await self.source.lock()

    async def _catch_up(self) -> None:
        """Until few changes are left to follow."""
        while True:
            async with self.source.database.read() as reader:
                top, entries = await self.source.pending(reader)
                await self._copier.round(reader)
            await self._trim(top)
            if entries <= LAG_MAX:
                return

    async def _round(self, copy_s: float) -> None:
        async with self.source.database.read() as reader:
            top = await self._copier.round(reader, copy_s)
        await self._trim(top)

    async def _trim(self, top: int) -> None:
        if top and self._lock is None:
            await self.source.trim(top)

    async def _open_source(self) -> None:
        if not self._open:
            await self.source.backend.start()
            self.source.bind()
            self._open = True

    async def _close(self) -> None:
        if self._open:
            self._open = False
            await self.source.backend.stop()


def _visit(name: str) -> None:
    if failpoints.on:
        failpoints.visit(name)
