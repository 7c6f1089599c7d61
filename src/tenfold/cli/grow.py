"""``tenfold grow``: move an embedded installation to a database server, while the app runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tenfold._core.resolve import backend_class, scheme_of
from tenfold.cli import console, target
from tenfold.cli.grow_settings import show_or_write
from tenfold.cli.grow_view import View, show_plan, show_report
from tenfold.cli.run import Data
from tenfold.cli.target import Config, Target
from tenfold.errors import ConfigError

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.db.contract import DatabaseBackend
    from tenfold.grow.growth import Growth
    from tenfold.grow.live import Live

To = Annotated[
    str | None, Parameter(help="The new database: postgresql://user:password@host/name or mysql://….")
]
LiveAt = Annotated[
    list[str] | None,
    Parameter(
        name="--live",
        negative=(),
        help="Operations listener of a running process, once per process. Default: the one of the settings.",
    ),
]
DryRun = Annotated[bool, Parameter(negative=(), help="Say what would be moved and what is in the way.")]
Resume = Annotated[bool, Parameter(negative=(), help="Go on with a move that was interrupted.")]
Rollback = Annotated[bool, Parameter(negative=(), help="Give up a move before its cut-over.")]
Discard = Annotated[
    bool,
    Parameter(
        negative=(),
        help="With --rollback after the cut-over: go back to the old file and lose what came since.",
    ),
]
Write = Annotated[bool, Parameter(negative=(), help="Put the new database.url into the settings file.")]


def grow(
    app: Target = None,
    /,
    *,
    to: To = None,
    live: LiveAt = None,
    dry_run: DryRun = False,
    resume: Resume = False,
    rollback: Rollback = False,
    discard_changes: Discard = False,
    write: Write = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Move an embedded (SQLite) installation to PostgreSQL or MariaDB without stopping the app."""
    if sum((dry_run, resume, rollback)) > 1:
        raise ConfigError("--dry-run, --resume and --rollback exclude each other.", where="grow")
    if discard_changes and not rollback:
        raise ConfigError("--discard-changes goes with --rollback.", where="grow")
    if to is None and not discard_changes:
        raise ConfigError("--to says where to: postgresql://user:password@host/name.", where="grow")
    loaded = target.load(app, config)
    found = loaded.configure(config, app__data_dir=None if data is None else str(data))
    _refuse_other_source(loaded)
    if discard_changes:
        return asyncio.run(_go_back(loaded))
    assert to is not None
    if rollback:
        return asyncio.run(_roll_back(loaded, to, live))
    if dry_run:
        return asyncio.run(_dry_run(loaded, to, live))
    asyncio.run(_move(loaded, to, live, resume=resume))
    show_or_write(to, config, found.sources.get("database.url", ""), write=write)
    return 0


async def _move(app: App, to: str, live: list[str] | None, *, resume: bool) -> None:
    view = View()
    async with _growth(app, to, live, view) as growth:
        mark = (await growth.source.state()).mark
        if mark is not None and mark.moved and not resume:
            raise ConfigError(
                f"this database has moved to {mark.target}.", where="grow",
                remedy="Set database.url to it. --resume finishes what was interrupted after that; --rollback --discard-changes "
                "takes the old file back as it was then.",
            )  # fmt: skip
        if mark is not None and not resume:
            raise ConfigError(
                "a move of this database was begun already.", where="grow",
                remedy="Go on with it (--resume), or give it up (--rollback).",
            )  # fmt: skip
        view.plan(await growth.check())
        with view:
            report = await growth.run()
    show_report(report, growth.url)


async def _dry_run(app: App, to: str, live: list[str] | None) -> int:
    async with _growth(app, to, live, View()) as growth:
        show_plan(await growth.check(), growth.url)
    return 0


async def _roll_back(app: App, to: str, live: list[str] | None) -> int:
    async with _growth(app, to, live, View()) as growth:
        await growth.roll_back()
    console.say("Rolled back: the new database is empty again, and the app goes on as before.")
    return 0


async def _go_back(app: App) -> int:
    from tenfold.grow.source import Source
    from tenfold.grow.tables import subjects

    source = Source(_source(app), subjects(app.databases))
    mark = (await source.state()).mark
    if mark is None or not mark.moved:
        raise ConfigError("this database has not moved.", where="--discard-changes")
    await source.unmark()
    console.say(
        f"{app.settings.database.url} can be used again, as it was at the cut-over. What was written to {mark.target} "
        "since stays there, untouched."
    )
    return 0


@asynccontextmanager
async def _growth(app: App, to: str, live: list[str] | None, view: View) -> AsyncGenerator[Growth]:
    """The move, with the new database connected."""
    from tenfold.grow.growth import Growth

    source = _source(app)
    made = _target(app, to)
    await made.start()
    try:
        reached = await _reach(app, live)
        yield Growth(app.databases, source, made, _path(app), reached, view, app.clock)
    finally:
        with contextlib.suppress(Exception):
            await made.stop()


async def _reach(app: App, addresses: list[str] | None) -> Live:
    """The app's processes: those that were named, or the one of the settings if it runs.

    Raises ConfigError when a process that has the file open was not reached.
    """
    from tenfold.grow.holders import holders
    from tenfold.grow.live import Live, Unreachable

    ops = app.settings.ops
    host = f"[{ops.host}]" if ":" in ops.host else ops.host
    live = Live(addresses or [f"http://{host}:{ops.port}"], ops.token)
    try:
        reached = {status.pid for status in await live.status()}
    except Unreachable:
        if addresses:
            raise
        live, reached = Live([], ""), set()
    if others := sorted(holders(_path(app)) - reached):
        listed = ", ".join(map(str, others))
        raise ConfigError(
            f"the database is open in process {listed}, which was not reached.", where="--live",
            remedy="Name the operations listener of every process of the app (--live http://127.0.0.1:8001, once for "
            "each), or stop them. One that has only just started is reached as soon as it is ready.",
        )  # fmt: skip
    return live


def _refuse_other_source(app: App) -> None:
    url = app.settings.database.url
    if not app.databases:
        raise ConfigError(f"no service of {app.name!r} has a database.", where="grow")
    if scheme_of(url) != "sqlite" or url.rstrip("/").endswith((":memory:", "sqlite:")):
        from tenfold._core.secrets import hide_passwords

        raise ConfigError(
            f"it is {hide_passwords(url)}; only an SQLite file can be moved.", where="database.url",
            remedy="Move a server's database with its own tools.",
        )  # fmt: skip
    if not _path(app).exists():
        raise ConfigError(
            f"there is no file {_path(app)} to move.",
            where="database.url",
            remedy="Set database.url to the new place.",
        )


def _path(app: App) -> Path:
    return (app.data_dir / app.settings.database.url.partition("://")[2][1:]).absolute()


def _source(app: App) -> DatabaseBackend:
    settings = app.settings.database
    made: DatabaseBackend = backend_class("db", settings.url, where="database.url").from_url(
        settings.url, settings=settings, data_dir=app.data_dir, clock=app.clock
    )
    return made


def _target(app: App, to: str) -> DatabaseBackend:
    import msgspec

    settings = msgspec.structs.replace(app.settings.database, url=to, statement_timeout_s=3_600.0)
    made: DatabaseBackend = backend_class("db", to, where="--to").from_url(
        to, settings=settings, data_dir=app.data_dir, clock=app.clock
    )
    return made
