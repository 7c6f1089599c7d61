"""``tenfold new``: a small project that runs and passes its tests at once."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tenfold.cli import console
from tenfold.errors import ConfigError

SUFFIX = ".template"
_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_TAKEN = sys.stdlib_module_names | {"tenfold", "tests", "migrations", "sqlalchemy", "alembic", "msgspec"}


def new(
    folder: Annotated[Path, Parameter(name="NAME", help="Name of the project, or path of its folder.")], /
) -> int:
    """Write a small project: a service with a table, operations, a job, an event, and tests."""
    name = folder.name
    module = name.replace("-", "_")
    _check(name, module)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists and is not an empty folder.", where="NAME")
    template = resources.files("tenfold.cli") / "templates" / "project"
    for file, parts in _files(template):
        target = folder.joinpath(*(_renamed(part, module) for part in parts))
        target.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text(encoding="utf-8")
        target.write_text(text.replace("dist-name", name).replace("appname", module), encoding="utf-8")
    where = os.path.relpath(folder)
    console.say(f"Wrote {where}. Now:")
    for command, about in (
        (f"cd {where}", ""),
        ("tenfold run", "serve it; http://127.0.0.1:8000/docs"),
        ("pytest", "run its tests"),
    ):
        console.say(f"  {command:<16}{console.paint(about, console.DIM)}".rstrip())
    return 0


def _check(name: str, module: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a Python package.",
            where="NAME",
            remedy="Use lower-case letters, digits, '-' and '_', beginning with a letter.",
        )
    if module in _TAKEN:
        raise ConfigError(f"a package named {module!r} would hide another one.", where="NAME")


def _files(folder: Traversable, parts: tuple[str, ...] = ()) -> Iterator[tuple[Traversable, tuple[str, ...]]]:
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        here = (*parts, entry.name)
        if entry.is_dir():
            yield from _files(entry, here)
        elif entry.name.endswith(SUFFIX):
            yield entry, here


def _renamed(part: str, module: str) -> str:
    part = part.removesuffix(SUFFIX).replace("appname", module)
    return f".{part}" if part == "gitignore" else part
