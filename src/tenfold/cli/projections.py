"""``tenfold projections``: how far they are, pausing, resuming and rebuilding. The app may run meanwhile."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

from cyclopts import App as Commands
from cyclopts import Parameter

from tenfold._core.text import plural
from tenfold.cli import console, target
from tenfold.cli.connection import connected
from tenfold.cli.jobs import Here, Where

if TYPE_CHECKING:
    from tenfold.eventstore.admin import Projections

commands = Commands(
    name="projections", help="Look at projections of events, and pause, resume or rebuild them."
)

COLOURS = {"failed": console.RED, "running": console.GREEN, "stale": console.YELLOW, "paused": console.YELLOW}
Name = Annotated[str, Parameter(name="NAME", help="As `tenfold projections list` shows.")]
BAR = 30
LINE_EVERY_S = 5.0


@commands.default
@commands.command(name="list")
def list_(*, where: Where = Here) -> int:
    """List every projection, and how far it is."""

    async def act(projections: Projections) -> None:
        rows: list[tuple[str, ...]] = [
            (
                info.name, info.mode, console.paint(info.state, COLOURS.get(info.state, console.DIM)),
                f"{info.behind:,}" if info.mode == "async" else "-", info.note,
            )
            for info in await projections.list()
        ]  # fmt: skip
        if rows:
            console.table(rows, headings=("name", "mode", "state", "behind", ""), cut=True)
        else:
            console.say(console.paint("No service declares a projection.", console.DIM))

    return _with_projections(where, act)


@commands.command
def pause(name: Name, /, *, where: Where = Here) -> int:
    """Let an asynchronous projection rest; nothing is lost."""

    async def act(projections: Projections) -> None:
        await projections.pause(name)
        console.say(f"{name} is paused. To go on, run: tenfold projections resume {name}")

    return _with_projections(where, act)


@commands.command
def resume(name: Name, /, *, where: Where = Here) -> int:
    """Let a paused or failed projection go on where it was."""

    async def act(projections: Projections) -> None:
        await projections.resume(name)
        console.say(f"{name} goes on.")

    return _with_projections(where, act)


@commands.command
def rebuild(
    name: Name,
    /,
    *,
    anew: Annotated[bool, Parameter(negative=(), help="Forget what a killed rebuild has done.")] = False,
    where: Where = Here,
) -> int:
    """Fill a projection's tables anew from all events, while the old ones serve; then swap them."""

    async def act(projections: Projections) -> None:
        progress = Progress(name)
        begun = time.monotonic()
        count = await projections.rebuild(name, progress.at, anew=anew)
        progress.end()
        took_s = time.monotonic() - begun
        console.say(f"{name} is rebuilt of {plural(count, 'event')} in {took_s:.1f} s, and serves.")

    return _with_projections(where, act)


class Progress:
    """A bar on a terminal; elsewhere a line every five seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = time.monotonic()
        self._first: int | None = None
        self._told = self._begun
        self._bar = sys.stdout.isatty()

    def at(self, done: int, of: int) -> None:
        """The position, and the one to come to."""
        now = time.monotonic()
        if self._first is None:
            self._first = done
        rate = (done - self._first) / max(now - self._begun, 0.001)
        left = f", {max(0, of - done) / rate:,.0f} s left" if rate > 0 else ""
        share = done / max(of, 1)
        if self._bar:
            full = round(BAR * share)
            print(
                f"\r{'█' * full}{'░' * (BAR - full)} {share:4.0%}  {done:,} of {of:,}{left}   ",
                end="",
                flush=True,
            )
        elif now - self._told >= LINE_EVERY_S:
            self._told = now
            console.say(f"{self._name}: {share:.0%}, {done:,} of {of:,}{left}")

    def end(self) -> None:
        """Leave the bar's line."""
        if self._bar and self._first is not None:
            print()


def _with_projections(where: Where, act: Callable[[Projections], Awaitable[None]]) -> int:
    from tenfold.assembly.eventstores import store_of
    from tenfold.db import migrations
    from tenfold.eventstore.admin import Projections

    app = target.load(where.app, where.config)
    app.configure(where.config, app__data_dir=None if where.data is None else str(where.data))

    async def main() -> None:
        async with connected(app):
            await migrations.prepare(app.databases, "check")
            aggregates = [aggregate for service in app.services for aggregate in service.aggregates]
            declared = [p.bind(app.container, aggregates) for s in app.services for p in s.projections]
            database = app.databases[0]
            await act(Projections(declared, database, store_of(database), app.clock))

    asyncio.run(main())
    return 0
