"""Sessions in the table ``tenfold_session`` of the accounts' own database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from tenfold.security.sessions import SessionRecord, SessionStore
from tenfold.security.tables import insert_into, session

if TYPE_CHECKING:
    from tenfold.db.database import Database, Tx

_INSERT = insert_into(session)
_FIND = sa.select(
    session.c.hash, session.c.account_id, session.c.created_at, session.c.expires_at, session.c.ends_at
).where(session.c.hash == sa.bindparam("hash_"), session.c.expires_at > sa.bindparam("now"))
_TOUCH = (
    sa.update(session)
    .where(session.c.hash == sa.bindparam("hash_"), session.c.expires_at > sa.bindparam("now"))
    .values(expires_at=sa.bindparam("until"))
)
_DELETE = sa.delete(session).where(session.c.hash == sa.bindparam("hash_"))
_DELETE_ALL = sa.delete(session).where(session.c.account_id == sa.bindparam("account"))
_PRUNE = sa.delete(session).where(session.c.expires_at <= sa.bindparam("now"))


class SqlSessions(SessionStore):
    """As durable as the database, and part of its transactions."""

    joins = True

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(self, record: SessionRecord, *, tx: Tx) -> None:
        await tx.execute(_INSERT, msgspec.structs.asdict(record))

    async def get(self, hash_: str, now: float) -> SessionRecord | None:
        return await self._db.read(consistency="strong").maybe(_FIND, SessionRecord, hash_=hash_, now=now)

    async def touch(self, hash_: str, expires_at: float, *, now: float) -> bool:
        async with self._db.tx() as tx:
            return await tx.execute(_TOUCH, {"hash_": hash_, "until": expires_at, "now": now}) > 0

    async def revoke(self, hash_: str, *, tx: Tx) -> bool:
        return await tx.execute(_DELETE, {"hash_": hash_}) > 0

    async def revoke_all(self, account_id: str, *, tx: Tx) -> None:
        await tx.execute(_DELETE_ALL, {"account": account_id})

    async def prune(self, now: float, *, tx: Tx) -> None:
        await tx.execute(_PRUNE, {"now": now})
