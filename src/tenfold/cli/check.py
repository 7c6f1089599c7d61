"""``tenfold check``: what can be found wrong without starting anything, or in a process that runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tenfold._core.text import plural
from tenfold.cli import console, target
from tenfold.cli.target import Config, Target
from tenfold.errors import ConfigError

if TYPE_CHECKING:
    from tenfold.app import App


Live = Annotated[
    str | None,
    Parameter(
        help="Ask a running process instead, at the address of its operations listener: what its database suffers from."
    ),
]


Against = Annotated[
    Path | None,
    Parameter(
        name="--against",
        help="A file that --schema wrote with the code of an older version: tell what services of both do not understand of "
        "each other's calls.",
    ),
]
Schema = Annotated[
    Path | None,
    Parameter(
        name="--schema", help="Write what services call of each other into this file, to be compared later."
    ),
]


def check(
    app: Target = None,
    /,
    *,
    live: Live = None,
    against: Against = None,
    schema: Schema = None,
    config: Config = None,
) -> int:
    """Import the app, read its settings, plan its dependencies, compile its operations, compare its topics with what
    was released of them; exit with 1 for problems."""
    loaded = target.load(app, config)
    loaded.configure(config)
    if live is not None:
        from tenfold.cli import findings

        return findings.show(live, loaded.settings.ops.token)
    from tenfold.cli import event_schemas

    events = event_schemas.judged(loaded)
    problems = [*loaded.check(), *events.problems]
    if not problems and against is not None:
        problems = _broken_calls(loaded, against)
    for problem in problems:
        console.note(f"{console.paint('✗', console.RED)} {problem}")
    if problems:
        return 1
    for finding in [*_dangers(loaded), *events.notes]:
        console.say(f"{console.paint('!', console.YELLOW)} {finding}")
    if schema is not None:
        _write_calls(loaded, schema)
    console.say(f"{console.paint('✓', console.GREEN)} {loaded.name}: {_made_of(loaded)}. Nothing is wrong.")
    return 0


def _broken_calls(app: App, against: Path) -> list[str]:
    from tenfold.rpc import schema

    return schema.broken(schema.read(against), schema.called(app))


def _write_calls(app: App, file: Path) -> None:
    from tenfold.rpc import schema

    found = schema.called(app)
    try:
        file.write_bytes(found.encode())
    except OSError as error:
        raise ConfigError(f"it cannot be written: {error.strerror or error}.", where=str(file)) from None
    console.say(f"{plural(len(found.operations), 'operation')} → {file}")


def _dangers(app: App) -> list[str]:
    """Steps of migrations that lose data or keep other work waiting; they may be meant, so they are no problem."""
    from tenfold.db.lint import lint
    from tenfold.db.revisions import scripts_of

    scripts = [script for database in app.databases for script in scripts_of(database)]
    return [str(finding) for script in scripts for finding in lint(script)]


def _made_of(app: App) -> str:
    counts = [
        (len(app.services), "service"),
        (len(app.operations), "operation"),
        (len(app.jobs), "job"),
        (sum(len(service.subscriptions) for service in app.services), "subscriber"),
        (sum(len(service.schedules) for service in app.services), "schedule"),
    ]
    return ", ".join(plural(count, noun) for count, noun in counts if count)
