"""Comparing source and target, row by row, without holding either in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tenfold.errors import ConfigError
from tenfold.grow.checksum import Checksum, hash_of
from tenfold.grow.tables import Subject

if TYPE_CHECKING:
    from tenfold.db.reader import Reader

NAMED_MAX = 5
"""Differing rows that a message names."""
_SHOW_EVERY = 5_000

Count = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Compared:
    """One table on both sides."""

    table: str
    source: Checksum
    target: Checksum

    @property
    def equal(self) -> bool:
        return self.source == self.target


async def compare(source: Reader, target: Reader, subject: Subject, count: Count) -> Compared:
    """Rows and checksums of a table, as both readers see it."""
    ours, theirs = await asyncio.gather(_sum(source, subject, count), _sum(target, subject, None))
    return Compared(subject.name, ours, theirs)


async def demand_equal(source: Reader, target: Reader, subject: Subject, count: Count) -> Checksum:
    """The checksum of a table. Raises ConfigError naming rows that differ."""
    compared = await compare(source, target, subject, count)
    if compared.equal:
        return compared.source
    named = await differing(source, target, subject)
    raise ConfigError(
        f"{subject.name} differs: {compared.source.rows:,} rows here, {compared.target.rows:,} in the new database. "
        f"Rows that differ: {'; '.join(named)}.",
        where="grow",
        remedy="Nothing was switched. Roll back (tenfold grow --rollback), or mend the rows and resume.",
    )


async def differing(source: Reader, target: Reader, subject: Subject) -> list[str]:
    """Rows that are not the same on both sides, named by key and column; at most five."""
    here = await _by_key(source, subject)
    there = await _by_key(target, subject)
    found: list[str] = []
    for key in [*here, *(key for key in there if key not in here)]:
        if here.get(key) != there.get(key):
            found.append(f"{list(key)} {_what(here.get(key), there.get(key), subject)}")
        if len(found) == NAMED_MAX:
            break
    return found


def _what(here: tuple[Any, ...] | None, there: tuple[Any, ...] | None, subject: Subject) -> str:
    if here is None or there is None:
        return "is only in the new database" if here is None else "is missing in the new database"
    pairs = zip(subject.columns, here, there, strict=True)
    named = [column.name for column, ours, theirs in pairs if ours != theirs]
    return f"differs in {', '.join(named)}"


async def _by_key(reader: Reader, subject: Subject) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Hashes of every value by primary key; the whole row is the key of a table without one."""
    places = [subject.columns.index(column) for column in subject.keys] or range(len(subject.columns))
    found: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    async for row in reader.stream(sa.select(*subject.columns), tuple):
        found[tuple(str(row[at]) for at in places)] = tuple(hash_of([value])[:6] for value in row)
    return found


async def _sum(reader: Reader, subject: Subject, count: Count | None) -> Checksum:
    made = Checksum()
    async with aclosing(reader.stream(sa.select(*subject.columns), tuple)) as rows:  # type: ignore[type-var]
        async for row in rows:
            made.add(hash_of(row))
            if count is not None and made.rows % _SHOW_EVERY == 0:
                count(subject.name, made.rows)
    if count is not None:
        count(subject.name, made.rows)
    return made
