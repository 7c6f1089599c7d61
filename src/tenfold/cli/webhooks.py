"""``tenfold webhooks``: endpoints that events are sent to. Any process of the app may be running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import App as Commands
from cyclopts import Parameter

from tenfold._core.text import plural
from tenfold.cli import console, target
from tenfold.cli.connection import connected
from tenfold.cli.event_flow import Moment, moment
from tenfold.cli.jobs import Here, Where
from tenfold.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.webhooks.outgoing import Webhooks
    from tenfold.webhooks.store import Delivery, Endpoint

commands = Commands(
    name="webhooks", help="Look at webhook endpoints, test them, enable them, and replay events."
)

COLOURS = {"enabled": console.GREEN, "disabled": console.RED}
DELIVERY_COLOURS = {"delivered": console.GREEN, "failed": console.RED, "held": console.YELLOW}

Id = Annotated[str, Parameter(name="ID", help="Of an endpoint, as `tenfold webhooks list` shows.")]


@commands.default
@commands.command(name="list")
def list_(*, where: Where = Here) -> int:
    """List the endpoints of every service."""

    async def act(app: App) -> int:
        rows = [_row(hooks, one) for hooks in _all(app) for one in await hooks.endpoints()]
        if rows:
            console.table(
                rows, headings=("id", "state", "service", "url", "topics", "failures", ""), cut=True
            )
        else:
            console.say(console.paint("There are no endpoints.", console.DIM))
        return 0

    return _with_app(where, act)


@commands.command
def log(
    id_: Id, /, *, limit: Annotated[int, Parameter(help="At most so many.")] = 30, where: Where = Here
) -> int:
    """List the newest deliveries to an endpoint."""

    async def act(app: App) -> int:
        hooks = await _owner(app, id_)
        rows = [_delivery_row(one) for one in await hooks.log(id_, limit=limit)]
        console.table(
            rows, headings=("event", "topic", "state", "attempts", "status", "took", "tried", ""), cut=True
        )
        return 0

    return _with_app(where, act)


@commands.command(name="test")
def send_test(id_: Id, /, *, where: Where = Here) -> int:
    """Send a test event to an endpoint now, and say what it answered. Exit code 1: it was not 2xx."""

    async def act(app: App) -> int:
        from tenfold.webhooks.transport import HttpSender

        hooks = await _owner(app, id_)
        sender = HttpSender(app.settings.webhooks, app.clock)
        try:
            answer = await hooks.test(id_, sender)
        finally:
            await sender.stop()
        colour = console.GREEN if answer.delivered else console.RED
        console.say(f"{console.paint(answer.sentence.rstrip('.'), colour)} in {answer.duration_ms:,.0f} ms")
        return 0 if answer.delivered else 1

    return _with_app(where, act)


@commands.command
def enable(*ids: Id, where: Where = Here) -> int:
    """Send to endpoints again, from the next event on."""

    async def act(app: App) -> int:
        for id_ in _some(ids, "enable"):
            hooks = await _owner(app, id_)
            async with hooks.database.tx() as tx:
                found = await hooks.enable(tx, id_)
            console.say(f"{id_} is enabled: {found.url}")
        return 0

    return _with_app(where, act)


@commands.command
def disable(*ids: Id, where: Where = Here) -> int:
    """Send nothing to endpoints until they are enabled; their events are held."""

    async def act(app: App) -> int:
        for id_ in _some(ids, "disable"):
            hooks = await _owner(app, id_)
            async with hooks.database.tx() as tx:
                found = await hooks.disable(tx, id_)
            console.say(f"{id_} is disabled: {found.url}")
        return 0

    return _with_app(where, act)


@commands.command
def replay(
    id_: Id,
    /,
    *,
    since: Moment,
    until: Moment = "now",
    delivered: Annotated[bool, Parameter(negative=(), help="Also what was delivered.")] = False,
    where: Where = Here,
) -> int:
    """Deliver the events of a time again that were not delivered; a running worker does it."""

    async def act(app: App) -> int:
        from tenfold.webhooks.store import DeliveryState

        now = app.clock.now()
        begin, end = moment(since, now, "--since"), moment(until, now, "--until")
        hooks = await _owner(app, id_)
        states: list[DeliveryState] = ["failed", "held"]
        count = await hooks.replay(id_, begin, end, states=[*states, "delivered"] if delivered else states)
        console.say(f"{plural(count, 'event')} will be delivered again.")
        return 0

    return _with_app(where, act)


def _with_app(where: Where, act: Callable[[App], Awaitable[int]]) -> int:
    from tenfold.assembly import Assembly
    from tenfold.db import migrations
    from tenfold.queue.queue import Queues

    app = target.load(where.app, where.config)
    app.configure(where.config, app__data_dir=None if where.data is None else str(where.data))
    hooks = _all(app)

    async def main() -> int:
        async with connected(app):
            await migrations.prepare(app.databases, "check")
            Assembly(app)  # connects nothing; it tells the container what jobs may ask for
            queues = Queues(app.clock)
            for one in hooks:
                one.bind(app.settings, app.clock)
                for job in one.work.jobs:
                    job.bind(queues, app.container, one.database)
            return await act(app)

    return asyncio.run(main())


def _all(app: App) -> list[Webhooks]:
    found = [hooks for service in app.services for hooks in service.webhooks_out]
    if not found:
        raise ConfigError(
            f"no service of {app.name!r} sends webhooks.",
            where="webhooks",
            remedy="Declare it: hooks = service.webhooks(topic).",
        )
    return found


async def _owner(app: App, endpoint_id: str) -> Webhooks:
    for hooks in _all(app):
        try:
            await hooks.get(endpoint_id)
        except NotFound:
            continue
        return hooks
    raise NotFound(f"There is no webhook endpoint {endpoint_id!r}; `tenfold webhooks list` shows them.")


def _some(ids: tuple[str, ...], what: str) -> tuple[str, ...]:
    if not ids:
        raise ConfigError("name at least one id.", where=f"webhooks {what}")
    return ids


def _row(hooks: Webhooks, one: Endpoint) -> tuple[str, ...]:
    return (
        one.id,
        console.paint(one.state, COLOURS[one.state]),
        hooks.service,
        one.url,
        ", ".join(topic.removeprefix(f"{hooks.service}.") for topic in one.topics),
        str(one.failures),
        one.reason,
    )


def _delivery_row(one: Delivery) -> tuple[str, ...]:
    return (
        one.event_id,
        one.topic,
        console.paint(one.state, DELIVERY_COLOURS.get(one.state, "0")),
        str(one.attempts),
        "" if one.status is None else str(one.status),
        "" if one.duration_ms is None else f"{one.duration_ms:,.0f} ms",
        "" if one.tried_at is None else _shown(one.tried_at),
        one.said,
    )


def _shown(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
