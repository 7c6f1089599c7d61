"""``tenfold jobs``: messages of the queue, looked at and dealt with. Any process of the app may be running."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App as Commands
from cyclopts import Parameter

from tenfold._core.text import plural
from tenfold.cli import console, target
from tenfold.cli.connection import connected
from tenfold.cli.progress import Bar
from tenfold.errors import ConfigError
from tenfold.queue.message import State

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.jobs.signals import StepStatus
    from tenfold.queue.admin import Admin, Filter, MessageInfo

commands = Commands(name="jobs", help="Look at messages of the queue, and retry, cancel or discard them.")

COLOURS = {"dead": console.RED, "running": console.GREEN, "parked": console.YELLOW, "delayed": console.CYAN}


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Where:
    """Which app's queue."""

    app: Annotated[str | None, Parameter(help="The app, as module:name. Default: app.target.")] = None
    data: Annotated[Path | None, Parameter(help="Folder of everything the app keeps (app.data_dir).")] = None
    config: Annotated[
        Path | None, Parameter(name=["--config", "-c"], help="Settings file. Default: tenfold.toml.")
    ] = None


Here = Where()
Id = Annotated[int, Parameter(name="ID", help="Ids, as `tenfold jobs list` shows.")]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Which:
    """Messages by what they have in common."""

    state: Annotated[State | None, Parameter(help="Only messages in this state.")] = None
    handler: Annotated[str | None, Parameter(help="Only of this job, subscriber or schedule.")] = None
    queue: Annotated[str | None, Parameter(help="Only of this queue.")] = None
    tenant: Annotated[str | None, Parameter(help="Only of this tenant.")] = None
    older: Annotated[
        str | None, Parameter(help='Only those put in so long ago: "90s", "15m", "2h", "7d".')
    ] = None
    error: Annotated[str | None, Parameter(help="Only those whose error has this text in it.")] = None

    def filter(self) -> Filter:
        """As the queue takes it."""
        from tenfold.queue.info import Filter

        age_s = None if self.older is None else seconds(self.older, "--older")
        return Filter(
            state=self.state, handler=self.handler, queue=self.queue, tenant=self.tenant, older_than_s=age_s,
            error=self.error,
        )  # fmt: skip


Any_ = Which()
All = Annotated[bool, Parameter(name="--all", negative=(), help="Every message that the filters leave.")]


@commands.default
@commands.command(name="list")
def list_(
    *,
    which: Which = Any_,
    limit: Annotated[int, Parameter(help="At most so many.")] = 30,
    where: Where = Here,
) -> int:
    """List the newest messages, and how many there are in all."""

    async def act(admin: Admin) -> None:
        found = await admin.list(which.filter(), limit=limit)
        rows = [_row(info) for info in found]
        console.table(rows, headings=("id", "state", "what", "attempt", "created", ""), cut=True)
        counts = await admin.counts()
        summary = ", ".join(f"{count.messages:,} {count.state} in {count.queue}" for count in counts)
        console.say(console.paint(summary or "Nothing is pending and nothing has died.", console.DIM))

    return with_queue(where, act)


@commands.command
def show(id_: Annotated[int, Parameter(name="ID")], /, *, where: Where = Here) -> int:
    """Show everything about one message: arguments, progress, steps, result, error."""

    from tenfold.jobs.signals import steps

    async def act(admin: Admin) -> None:
        info = await admin.show(id_)
        console.table([(console.paint(name, console.DIM), value) for name, value in _details(info)])
        if found := await steps(admin._queue.database.read(consistency="strong"), id_):
            console.say(f"\n{console.paint('Steps', console.BOLD)}")
            headings = ("name", "kind", "state", "since", "")
            console.table([_step(step) for step in found], headings=headings, cut=True)
        for title, text in (("Result", info.result), ("Error", info.error)):
            if text:
                console.say(f"\n{console.paint(title, console.BOLD)}\n{text}")

    return with_queue(where, act)


@commands.command
def retry(*ids: Id, all_: All = False, which: Which = Any_, where: Where = Here) -> int:
    """Run dead or cancelled messages again, as if new; delayed and parked ones now.

    Name ids, or filters. What has no end yet and is not waiting for a time is passed over.
    """

    async def one(admin: Admin, id_: int) -> str:
        await admin.retry(id_)
        return "will run again"

    async def many(admin: Admin, bar: Bar) -> str:
        return f"{plural(await admin.retry_all(which.filter(), bar), 'message')} will run again."

    return _each_or_all("retry", ids, all_, which, where, one, many)


