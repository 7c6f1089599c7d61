"""The bottleneck finder for SQL: what it saw, as findings with a remedy each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold.db.finder.findings import Finding, Report, Statement, worst_first
from tenfold.db.finder.planner import Planner
from tenfold.db.finder.shape import Index, wanted
from tenfold.db.finder.statements import REPEATS, Sighting, Watcher
from tenfold.db.tracing import sql_of
from tenfold.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import sqlalchemy as sa

    from tenfold.db.contract import DatabaseBackend
    from tenfold.db.database import Database
    from tenfold.db.finder.plans import Step
    from tenfold.db.plan import Plan

UNUSED_BYTES_MIN = 1_048_576
"""A smaller index costs too little to speak of."""
WAITS_MIN = 10
_EXPLAINED_MAX = 200


class Finder:
    """Watches one backend from ``start`` to ``stop``; :meth:`report` tells at any time.

    ``slow_s`` is the setting ``database.slow_s``. ``trial``: see :class:`Planner`.
    """

    def __init__(
        self, backend: DatabaseBackend, databases: Sequence[Database], *, slow_s: float, trial: bool
    ) -> None:
        self._backend = backend
        self._name = ", ".join(database.name for database in databases)
        self._metadata: list[sa.MetaData] = [database.metadata for database in databases]
        self._databases = databases
        self._slow_s, self._trial = slow_s, trial
        self._watcher = Watcher(backend.plans, slow_s=slow_s, timer=backend.clock.monotonic)
        self._planner = Planner(backend, trial=trial)

    def start(self) -> None:
        """Watch from now on."""
        self._watcher.start()

    def stop(self) -> None:
        """Out of the way; what was seen can still be reported."""
        self._watcher.stop()

    def moved(self, backend: DatabaseBackend) -> Finder:
        """The databases were moved to another backend: stop here, and begin anew there."""
        self.stop()
        finder = Finder(backend, self._databases, slow_s=self._slow_s, trial=self._trial)
        finder.start()
        return finder

    def services(self) -> dict[str, tuple[int, int, float]]:
        """By service: statements run, how many of them were timed, and the seconds that those took. Statements that
        SQLite answers at once are not timed."""
        timed: dict[str, tuple[int, float]] = {}
        for plan, sighting in list(self._watcher.seen.items()):
            service = sighting.operation.partition(".")[0]
            count, seconds = timed.get(service, (0, 0.0))
            timed[service] = (count + plan.count, seconds + plan.total_s)
        return {
            service: (runs, *timed.get(service, (0, 0.0)))
            for service, runs in list(self._watcher.runs.items())
            if service
        }

    def statements(self, most: int) -> list[Statement]:
        """What ran since the start, the most time first. Asks nobody, so it costs next to nothing."""
        own = [plan for plan in self._backend.plans.known() if plan.count and not plan.framework]
        own.sort(key=lambda plan: -plan.total_s)
        return [self._statement(plan) for plan in own[:most]]

    def _statement(self, plan: Plan) -> Statement:
        sighting = self._watcher.seen.get(plan) or Sighting()
        return Statement(
            sql=" ".join(plan.sql.split()), runs=plan.count, total_s=plan.total_s, max_s=plan.max_s,
            writes=plan.writes, operation=sighting.operation, where=sighting.where, most_in_one=sighting.most,
        )  # fmt: skip

    async def steps(self, text: str, kept: Callable[[str], str]) -> list[Step]:
        """How the database would carry out the statement that a span has as ``text``; ``kept`` is what becomes of a
        statement on its way into a span that is kept. Only statements that this process has run are asked about, with
        the values of one of their runs, and none is run. Raises NotFound, DatabaseError."""
        plans = [plan for plan in self._backend.plans.known() if plan in self._watcher.seen]
        found = next((plan for plan in plans if sql_of(plan) == text), None)
        found = found or next((plan for plan in plans if kept(sql_of(plan)) == text), None)
        if found is None:
            raise NotFound(
                "This process has not run the statement since its start, so it has no values to plan it with. Ask on the "
                "instance that ran it, or after it has run here."
            )
        return await self._planner.steps(found, self._watcher.seen[found].args)

    async def report(self) -> Report:
        """Everything found so far, the most expensive first. Asks the planner, which costs a few statements."""
        plans = self._backend.plans.known()
        own = [plan for plan in plans if plan.count and not plan.framework]
        findings = [*self._slow(own), *self._repeated(), *self._pool_waits()]
        findings += await self._scans(own)
        findings += await self._unused()
        return Report(
            statements=len(own), executions=sum(plan.count for plan in own), findings=worst_first(findings)
        )

    def _slow(self, plans: list[Plan]) -> list[Finding]:
        found: list[Finding] = []
        for plan in plans:
            if plan.max_s <= self._slow_s:
                continue
            found.append(
                self._finding(
                    "slow", plan,
                    f"It took up to {_ms(plan.max_s)}, {_ms(plan.total_s / plan.count)} on average over "
                    f"{plan.count} runs.",
                    "Look at its plan; ask for fewer rows or columns, or give its conditions an index.",
                    seconds=plan.total_s,
                )
            )  # fmt: skip
        return found

    def _repeated(self) -> list[Finding]:
        return [
            self._finding(
                "repeated", plan, f"It ran {sighting.most} times in one piece of work.",
                "Ask for all rows at once: .where(column.in_(…)) or a join.",
                seconds=plan.total_s,
            )
            for plan, sighting in self._watcher.seen.items()
            if sighting.most >= REPEATS and not plan.framework
        ]  # fmt: skip

    async def _scans(self, plans: list[Plan]) -> list[Finding]:
        found: list[Finding] = []
        by_cost = sorted(plans, key=lambda plan: -plan.total_s)[:_EXPLAINED_MAX]
        for plan in by_cost:
            sighting = self._watcher.seen.get(plan)
            if sighting is None:
                continue
            for scan in await self._planner.scans(plan, sighting.args):
                index = wanted(plan.statement, scan.table)
                if index is not None:
                    found.append(await self._scan(plan, sighting, index))
        return found

    async def _scan(self, plan: Plan, sighting: Sighting, index: Index) -> Finding:
        verified = await self._planner.would_use(index, plan, sighting.args)
        said = {
            True: " The planner would use it.",
            False: " The planner would not use it as things are.",
            None: "",
        }[verified]
        return self._finding(
            "scan", plan, f"It reads the whole table {index.table} for every answer; it ran {plan.count} times.",
            f"{index.sql};{said}", seconds=plan.total_s, verified=verified,
        )  # fmt: skip

    async def _unused(self) -> list[Finding]:
        return [
            Finding(
                kind="unused-index",
                database=self._name,
                subject=f"{table}.{index}",
                sentence=f"No statement has used the index, and every write keeps its {size / 1e6:.0f} MB up to date.",
                remedy=f"DROP INDEX {index}; after a look at the replicas, which count for themselves.",
            )
            for table, index, size in await self._planner.unused_indexes(self._metadata)
            if size >= UNUSED_BYTES_MIN
        ]

    def _pool_waits(self) -> list[Finding]:
        stats = self._backend.stats()
        waits = stats.get("waits_total", 0)
        if waits < WAITS_MIN:
            return []
        return [
            Finding(
                kind="pool-wait",
                database=self._name,
                subject="connections",
                sentence=f"{waits:g} statements and transactions had to wait for a connection.",
                remedy="Shorten transactions, or raise database.pool_max as far as the server has room.",
            )
        ]

    def _finding(
        self,
        kind: str,
        plan: Plan,
        sentence: str,
        remedy: str,
        *,
        seconds: float,
        verified: bool | None = None,
    ) -> Finding:
        sighting = self._watcher.seen.get(plan) or Sighting()
        return Finding(
            kind=kind, database=self._name, subject=plan.describe(), sentence=sentence, remedy=remedy,  # type: ignore[arg-type]
            operation=sighting.operation, where=sighting.where, seconds=round(seconds, 6), verified=verified,
        )  # fmt: skip


def _ms(seconds: float) -> str:
    ms = seconds * 1000
    return f"{ms:.3g} ms" if ms < 999.5 else f"{ms:,.0f} ms"
