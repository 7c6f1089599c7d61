"""``tenfold queues``: the queues of an app, and stopping one for a while. Any process of the app may be running."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import App as Commands
from cyclopts import Parameter

from tenfold._core.text import nearest, plural
from tenfold.cli import console
from tenfold.cli.jobs import Here, Where, time_of, user, with_queue

if TYPE_CHECKING:
    from tenfold.queue.admin import Admin, QueueInfo

commands = Commands(name="queues", help="Look at queues, pause and resume them.")

Name = Annotated[str, Parameter(name="NAME", help="The queue, as `tenfold queues` shows.")]
STATES = ("ready", "delayed", "waiting", "running", "parked", "dead")


@commands.default
@commands.command(name="list")
def list_(*, where: Where = Here) -> int:
    """List the queues: what waits in each, its limits, and whether it is paused."""

    async def act(admin: Admin) -> None:
        headings = ("queue", *STATES, "limits", "")
        console.table([_row(info) for info in await admin.queues()], headings=headings)

    return with_queue(where, act)


@commands.command
def pause(
    name: Name,
    /,
    *,
    why: Annotated[str, Parameter(help="Kept with it, for others to read.")] = "",
    where: Where = Here,
) -> int:
    """Start no more messages of a queue until it is resumed. What runs goes on; what comes is kept."""

    async def act(admin: Admin) -> None:
        known = [info.name for info in await admin.queues()]
        paused = await admin.pause(name, by=user(), why=why)
        console.say(f"{name} is paused." if paused else f"{name} was paused already.")
        if name not in known:
            console.note(
                f"Nothing waits in a queue {name!r}, and no service declares it.{nearest(name, known)}"
            )

    return with_queue(where, act)


@commands.command
def resume(name: Name, /, *, where: Where = Here) -> int:
    """Start a queue's messages again, in their order."""

    async def act(admin: Admin) -> None:
        if not await admin.resume(name):
            console.say(f"{name} was not paused.")
            return
        messages = {info.name: info.messages for info in await admin.queues()}.get(name, {})
        console.say(f"{name} goes on: {plural(messages.get('ready', 0), 'message')} to start.")

    return with_queue(where, act)


def _row(info: QueueInfo) -> tuple[str, ...]:
    limits = [info.rate, f"{info.concurrency} at a time" if info.concurrency is not None else ""]
    limits.append("" if info.fair else "oldest first")
    paused = "" if info.paused_at is None else f"{info.paused_by}, {time_of(info.paused_at)}"
    return (
        info.name,
        *(_count(info.messages.get(state, 0)) for state in STATES),
        ", ".join(filter(None, limits)),
        console.paint(paused, console.YELLOW),
    )


def _count(messages: int) -> str:
    return f"{messages:,}" if messages else "·"
