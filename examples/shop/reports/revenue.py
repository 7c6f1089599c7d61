"""Revenue per day and country as a CSV file and a chart, made by a job that tells how far it is; and all reports."""

from __future__ import annotations

import asyncio
import csv
import io
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import sqlalchemy as sa
from msgspec import Meta, Struct

from shop.columns import NAMING, Utc
from shop.demo import ADMIN
from shop.files import folder, write_whole
from shop.money import pence, pounds
from shop.orders import sales
from shop.pages import Page, PageNumber, PerPage, offset, paged
from tenfold import Clock, File, Retry, Service, Settings, Tx, current_job, injected, roles
from tenfold.errors import FieldError, InvalidInput, NotFound


class ReportSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[services.reports]"""

    mail_to: list[str] = msgspec.field(default_factory=lambda: [ADMIN])
    """Who gets the nightly report."""


reports = Service(
    "reports",
    settings=ReportSettings,
    tags=["reports"],
    auth=roles("admin"),
    calls=["orders.first_day", "orders.sold_between", "orders.sold_on"],
    priority="sheddable",  # nobody is harmed who gets a report a minute later
)

metadata = sa.MetaData(naming_convention=NAMING)
report_table = sa.Table(
    "reports",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False, server_default="days"),
    sa.Column("since", sa.Date, nullable=False),
    sa.Column("until", sa.Date, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("job_id", sa.BigInteger, nullable=False),
    sa.Column("orders", sa.Integer, nullable=False),
    sa.Column("lines", sa.Integer, nullable=False),
    sa.Column("revenue", sa.BigInteger, nullable=False),
    sa.Column("asked_at", Utc, nullable=False),
)
db = reports.database(metadata)

DAYS_MAX = 366
ReportId = Annotated[str, Meta(min_length=1, max_length=36)]


class Days(Struct):
    """The days that a report covers, both included (UTC)."""

    since: date
    until: date


class Report(Struct):
    """A report and how far it is; its files exist once it is done. ``revenue`` is in pence."""

    id: str
    kind: Literal["days", "nightly"]
    since: date
    until: date
    state: Literal["running", "done", "failed"]
    orders: int
    lines: int
    revenue: int
    asked_at: datetime
    days_done: int = 0


class Sold(Struct):
    """A line of the CSV file."""

    day: date
    country: str
    orders: int
    lines: int
    revenue: int


_all = sa.select(*(report_table.c[name] for name in Report.__struct_fields__ if name != "days_done"))
_by_id = _all.where(report_table.c.id == sa.bindparam("id"))
_newest = (
    _all.order_by(report_table.c.asked_at.desc(), report_table.c.id)
    .limit(sa.bindparam("limit"))
    .offset(sa.bindparam("offset"))
)
_count = sa.select(sa.func.count()).select_from(report_table)
_job_of = sa.select(report_table.c.job_id).where(report_table.c.id == sa.bindparam("id"))
_add = sa.insert(report_table)
_finish = (
    sa.update(report_table)
    .where(report_table.c.id == sa.bindparam("id_"))
    .values({name: sa.bindparam(name) for name in ("state", "orders", "lines", "revenue")})
)


@reports.post(
    "/reports/revenue", status=202, idempotent=True, limit="30/minute per principal", errors=(InvalidInput,)
)
async def start_report(days: Days, tx: Tx, clock: Clock) -> Report:
    """Start a report; ask for it by its id until it is done."""
    if days.until < days.since:
        raise _wrong_days("The last day is before the first.")
    if (days.until - days.since).days >= DAYS_MAX:
        raise _wrong_days(f"A report covers {DAYS_MAX} days at most.")
    return await _start(tx, days, clock)


@reports.get("/reports", errors=(NotFound,))
async def list_reports(page: PageNumber = 1, per_page: PerPage = 24) -> Page[Report]:
    """Reports, newest first: those that were asked for, and the nightly ones over all orders."""
    async with db.read() as reader:
        total = await reader.scalar(_count)
        items = await reader.all(_newest, Report, limit=per_page, offset=offset(page, per_page))
    return paged(items, total=total, page=page, per_page=per_page, path="/reports")


@reports.get("/reports/{report_id}", errors=(NotFound,))
async def get_report(report_id: ReportId) -> Report:
    """How far a report is."""
    report = await load(report_id)
    if report.state == "done":
        report.days_done = (report.until - report.since).days + 1
        return report
    job = await build_report.handle(await db.read().scalar(_job_of, id=report_id)).status()
    report.days_done = int(job.progress.done) if job.progress else 0
    if job.state in ("dead", "cancelled"):
        report.state = "failed"
    return report


@reports.get("/reports/{report_id}/revenue.csv", errors=(NotFound,))
async def download_csv(report_id: ReportId, settings: Settings) -> File:
    """The figures: day, country, orders, lines, revenue in pounds."""
    return File(await _finished(report_id, settings, "csv"), filename=f"revenue-{report_id}.csv")


@reports.get("/reports/{report_id}/revenue.png", errors=(NotFound,))
async def download_chart(report_id: ReportId, settings: Settings) -> File:
    """The figures as a picture."""
    return File(await _finished(report_id, settings, "png"))


@reports.job(retry=Retry(attempts=5), timeout=600)
async def build_report(report_id: str, settings: Settings = injected()) -> None:
    """Ask orders for each day, write the CSV file, have the chart drawn, and only then call it done.

    Running it again, after a crash for one, writes the same files over.
    """
    report = await load(report_id)
    sold: list[Sold] = []
    days = (report.until - report.since).days + 1
    for n in range(days):
        day = report.since + timedelta(days=n)
        sold += [Sold(day, x.country, x.orders, x.lines, x.revenue) for x in await sales.sold_on(day)]
        await current_job().progress(n + 1, days, f"{day:%-d %B %Y}")
    table = path_of(settings, report_id, "csv")
    await asyncio.to_thread(write_whole, table, to_csv(sold))
    drawing = await draw_chart.enqueue(
        db, table=str(table), since=report.since.isoformat(), until=report.until.isoformat()
    )
    await drawing.result(timeout=120)
    async with db.tx() as tx:
        await finish(tx, report_id, sold)


@reports.job(cpu=True, timeout=60, result_ttl=3600)
def draw_chart(table: str, since: str, until: str) -> None:
    """Draw the CSV file as a PNG file beside it."""
    from shop.reports.chart import draw  # Pillow is loaded in the process that draws, and nowhere else

    source = Path(table)
    rows = [(s.day, s.country, s.revenue) for s in from_csv(source.read_bytes())]
    picture = draw(rows, date.fromisoformat(since), date.fromisoformat(until))
    write_whole(source.with_suffix(".png"), picture)


HEADER = ("day", "country", "orders", "lines", "revenue")


def to_csv(sold: list[Sold]) -> bytes:
    """The CSV file (RFC 4180, UTF-8); revenue in pounds with two decimals."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(HEADER)
    writer.writerows((s.day, s.country, s.orders, s.lines, pounds(s.revenue)) for s in sold)
    return text.getvalue().encode()


