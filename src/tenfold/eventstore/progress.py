"""How far projections are: one row each, moved on in the transaction of the effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import sqlalchemy as sa

from tenfold.errors import UniqueViolation
from tenfold.eventstore.tables import projection as table

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx

State = Literal["running", "paused", "failed"]


class Progress(msgspec.Struct, frozen=True):
    """The row of one projection."""

    name: str
    revision: int
    """Of the code that its tables were filled by."""
    state: State
    position: int
    """All events up to here have had their effect."""
    error: str | None
    changed_at: float
    rebuild_position: int | None
    """Likewise for the tables that are being rebuilt; None when none are."""
    rebuild_revision: int | None


_one = sa.select(table).where(table.c.name == sa.bindparam("name_"))
_all = sa.select(table).order_by(table.c.name)
_add = sa.insert(table)
_advance = (
    sa.update(table)
    .where(
        table.c.name == sa.bindparam("name_"),
        table.c.position == sa.bindparam("old"),
        table.c.state == "running",
    )
    .values(position=sa.bindparam("new"), changed_at=sa.bindparam("now"))
)
_state = (
    sa.update(table)
    .where(table.c.name == sa.bindparam("name_"))
    .values(state=sa.bindparam("to"), error=sa.bindparam("error_"), changed_at=sa.bindparam("now"))
)
_rebuild = (
    sa.update(table)
    .where(table.c.name == sa.bindparam("name_"))
    .values(rebuild_position=sa.bindparam("at"), rebuild_revision=sa.bindparam("revision_"))
)
_advance_rebuild = (
    sa.update(table)
    .where(table.c.name == sa.bindparam("name_"), table.c.rebuild_position == sa.bindparam("old"))
    .values(rebuild_position=sa.bindparam("new"))
)
_swapped = (
    sa.update(table)
    .where(table.c.name == sa.bindparam("name_"), table.c.rebuild_position == sa.bindparam("old"))
    .values(
        position=sa.bindparam("new"),
        revision=table.c.rebuild_revision,
        error=None,
        changed_at=sa.bindparam("now"),
        rebuild_position=None,
        rebuild_revision=None,
    )
)


async def read(reader: Reader, name: str) -> Progress | None:
    """The projection's row; None before it has run for the first time."""
    return await reader.maybe(_one, Progress, name_=name)


async def read_all(reader: Reader) -> list[Progress]:
    """Every projection that has ever run here, also those that the code has no more."""
    return await reader.all(_all, Progress)


async def ensure(tx: Tx, name: str, revision: int, now: float, *, position: int = 0) -> Progress:
    """The projection's row, made when it is missing: then it begins behind ``position``."""
    found = await read(tx, name)
    if found is not None:
        return found
    made = Progress(name, revision, "running", position, None, now, None, None)
    try:
        async with tx.savepoint():
            await tx.execute(_add, msgspec.structs.asdict(made))
    except UniqueViolation:
        return await tx.one(_one, Progress, name_=name)
    return made


async def advance(tx: Tx, name: str, old: int, new: int, now: float) -> bool:
    """Move on from ``old`` to ``new``; False when the projection is elsewhere, or not running."""
    return await tx.execute(_advance, name_=name, old=old, new=new, now=now) == 1


async def set_state(tx: Tx, name: str, state: State, now: float, error: str | None = None) -> bool:
    """Change the state; False when there is no such projection."""
    return await tx.execute(_state, name_=name, to=state, error_=error, now=now) == 1


async def begin_rebuild(tx: Tx, name: str, revision: int) -> None:
    """Note that empty tables are being filled, from the first event on."""
    await tx.execute(_rebuild, name_=name, at=0, revision_=revision)


async def abandon_rebuild(tx: Tx, name: str) -> None:
    """Note that no tables are being filled any more."""
    await tx.execute(_rebuild, name_=name, at=None, revision_=None)


async def advance_rebuild(tx: Tx, name: str, old: int, new: int) -> bool:
    """Move the rebuild on; False when somebody else is rebuilding, too."""
    return await tx.execute(_advance_rebuild, name_=name, old=old, new=new) == 1


async def swapped(tx: Tx, name: str, old: int, new: int, now: float) -> bool:
    """Note that the rebuilt tables serve from now on, and that they are at ``new``."""
    return await tx.execute(_swapped, name_=name, old=old, new=new, now=now) == 1
