"""Every night, a report over all orders: summed up month by month side by side, drawn, kept, and mailed.

It is a flow: what a step has done is recorded, so a night in which the machine is restarted ends with one report and one
mail, and no month is summed up twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import date, timedelta

from msgspec import Struct

from shop.files import write_whole
from shop.money import pounds
from shop.orders import sales
from shop.reports.revenue import (
    Report,
    ReportSettings,
    Sold,
    draw_chart,
    finish,
    load,
    note,
    now,
    path_of,
    reports,
    to_csv,
)
from tenfold import Clock, Flow, Mailer, Retry, Settings, Tx, injected
from tenfold.mail.message import Attachment

__all__ = ["reports"]  # the service, complete once this module is imported: what the app needs


class Month(Struct, frozen=True):
    """The part of a month that a report covers, both days included."""

    since: date
    until: date


@reports.every("0 3 * * *", timezone="Europe/London")
async def nightly_report(tx: Tx, clock: Clock) -> None:
    """Begin the report of all days up to yesterday."""
    yesterday = now(clock).date() - timedelta(days=1)
    since = min(await sales.first_day() or yesterday, yesterday)
    report = Report(clock.uuid(), "nightly", since, yesterday, "running", 0, 0, 0, now(clock))
    job = await build_nightly.enqueue(tx, report_id=report.id, since=since, until=yesterday)
    await note(tx, report, await job.written(tx))


@reports.job(retry=Retry(attempts=8), timeout=120)
async def build_nightly(report_id: str, since: date, until: date, flow: Flow = injected()) -> None:
    """Sum up, write, draw, note, mail: each once."""
    months = await flow.run_all([sum_month.call(month) for month in months_between(since, until)])
    sold = [one for month in months for one in month]
    table = await flow.step("write the table", write_table, report_id, sold)
    await flow.run(draw_chart.call(table=table, since=since.isoformat(), until=until.isoformat()))
    await flow.step("done", note_end, report_id, sold)
    await flow.step("mail", mail_report, report_id)


@reports.job(retry=Retry(attempts=8), timeout=120)
async def sum_month(month: Month) -> list[Sold]:
    """What was sold in one month, per day and country."""
    found = await sales.sold_between(month.since, month.until)
    return [Sold(one.day, one.country, one.orders, one.lines, one.revenue) for one in found]


async def write_table(report_id: str, sold: list[Sold], settings: Settings = injected()) -> str:
    """Write the CSV file; its path."""
    table = path_of(settings, report_id, "csv")
    await asyncio.to_thread(write_whole, table, to_csv(sold))
    return str(table)


async def note_end(report_id: str, sold: list[Sold], tx: Tx = injected()) -> None:
    await finish(tx, report_id, sold)


async def mail_report(
    report_id: str,
    settings: Settings = injected(),
    own: ReportSettings = injected(),
    mailer: Mailer = injected(),
) -> None:
    """Mail it to whom the settings name. The key makes a second mail, after a crash, recognisable as the first."""
    if not own.mail_to:
        return
    report = await load(report_id)
    files = [
        Attachment(f"revenue.{suffix}", path_of(settings, report_id, suffix).read_bytes(), kind)
        for suffix, kind in (("csv", "text/csv"), ("png", "image/png"))
    ]
    facts = [
        ("Days", f"{report.since:%d %B %Y} to {report.until:%d %B %Y}"),
        ("Orders", f"{report.orders:,}"),
        ("Lines", f"{report.lines:,}"),
        ("Revenue", f"£{pounds(report.revenue)}"),
    ]
    await mailer.send(
        own.mail_to,
        f"All orders up to {report.until:%d %B %Y}",
        "".join(f"{name:<10}{value}\n" for name, value in facts),
        html=f"<table>{''.join(f'<tr><th align=left>{n}</th><td>{v}</td></tr>' for n, v in facts)}</table>",
        attachments=files,
        key=f"nightly-{report_id}",
    )


def months_between(since: date, until: date) -> Iterator[Month]:
    """Every month that has a day in question, the first and the last cut to it."""
    while since <= until:
        following = (since.replace(day=1) + timedelta(days=32)).replace(day=1)
        yield Month(since, min(until, following - timedelta(days=1)))
        since = following
