"""What can be known before anything is copied: each thing in the way as a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from tenfold._core.text import plural
from tenfold.errors import ConfigError
from tenfold.eventstore.shadow import SHADOW
from tenfold.grow import fit
from tenfold.grow.source import Source
from tenfold.grow.tables import check_types, undeclared
from tenfold.grow.target import Target

FREE_MIN_BYTES = 64 * 1024 * 1024


class Size(NamedTuple):
    """One table of the source."""

    table: str
    rows: int
    keyless: bool


async def sizes(source: Source) -> list[Size]:
    """Every table that will be moved, with its rows."""
    reader = source.database.read()
    counts = [
        await reader.scalar(sa.select(sa.func.count()).select_from(subject.table))
        for subject in source.subjects
    ]
    return [Size(s.name, rows, not s.keys) for s, rows in zip(source.subjects, counts, strict=True)]


async def check(source: Source, target: Target) -> None:
    """Raises ConfigError for the first thing that is in the way."""
    check_types(source.subjects, target.backend.dialect, target.backend.dialect.name)
    existing = await source.tables()
    if missing := [s.name for s in source.subjects if s.name not in existing]:
        raise ConfigError(
            f"the database lacks {', '.join(missing)}.", where="grow", remedy="Run: tenfold migrate"
        )
    await _check_undeclared(source, existing)
    if orphans := await source.orphans():
        raise ConfigError(
            f"rows refer to missing ones: {', '.join(orphans)}. The new database would refuse them.",
            where="grow",
            remedy="Delete these rows, or give them what they refer to.",
        )
    found = [one for subject in source.subjects for one in await fit.misfits(source.database.read(), subject)]
    if found:
        raise ConfigError(
            f"values do not fit the columns as they are declared: {fit.sentence(found)}.",
            where="grow",
            remedy="Mend these rows, or widen the columns with a migration first.",
        )


def check_disk(path: Path) -> None:
    """Room for the log of changes, and for the write-ahead log while one state is read."""
    free = shutil.disk_usage(path.parent).free
    needed = max(FREE_MIN_BYTES, path.stat().st_size // 10)
    if free < needed:
        raise ConfigError(
            f"there are {free >> 20:,} MiB free in {path.parent}, and noting changes may take {needed >> 20:,} MiB.",
            where="app.data_dir",
            remedy="Make room first.",
        )


async def _check_undeclared(source: Source, existing: list[str]) -> None:
    names = undeclared(existing, source.subjects)
    if any(name.startswith(SHADOW) for name in names):
        raise ConfigError(
            "a projection is being rebuilt, and the tables that it fills are not moved.",
            where="grow",
            remedy="Finish it first: `tenfold projections` lists those that are rebuilding, "
            "`tenfold projections rebuild NAME` goes on.",
        )
    reader = source.database.read()
    left = [
        (name, await reader.scalar(sa.select(sa.func.count()).select_from(sa.table(name)))) for name in names
    ]
    full = [f"{name} ({plural(rows, 'row')})" for name, rows in left if rows]
    if full:
        raise ConfigError(
            f"no service declares {', '.join(full)}, so that nobody knows the types of the columns.",
            where="grow",
            remedy="Declare them in a service's MetaData, or drop them.",
        )
