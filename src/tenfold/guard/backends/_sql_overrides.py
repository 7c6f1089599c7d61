"""Overrides in a table of the app's first database: a row per policy that is changed, so a handful."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import sqlalchemy as sa

from tenfold.db.schema import framework, framework_part
from tenfold.errors import DatabaseError, StoreUnavailable, UniqueViolation
from tenfold.guard.backends._sql_dialect import ATTEMPTS, alone
from tenfold.guard.overrides import NAME_MAX_CHARS, Override, OverrideStore

if TYPE_CHECKING:
    from tenfold.db.database import Database
    from tenfold.db.tx import Tx

T = TypeVar("T")

table = sa.Table(
    "tenfold_override",
    framework,
    sa.Column("name", sa.String(NAME_MAX_CHARS), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("set_by", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("set_at", sa.Double, nullable=False),
    sa.Column("until_at", sa.Double),
)
"""``value`` is JSON. Times are seconds since the epoch on the clock of the machine that set it."""
framework_part("override")

_all = sa.select(
    table.c.name, table.c.value, table.c.set_by, table.c.why, table.c.set_at, table.c.until_at
).order_by(table.c.name)
_insert = sa.insert(table)
_delete = sa.delete(table).where(table.c.name == sa.bindparam("which"))
_prune = sa.delete(table).where(table.c.until_at <= sa.bindparam("now"))


class SqlOverrides(OverrideStore):
    """As durable as the database, and the same for all processes that have it."""

    durable = True

    def __init__(self, db: Database) -> None:
        self._db = db

    async def read(self) -> list[Override]:
        try:
            # From the primary: a copy may not have the change yet that this instance was told of.
            rows = await self._db.read(consistency="strong").all(_all, tuple)
        except DatabaseError as error:
            raise _away(error) from error
        return [Override(row[0], msgspec.json.decode(row[1]), *row[2:]) for row in rows]

    async def put(self, override: Override) -> None:
        row: dict[str, Any] = {
            "name": override.name,
            "value": msgspec.json.encode(override.value).decode(),
            "set_by": override.by,
            "why": override.why,
            "set_at": override.at,
            "until_at": override.until,
        }

        async def work(tx: Tx) -> None:
            await tx.execute(_delete, which=override.name)
            await tx.execute(_insert, row)

        for _ in range(ATTEMPTS):
            try:
                await self._alone(work)
            except UniqueViolation:  # another instance was told in the same moment; the later one stays
                continue
            return
        raise StoreUnavailable(f"{override.name} is being changed by others all the time.")

    async def remove(self, name: str) -> bool:
        return await self._alone(lambda tx: tx.execute(_delete, which=name)) > 0

    async def prune(self, now: float) -> None:
        await self._alone(lambda tx: tx.execute(_prune, now=now))

    async def _alone(self, work: Callable[[Tx], Awaitable[T]]) -> T:
        try:
            return await alone(self._db, work)
        except UniqueViolation:
            raise
        except DatabaseError as error:
            raise _away(error) from error


def _away(error: DatabaseError) -> StoreUnavailable:
    return StoreUnavailable(f"the database of policy overrides does not do its work: {error}")
