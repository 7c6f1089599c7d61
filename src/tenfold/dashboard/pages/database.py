"""The database: connections, what its statements cost, what would make them cheaper, how far its copies are behind."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from tenfold._core.text import plural
from tenfold.dashboard import shown, ui
from tenfold.dashboard.html import Child, Html, join, tag
from tenfold.dashboard.page import Page, action, live
from tenfold.dashboard.view import View, segment
from tenfold.db.finder.statements import REPEATS
from tenfold.telemetry import names

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.db.finder.findings import Finding, Report, Statement

STATEMENTS_SHOWN: Final = 15
FRESH_S: Final = 60.0
"""Findings cost the planner some statements: they are asked for once in so many seconds, if anybody looks."""
ENGINES: Final = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB"}
TITLES: Final = {
    "slow": "Slow statement",
    "repeated": "The same statement again and again",
    "scan": "Reads a whole table",
    "unused-index": "Unused index",
    "pool-wait": "Waits for connections",
}


class Database(Page):
    path = "/database"
    title = "Database"
    about = "Connections, what statements cost, and what would make them cheaper."
    group = "Data"
    key = "d"
    windowed = True

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self._found: tuple[float, Report] | None = None
        self._turn = asyncio.Lock()

    def present(self) -> bool:
        return bool(self.app.databases)

    async def body(self, view: View) -> Html:
        replicas = view.app.databases[0].replicas is not None
        return join(
            await view.live(self.now),
            await view.live(self.copies) if replicas else None,
            await view.live(self.over_time),
            # Asked for by the page once it is there: the planner may take its time.
            tag(
                "div",
                ui.card("Findings", ui.empty("The planner is asked …")),
                class_="live", id="part-findings", hx_get=view.here(part="findings"), hx_trigger="load, every 30s, acted from:body",
                hx_swap="morph:innerHTML",
            ),
            await view.live(self.statements),
        )  # fmt: skip

    @live(every_s=2)
    async def now(self, view: View) -> Html:
        stats = view.app.databases[0].stats()
        kind = view.app.databases[0].backend.dialect.name
        return ui.figures(ui.figure("Engine", ENGINES.get(kind, kind)), *_pool(stats), *_counters(stats))

    @live(every_s=2)
    async def copies(self, view: View) -> Html:
        replicas = view.app.databases[0].replicas
        assert replicas is not None
        rows = [_copy(node.backend.address, replicas.stats_of(node)) for node in replicas.nodes]
        columns = (
            ui.Column("replica", wide=True), "", ui.Column("behind by", number=True), ui.Column("reads", number=True),
            ui.Column("under way", number=True), ui.Column("failures", number=True),
        )  # fmt: skip
        told = replicas.stats()
        aside = (
            f"{told['on_primary_total']:,} reads needed the primary, {told['repeated_total']:,} were repeated"
        )
        return ui.card(
            "Replicas", ui.table(columns, rows, nothing="", caption="Replicas"), aside=aside, flush=True
        )

    @live(every_s=5)
    async def over_time(self, view: View) -> Html:
        records, since = view.records, view.since
        run, timed, took, used, idle, waiting, lag = await asyncio.gather(
            records.series(names.DB_STATEMENTS, since=since, by=(names.DATABASE,)),
            records.series(names.DB_TIMED, since=since, by=()),
            records.series(names.DB_TIMED_SECONDS, since=since, by=()),
            records.series("tenfold_db_connections", since=since, by=()),
            records.series("tenfold_db_connections_idle", since=since, by=()),
            records.series("tenfold_db_waiting", since=since, by=()),
            records.series("tenfold_db_replica_lag_seconds", since=since, by=("replica",)),
        )
        times = shown.times_of(run)
        lines = [ui.Line(each.labels.get(names.DATABASE, ""), shown.per_s([each], times)) for each in run[:6]]
        work = ui.chart("Statements per second", view.time, times, *lines, unit="/s")
        times = shown.times_of(timed)
        spent = zip(shown.per_s(took, times), shown.per_s(timed, times), strict=True)
        means = [seconds / statements if statements else None for seconds, statements in spent]
        mean = ui.chart(
            "Mean time of a statement", view.time, times, ui.Line("mean", means, fill=True), unit="s"
        )
        times = shown.times_of([*used, *waiting])
        places = [
            ui.Line("open", shown.gauge(used, times), fill=True) if used else None,
            ui.Line("idle", shown.gauge(idle, times)) if idle else None,
            ui.Line("waiting", shown.gauge(waiting, times), "warn"),
        ]
        drawn = ui.chart("Connections", view.time, times, *(line for line in places if line is not None))
        cards = [
            ui.card("Statements", work),
            ui.card("Mean time", mean, aside="of those that were not answered at once"),
            ui.card("Connections" if used else "Waiting for the database", drawn),
        ]
        if lag:
            ages = shown.times_of(lag)
            behind = [ui.Line(each.labels.get("replica", ""), shown.gauge([each], ages)) for each in lag]
            cards.append(
                ui.card("Replicas behind by", ui.chart("Replica lag", view.time, ages, *behind, unit="s"))
            )
        return ui.grid(*cards, columns=3)

    @live(every_s=30)
    async def findings(self, view: View) -> Html:
        finder = view.assembly.databases.finder
        if finder is None:
            return ui.card("Findings", ui.empty("Statements are not watched: database.watch is off."))
        async with self._turn:
            if self._found is None or view.now - self._found[0] > FRESH_S:
                self._found = view.now, await finder.report()
        at, report = self._found
        said = f"{plural(report.statements, 'statement')} seen, {report.executions:,} runs; looked at "
        aside = join(said, ui.ago(at, view.now), view.button(self.look_again))
        if not report.findings:
            nothing = "Nothing slow, nothing repeated, no missing index: as far as the statements that have run can tell."
            return ui.card("Findings", ui.empty(nothing), aside=aside)
        return ui.card(
            "Findings",
            tag("ol", [_finding(view, each) for each in report.findings], class_="findings"),
            aside=aside,
        )

    @live(every_s=5)
    async def statements(self, view: View) -> Html:
        finder = view.assembly.databases.finder
        if finder is None:
            return Html("")
        found = finder.statements(STATEMENTS_SHOWN)
        whole = sum(each.total_s for each in found)
        columns = (
            ui.Column("statement", wide=True), "share of time", ui.Column("runs", number=True), ui.Column("mean", number=True),
            ui.Column("longest", number=True), ui.Column("total", number=True),
        )  # fmt: skip
        slow_s = view.app.settings.database.slow_s
        rows = [_statement(view, each, whole, slow_s) for each in found]
        listed = ui.table(columns, rows, nothing="No statement has run yet.", caption="Statements")
        return ui.card(
            "Statements", listed, aside="of this process since its start, by the time they took", flush=True
        )

    @action("Look again")
    async def look_again(self, view: View) -> str:
        self._found = None
        return "The planner is asked again."


def _pool(stats: Mapping[str, int | float]) -> list[Html]:
    """Of databases with connections: how many are in use."""
    if "connections" not in stats:
        return []
    opened, idle = int(stats["connections"]), int(stats.get("connections_idle", 0))
    waiting = int(stats.get("waiting", 0))
    exhausted = int(stats.get("exhausted_total", 0))
    return [
        ui.figure("Connections", f"{opened - idle:,} of {opened:,}", "in use"),
        ui.figure(
            "Waiting for one",
            waiting,
            f"{stats.get('waits_total', 0):,} waits so far",
            "warn" if waiting else "",
        ),
        ui.figure("Refused", exhausted, "none came free in time", "bad" if exhausted else ""),
    ]


def _counters(stats: Mapping[str, int | float]) -> list[Html]:
    """What an engine in this process counts: a thread writes, others read."""
    if "transactions" not in stats:
        return []
    waiting, rolled_back = int(stats.get("waiting", 0)), int(stats.get("rolled_back", 0))
    statements = int(stats.get("inline", 0)) + int(stats.get("threaded", 0))
    commits = int(stats.get("groups", 0))
    return [
        ui.figure("Statements", statements, "since the start"),
        ui.figure(
            "Transactions", int(stats["transactions"]), f"in {commits:,} commits, {rolled_back:,} rolled back"
        ),
        ui.figure("Waiting", waiting, f"{stats.get('waits', 0):,} waits so far", "warn" if waiting else ""),
    ]


def _copy(address: str, stats: Mapping[str, int | float]) -> tuple[Child, ...]:
    up, lag_s = bool(stats["up"]), float(stats["lag_s"])
    return (
        address,
        ui.badge("in use", "good") if up else ui.badge("away", "bad"),
        ui.duration(lag_s) if up else ui.muted("–"),
        int(stats["reads_total"]),
        int(stats["in_flight"]),
        int(stats["failures_total"]),
    )


def _finding(view: View, found: Finding) -> Html:
    mood: ui.Mood = "bad" if found.kind in ("slow", "scan") else "warn"
    where = join(
        join("in ", view.a(found.operation, f"/operations/{segment(found.operation)}"), " ")
        if found.operation
        else None,
        join("at ", ui.code(found.where)) if found.where else None,
    )
    statement, semicolon, after = found.remedy.partition(";")
    is_sql = bool(semicolon) and statement.split(" ", 1)[0] in ("CREATE", "DROP")
    remedy: Child = tag("p", found.remedy)
    if is_sql:
        verdict = {
            True: ui.badge("the planner would use it", "good"),
            False: ui.badge("the planner would not use it", "warn"),
        }
        said = verdict.get(found.verified) if found.verified is not None else tag("span", after.strip())
        remedy = join(ui.pre(f"{statement};", "The statement that helps"), tag("p", said))
    cost = f"{ui.duration(found.seconds)} so far" if found.seconds else ""
    return tag(
        "li",
        tag("h3", ui.badge(TITLES.get(found.kind, found.kind), mood), " ", ui.muted(cost)),
        tag("p", ui.code(shown.line(view, found.subject, 400))),
        tag("p", found.sentence, " ", ui.muted(where)),
        remedy,
    )  # fmt: skip


def _statement(view: View, each: Statement, whole_s: float, slow_s: float) -> tuple[Child, ...]:
    mean_s = each.total_s / each.runs
    below: list[Child] = []
    if each.operation:
        below += ["first in ", each.operation]
    if each.where:
        below += [" at ", ui.code(each.where)]
    many = (
        ui.badge(f"up to {each.most_in_one:,} in one piece of work", "warn")
        if each.most_in_one >= REPEATS
        else None
    )
    sql = shown.line(view, each.sql, 600)
    text = (
        ui.code(sql)
        if len(sql) <= 140
        else tag("details", tag("summary", ui.code(sql[:120] + "…")), ui.pre(sql, "Statement"))
    )
    share = each.total_s / whole_s if whole_s else 0.0
    return (
        join(text, tag("span", below, " ", many, class_="below")),
        ui.meter(share, ui.percent(share), "good"),
        each.runs,
        ui.duration(mean_s),
        ui.badge(ui.duration(each.max_s), "bad") if each.max_s > slow_s else ui.duration(each.max_s),
        ui.duration(each.total_s),
    )