@commands.command
def cancel(
    *ids: Id,
    all_: All = False,
    why: Annotated[str, Parameter(help="Kept with the messages.")] = "",
    which: Which = Any_,
    where: Where = Here,
) -> int:
    """Take pending messages off, and ask running ones to stop.

    Name ids, or filters. Who you are and why is kept with each message.
    """

    async def one(admin: Admin, id_: int) -> str:
        done = await admin.cancel(id_, by=user(), why=why)
        return "is cancelled, or stops soon" if done else "had finished already"

    async def many(admin: Admin, bar: Bar) -> str:
        cancelled = await admin.cancel_all(which.filter(), bar, by=user(), why=why)
        return f"{plural(cancelled, 'message')} cancelled, or asked to stop."

    return _each_or_all("cancel", ids, all_, which, where, one, many)


@commands.command
def discard(*ids: Id, all_: All = False, which: Which = Any_, where: Where = Here) -> int:
    """Remove finished messages for good; pending ones are cancelled first.

    Name ids, or filters. What runs is passed over.
    """

    async def one(admin: Admin, id_: int) -> str:
        await admin.discard(id_)
        return "is removed"

    async def many(admin: Admin, bar: Bar) -> str:
        return f"{plural(await admin.discard_all(which.filter(), bar), 'message')} removed."

    return _each_or_all("discard", ids, all_, which, where, one, many)


def _each_or_all(
    verb: str,
    ids: tuple[int, ...],
    all_: bool,
    which: Which,
    where: Where,
    one: Callable[[Admin, int], Awaitable[str]],
    many: Callable[[Admin, Bar], Awaitable[str]],
) -> int:
    """The verb for each id, or for every message that the filters leave."""
    filtered = all_ or which != Any_
    if bool(ids) == filtered:
        raise ConfigError("name ids, or filters, or --all.", where=f"jobs {verb}")

    async def act(admin: Admin) -> None:
        for id_ in ids:
            console.say(f"{id_} {await one(admin, id_)}.")
        if filtered:
            with Bar(verb) as bar:
                said = await many(admin, bar)
            console.say(said)

    return with_queue(where, act)


def with_queue(where: Where, act: Callable[[Admin], Awaitable[None]]) -> int:
    """Run ``act`` on the queue of the app's first database."""

    async def with_admin(app: App) -> None:
        from tenfold.assembly.queues import queues_of
        from tenfold.queue.admin import Admin

        await act(Admin(queues_of(app).of(app.databases[0])))

    return with_app(where, with_admin)


def with_app(where: Where, act: Callable[[App], Awaitable[None]]) -> int:
    """Run ``act`` while the app's databases are connected."""
    from tenfold.db import migrations

    app = target.load(where.app, where.config)
    app.configure(where.config, app__data_dir=None if where.data is None else str(where.data))

    async def main() -> None:
        async with connected(app):
            await migrations.prepare(app.databases, "check")
            await act(app)

    asyncio.run(main())
    return 0


_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def seconds(text: str, where: str) -> float:
    """A time as people write it: ``90s``, ``15m``, ``2h``, ``7d``."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isdecimal():
        raise ConfigError(f"{text!r} is not a time.", where=where, remedy='Write "90s", "15m", "2h" or "7d".')
    return float(number) * _UNITS[unit]


def user() -> str:
    """Who types the command."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without an entry for its user
        return "command line"


def _row(info: MessageInfo) -> tuple[str, ...]:
    return (
        str(info.id),
        console.paint(info.state, COLOURS[info.state]) if info.state in COLOURS else info.state,
        info.handler,
        str(info.attempts),
        time_of(info.created_at),
        info.first_error_line,
    )


def _step(step: StepStatus) -> tuple[str, ...]:
    """What a flow has done or waits for: its result, its error, or until when."""
    note = step.result if step.state == "done" else (step.error or "").split("\n", 1)[0]
    if step.state in ("waiting", "failing") and step.due_at is not None:
        note = f"until {time_of(step.due_at)}" + (f", {step.attempts} failed: {note}" if note else "")
    return (step.name, step.kind, step.state, time_of(step.finished_at or step.created_at), note or "")


def _details(info: MessageInfo) -> list[tuple[str, str]]:
    how_far = info.how_far
    times = {
        "created": info.created_at,
        "due": info.run_at,
        "started": info.started_at,
        "leased until": info.lease_until,
        "finished": info.finished_at,
    }
    rows = [
        ("id", str(info.id)),
        ("kind", info.kind),
        ("what", info.handler),
        ("state", info.state),
        ("queue", f"{info.queue}, priority {info.priority}"),
        ("arguments", info.payload),
        ("attempt", f"{info.attempts} ({info.failures} failed, {info.crashes} crashed)"),
        *((name, time_of(at)) for name, at in times.items() if at is not None),
        ("worker", info.worker or ""),
        ("asked to stop", info.cancel or ""),
        ("tenant", info.tenant or ""),
        ("progress", f"{how_far.done:g} of {how_far.total:g} {how_far.note}" if how_far else ""),
        ("key", info.order_key or ""),
        ("unique key", info.unique_key or ""),
    ]
    return [(name, value) for name, value in rows if value]


def time_of(at: float) -> str:
    """In this machine's time zone."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
