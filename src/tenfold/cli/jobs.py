"""``tenfold jobs``: messages of the queue, looked at and dealt with. Any process of the app may be running."""

from __future__ import annotations

import asyncio
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
from tenfold.errors import ConfigError
from tenfold.queue.message import State

if TYPE_CHECKING:
    from tenfold.queue.admin import Admin, MessageInfo

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


@commands.default
@commands.command(name="list")
def list_(
    *,
    state: Annotated[State | None, Parameter(help="Only messages in this state.")] = None,
    handler: Annotated[str | None, Parameter(help="Only of this job, subscriber or schedule.")] = None,
    queue: Annotated[str | None, Parameter(help="Only of this queue.")] = None,
    limit: Annotated[int, Parameter(help="At most so many.")] = 30,
    where: Where = Here,
) -> int:
    """List the newest messages, and how many there are in all."""

    async def act(admin: Admin) -> None:
        found = await admin.list(state=state, handler=handler, queue=queue, limit=limit)
        rows = [_row(info) for info in found]
        console.table(rows, headings=("id", "state", "what", "attempt", "created", ""))
        counts = await admin.counts()
        summary = ", ".join(f"{count.messages:,} {count.state} in {count.queue}" for count in counts)
        console.say(console.paint(summary or "Nothing is pending and nothing has died.", console.DIM))

    return _with_queue(where, act)


@commands.command
def show(id_: Annotated[int, Parameter(name="ID")], /, *, where: Where = Here) -> int:
    """Show everything about one message: arguments, progress, result, error."""

    async def act(admin: Admin) -> None:
        info = await admin.show(id_)
        console.table([(console.paint(name, console.DIM), value) for name, value in _details(info)])
        for title, text in (("Result", info.result), ("Error", info.error)):
            if text:
                console.say(f"\n{console.paint(title, console.BOLD)}\n{text}")

    return _with_queue(where, act)


@commands.command
def retry(
    *ids: Id,
    dead: Annotated[bool, Parameter(negative=(), help="Every dead message.")] = False,
    handler: Annotated[str | None, Parameter(help="With --dead: only of this handler.")] = None,
    where: Where = Here,
) -> int:
    """Run dead or cancelled messages again, as if new; delayed and parked ones now."""
    if bool(ids) == dead:
        raise ConfigError("name ids, or all dead messages with --dead.", where="jobs retry")

    async def act(admin: Admin) -> None:
        if dead:
            console.say(f"{plural(await admin.retry_dead(handler), 'message')} will run again.")
        for id_ in ids:
            await admin.retry(id_)
            console.say(f"{id_} will run again.")

    return _with_queue(where, act)


@commands.command
def cancel(*ids: Id, where: Where = Here) -> int:
    """Take pending messages off, and ask running ones to stop."""

    async def act(admin: Admin) -> None:
        for id_ in _some(ids, "cancel"):
            done = await admin.cancel(id_)
            console.say(f"{id_} {'is cancelled, or stops soon' if done else 'had finished already'}.")

    return _with_queue(where, act)


@commands.command
def discard(*ids: Id, where: Where = Here) -> int:
    """Remove finished messages for good; pending ones are cancelled first."""

    async def act(admin: Admin) -> None:
        for id_ in _some(ids, "discard"):
            await admin.discard(id_)
            console.say(f"{id_} is removed.")

    return _with_queue(where, act)


def _some(ids: tuple[int, ...], what: str) -> tuple[int, ...]:
    if not ids:
        raise ConfigError("name at least one id.", where=f"jobs {what}")
    return ids


def _with_queue(where: Where, act: Callable[[Admin], Awaitable[None]]) -> int:
    from tenfold.db import migrations
    from tenfold.queue.admin import Admin
    from tenfold.queue.queue import Queues

    app = target.load(where.app, where.config)
    app.configure(where.config, app__data_dir=None if where.data is None else str(where.data))

    async def main() -> None:
        async with connected(app):
            await migrations.prepare(app.databases, "check")
            await act(Admin(Queues(app.clock).of(app.databases[0])))

    asyncio.run(main())
    return 0


def _row(info: MessageInfo) -> tuple[str, ...]:
    state = f"{info.state:<9}"
    note = info.first_error_line
    return (
        str(info.id),
        console.paint(state, COLOURS[info.state]) if info.state in COLOURS else state,
        info.handler,
        str(info.attempts),
        _time(info.created_at),
        note if len(note) <= 60 else f"{note[:59]}…",
    )


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
        *((name, _time(at)) for name, at in times.items() if at is not None),
        ("worker", info.worker or ""),
        ("progress", f"{how_far.done:g} of {how_far.total:g} {how_far.note}" if how_far else ""),
        ("key", info.order_key or ""),
        ("unique key", info.unique_key or ""),
    ]
    return [(name, value) for name, value in rows if value]


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
