"""``tenfold migrate``: bring the database's tables to what the code says."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tenfold._core.text import nearest
from tenfold.cli import console, target
from tenfold.cli.connection import connected
from tenfold.cli.run import Data
from tenfold.cli.target import Config, Target
from tenfold.errors import ConfigError

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.db.database import Database

New = Annotated[
    str | None, Parameter(help="Write a script with what the code has and the database lacks; its message.")
]
OfService = Annotated[str | None, Parameter(name="--service", help="Whose script --new writes.")]
Empty = Annotated[
    bool,
    Parameter(negative=(), help="With --new: write a script also when nothing changed, to fill in by hand."),
]
Check = Annotated[
    bool, Parameter(negative=(), help="Only say where each service stands; exit with 1 when behind.")
]


def migrate(
    app: Target = None,
    /,
    *,
    new: New = None,
    service: OfService = None,
    empty: Empty = False,
    check: Check = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Apply every migration that the database lacks, or write a new one."""
    if new is not None and check:
        raise ConfigError("--new and --check exclude each other.", where="migrate")
    if service is not None and new is None:
        raise ConfigError(
            "--service goes with --new; migrations are applied for all services together.", where="migrate"
        )
    if empty and new is None:
        raise ConfigError("--empty goes with --new.", where="migrate")
    loaded = target.load(app, config)
    loaded.configure(config, app__data_dir=None if data is None else str(data))
    if new is not None:
        from tenfold.db.lint import lint

        path = asyncio.run(_write(loaded, new, service, empty))
        if path is None:
            console.say("Nothing changed: the tables are as the code declares them. No script was written.")
            return 0
        console.say(f"Wrote {os.path.relpath(path)}. Read it, then run: tenfold migrate")
        for finding in lint(path):
            console.say(f"{console.paint('!', console.YELLOW)} {finding}")
        return 0
    return asyncio.run(_check(loaded) if check else _apply(loaded))


async def _apply(app: App) -> int:
    from tenfold.db import migrations

    async with connected(app):
        done = await migrations.upgrade(
            app.databases, create_without_scripts=app.settings.app.env != "production"
        )
        behind = [status for status in await migrations.status(app.databases) if status.behind]
    for line in done:
        console.say(line)
    for status in behind:
        console.note(
            f"{status.service}: no script makes {', '.join(status.missing)}. "
            f'Run: tenfold migrate --new "first tables" --service {status.service}'
        )
    if not done and not behind:
        console.say("The database is up to date.")
    return 1 if behind else 0


async def _check(app: App) -> int:
    from tenfold.db import migrations

    async with connected(app):
        found = await migrations.status(app.databases)
    rows: list[tuple[str, ...]] = []
    for status in found:
        rows += [(status.service, "to apply", step) for step in status.pending]
        if status.missing:
            rows.append((status.service, "missing", ", ".join(status.missing)))
        if not status.behind:
            rows.append((status.service, "up to date", status.current))
    console.table(rows)
    return 1 if any(status.behind for status in found) else 0


async def _write(app: App, message: str, service: str | None, empty: bool) -> Path | None:
    from tenfold.db import migrations

    database = _database(app, service)
    async with connected(app):
        return await migrations.new(database, message, empty=empty)


def _database(app: App, service: str | None) -> Database:
    names = [database.name for database in app.databases]
    if service is None and len(names) == 1:
        return app.databases[0]
    for database in app.databases:
        if database.name == service:
            return database
    what = "say whose script it is." if service is None else f"no service {service!r} has a database."
    hint = nearest(service, names) if service else ""
    raise ConfigError(what, where="--service", remedy=f"There are {', '.join(names)}.{hint}")