def from_csv(content: bytes) -> list[Sold]:
    """What :func:`to_csv` wrote."""
    rows = csv.DictReader(io.StringIO(content.decode(), newline=""))
    return [
        Sold(
            date.fromisoformat(row["day"]),
            row["country"],
            int(row["orders"]),
            int(row["lines"]),
            pence(row["revenue"]),
        )
        for row in rows
    ]


def totals(sold: list[Sold]) -> dict[str, int]:
    return {name: sum(getattr(s, name) for s in sold) for name in ("orders", "lines", "revenue")}


async def _start(tx: Tx, days: Days, clock: Clock) -> Report:
    report = Report(clock.uuid(), "days", days.since, days.until, "running", 0, 0, 0, now(clock))
    job = await build_report.enqueue(tx, report_id=report.id)
    await note(tx, report, await job.written(tx))
    return report


async def note(tx: Tx, report: Report, job_id: int) -> None:
    """Write down a report that ``job_id`` makes."""
    row = msgspec.structs.asdict(report) | {"job_id": job_id}
    del row["days_done"]
    await tx.execute(_add, row)


async def finish(tx: Tx, report_id: str, sold: list[Sold]) -> None:
    """The report's files are there."""
    await tx.execute(_finish, id_=report_id, state="done", **totals(sold))


async def load(report_id: str) -> Report:
    report = await db.read().maybe(_by_id, Report, id=report_id)
    if report is None:
        raise NotFound(f"There is no report {report_id!r}.")
    return report


async def _finished(report_id: str, settings: Settings, suffix: str) -> Path:
    report = await load(report_id)
    if report.state != "done":
        raise NotFound(f"The report {report_id!r} is not done yet.")
    return path_of(settings, report_id, suffix)


def path_of(settings: Settings, report_id: str, suffix: str) -> Path:
    return folder(settings, "reports") / f"{report_id}.{suffix}"


def _wrong_days(message: str) -> InvalidInput:
    return InvalidInput(errors=[FieldError(in_="body", path="until", message=message)])


def now(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock.now(), UTC)
