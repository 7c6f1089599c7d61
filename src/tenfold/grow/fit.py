"""Values that SQLite keeps and a server would refuse. Conditions as SQL; one scan of each table finds them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from tenfold.grow.keys import key_of, quoted
from tenfold.grow.tables import Subject

if TYPE_CHECKING:
    from tenfold.db.reader import Reader

_INT32 = 2_147_483_647


class Misfit(NamedTuple):
    """Rows whose value of one column does not fit."""

    column: str
    """``table.column``"""
    why: str
    rows: int
    example: str
    """The primary key of one of them, as JSON."""

    def __str__(self) -> str:
        return f"{self.column} {self.why} in {self.rows:,} row{'s' if self.rows != 1 else ''}, such as {self.example}"


def conditions(subject: Subject) -> list[tuple[str, str, str]]:
    """``(column, SQL condition, what is wrong where it holds)``."""
    found: list[tuple[str, str, str]] = []
    for column in subject.columns:
        name, type_ = quoted(column.name), _plain(column.type)
        if isinstance(type_, (sa.String, sa.Enum)):
            found.append((column.name, f"instr({name}, char(0)) > 0", "has a NUL character"))
            if type_.length:
                found.append(
                    (column.name, f"length({name}) > {type_.length}", f"is longer than {type_.length}")
                )
        elif isinstance(type_, sa.Integer) and not isinstance(type_, sa.BigInteger):
            found.append(
                (column.name, f"abs({name}) > {_INT32}", "is too large for an Integer (use BigInteger)")
            )
        if isinstance(type_, sa.Integer):
            found.append((column.name, f"typeof({name}) NOT IN ('integer', 'null')", "is not an integer"))
    return found


async def misfits(reader: Reader, subject: Subject) -> list[Misfit]:
    """What would be refused, with an example each."""
    wanted = conditions(subject)
    if not wanted:
        return []
    sums = ", ".join(f"coalesce(sum({condition}), 0)" for _, condition, _ in wanted)
    counts = await reader.one(sa.text(f"SELECT {sums} FROM {quoted(subject.name)}"), tuple)  # noqa: S608 - declared names
    found: list[Misfit] = []
    for (column, condition, why), rows in zip(wanted, counts, strict=True):
        if rows:
            key = key_of(subject) if subject.keys else "'(no primary key)'"
            example = sa.text(f"SELECT {key} FROM {quoted(subject.name)} WHERE {condition} LIMIT 1")  # noqa: S608
            found.append(Misfit(f"{subject.name}.{column}", why, rows, await reader.scalar(example)))
    return found


def _plain(type_: Any) -> Any:
    while isinstance(type_, sa.types.TypeDecorator):
        type_ = type_.impl_instance
    return type_


def sentence(found: Sequence[Misfit]) -> str:
    """All of them in one sentence, at most five."""
    return "; ".join(str(one) for one in found[:5]) + (
        f"; and {len(found) - 5} more" if len(found) > 5 else ""
    )
