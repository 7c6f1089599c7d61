"""``tenfold client``: client libraries of an app, in Python and TypeScript."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App as Commands
from cyclopts import Parameter

from tenfold._core.text import plural
from tenfold.cli import console, target
from tenfold.cli.target import Config
from tenfold.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

Out = Annotated[Path, Parameter(name="OUT", help="The file to write, or a folder for it.")]
Where = Annotated[str | None, Parameter(name="--app", help="The app, as module:name. Default: app.target.")]
Check = Annotated[
    bool, Parameter(negative=(), help="Write nothing; exit with 1 when the file is not what it would be.")
]

commands = Commands(name="client", help="Write a client library of the app's API.")


@commands.command
def python(out: Out, /, *, check: Check = False, app: Where = None, config: Config = None) -> int:
    """Write a typed Python module, for ordinary code and for asyncio. It needs httpx2 and msgspec."""
    from tenfold.clients import python

    return _write(python, out, check, app, config)


@commands.command
def typescript(out: Out, /, *, check: Check = False, app: Where = None, config: Config = None) -> int:
    """Write a typed TypeScript module, for browsers and Node 20 or newer. It needs nothing."""
    from tenfold.clients import typescript

    return _write(typescript, out, check, app, config)


def _write(language: ModuleType, out: Path, check: bool, app: str | None, config: Path | None) -> int:
    from tenfold.clients import reading

    loaded = target.load(app, config)
    loaded.configure(config)
    api = reading.read(loaded)
    text, notes = language.render(api)
    path = out / language.file_name(api) if out.is_dir() else out
    shown = os.path.relpath(path)
    if check:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            console.say(f"{shown} is up to date.")
            return 0
        return console.fail(f"{shown} is not what the app says.", 1, hint="Write it again, without --check.")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent}.", where="OUT", remedy="Make it first.")
    path.write_text(text, encoding="utf-8")
    operations = sum(len(group.calls) for group in api.groups)
    console.say(f"Wrote {shown}: {plural(operations, 'operation')}, {plural(len(api.types), 'type')}.")
    for note in notes:
        console.note(f"Not expressed: {note}")
    return 0
