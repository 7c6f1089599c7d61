"""``tenfold events list|replay|quarantine``: how events flow, and what people do about it. No process need be running."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tenfold._core.text import plural
from tenfold.cli import console, target
from tenfold.cli.connection import connected
from tenfold.cli.jobs import Here, Where
from tenfold.errors import ConfigError

if TYPE_CHECKING:
    from tenfold.assembly.events import Events
    from tenfold.events.admin import EventsAdmin

LINE_EVERY_S = 5.0
"""Between two lines of progress where there is no terminal."""

Act = Callable[["EventsAdmin", "Events"], Awaitable[None]]
Moment = Annotated[
    str, Parameter(help='"2026-11-22 09:30" (local time), with an offset, or "90m", "2h", "3d" ago.')
]


def list_(*, where: Where = Here) -> int:
    """List topics with what waits to be published, and subscriptions with what waits to be handled."""

    async def act(admin: EventsAdmin, events: Events) -> None:
        rows: list[tuple[str, ...]]
        topics, subscriptions, trouble = await admin.overview(events.topics, events.feeds)
        rows = [
            (
                t.name,
                f"{t.unsent:,}",
                _age(t.oldest_s) if t.unsent else "",
                f"{t.kept:,}",
                console.paint(t.error, console.RED),
            )
            for t in topics
        ]
        console.table(rows, headings=("topic", "unsent", "oldest", "sent and kept", ""), cut=True)
        console.say()
        rows = [
            (
                s.name,
                s.topic or console.paint("not in the code", console.YELLOW),
                "" if s.at_broker is None else f"{s.at_broker:,}",
                f"{s.pending:,}",
                console.paint(f"{s.parked:,}", console.YELLOW) if s.parked else "0",
                console.paint(f"{s.dead:,}", console.RED) if s.dead else "0",
            )
            for s in subscriptions
        ]
        console.table(rows, headings=("subscription", "topic", "at broker", "in queue", "parked", "dead"))
        if trouble:
            console.say(f"{console.paint('!', console.YELLOW)} {trouble}")
        if events.broker is None:
            console.say(
                console.paint("The app's own database carries the events: events.url is empty.", console.DIM)
            )

    return _with_events(where, act)


def replay(
    *,
    since: Moment,
    until: Moment = "now",
    topic: Annotated[str | None, Parameter(help="Only of this topic. Default: all.")] = None,
    dry_run: Annotated[bool, Parameter(negative=(), help="Only say how many there are.")] = False,
    where: Where = Here,
) -> int:
    """Publish again what was published in a time range, to a broker that has lost it.

    The relay of a running app does it. Subscriptions that have handled an event, or given it
    up, do not handle it again; see `tenfold events quarantine --retry`.
    """
    now = time.time()
    begin, end = moment(since, now, "--since"), moment(until, now, "--until")
    if begin >= end:
        raise ConfigError("it ends before it begins.", where="--until")

    async def act(admin: EventsAdmin, events: Events) -> None:
        _known(topic, events)
        if events.broker is None:
            raise ConfigError("there is no broker to publish to.", where="events.url")
        count = await admin.count(begin, end, topic)
        span = f"published from {_time(begin)} to {_time(end)}"
        if dry_run or not count:
            console.say(f"{plural(count, 'event')} {span}.")
            return
        console.say(f"Publishing again {plural(count, 'event')} {span}.")
        await _progress(admin.replay(begin, end, topic), count)
        console.say("Done: the relay of a running app publishes them, oldest first.")

    return _with_events(where, act)


def quarantine(
    *ids: Annotated[int, Parameter(name="ID", help="With --retry: only these.")],
    retry: Annotated[bool, Parameter(negative=(), help="Handle them again, as if new.")] = False,
    subscription: Annotated[str | None, Parameter(help="Only of this subscription.")] = None,
    limit: Annotated[int, Parameter(help="At most so many are listed.")] = 30,
    where: Where = Here,
) -> int:
    """List the events that a subscription could not handle, with their error; --retry handles them again."""
    if ids and not retry:
        raise ConfigError("ids are named to be handled again: add --retry.", where="events quarantine")

    async def act(admin: EventsAdmin, events: Events) -> None:
        if retry:
            if ids:
                await admin.retry(ids)
            count = len(ids) if ids else await admin.retry_all(subscription)
            console.say(f"{plural(count, 'event')} will be handled again.")
            return
        found = await admin.quarantine(subscription, limit)
        rows: list[tuple[str, ...]] = [
            (
                str(info.id),
                info.handler,
                str(info.attempts),
                _time(info.created_at),
                info.first_error_line,
            )
            for info in found
        ]
        console.table(rows, headings=("id", "subscription", "attempts", "since", "error"), cut=True)
        if not found:
            console.say(console.paint("Nothing is in quarantine.", console.DIM))
        else:
            console.say(
                console.paint(
                    "Details: tenfold jobs show ID. Again: tenfold events quarantine --retry ID …",
                    console.DIM,
                )
            )

    return _with_events(where, act)


def moment(text: str, now: float, option: str) -> float:
    """Seconds since the epoch. Raises ConfigError with what can be written."""
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    if text == "now":
        return now
    try:
        if text[-1:] in units and text[:-1].isdecimal():
            return now - timedelta(**{units[text[-1]]: int(text[:-1])}).total_seconds()
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{text!r} is no moment.",
            where=option,
            remedy='Write "2026-11-22 09:30", "now", or "90m", "2h", "3d" for ago.',
        ) from None


def _known(topic: str | None, events: Events) -> None:
    from tenfold._core.text import nearest

    if topic is not None and topic not in events.topics:
        raise ConfigError(
            f"there is no topic {topic!r}.{nearest(topic, list(events.topics))}", where="--topic"
        )


def _with_events(where: Where, act: Act) -> int:
    from tenfold.assembly import Assembly
    from tenfold.db import migrations

    app = target.load(where.app, where.config)
    app.configure(where.config, app__data_dir=None if where.data is None else str(where.data))

    async def main() -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(connected(app))
            await migrations.prepare(app.databases, "check")
            background = Assembly(app).background
            events = background.events
            if events.broker is not None:
                stack.push_async_callback(events.broker.stop)
            await act(events.admin(background.queues.of(app.databases[0])), events)

    asyncio.run(main())
    return 0


async def _progress(steps: AsyncGenerator[int], total: int) -> None:
    """A bar on a terminal, a line now and then elsewhere."""
    if console.coloured():
        from rich.progress import Progress

        with Progress() as bars:
            bar = bars.add_task("events", total=total)
            async for done in steps:
                bars.update(bar, completed=done)
        return
    said_at = time.monotonic()
    async for done in steps:
        if time.monotonic() - said_at > LINE_EVERY_S:
            said_at = time.monotonic()
            console.say(f"{done:,} of {total:,}")


def _age(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3_600:.0f} h"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
