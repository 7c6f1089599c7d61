"""Idempotency keys in the service's own database, so that a reply commits with the effect it stands for.

Needs a database (any backend of ``tenfold.db``) with the framework's tables. Guarantees all of the contract;
``effect_atomic`` is True for effects in that database. Effects elsewhere (another database, a mail, a call)
happen again when the process dies between them and the commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from tenfold._core.context import Context, current
from tenfold.db.ambient import Ambient
from tenfold.db.schema import framework, framework_part
from tenfold.errors import UniqueViolation
from tenfold.guard.idempotency import Attempt, IdempotencyStore, KeyRecord, StoredReply

if TYPE_CHECKING:
    from tenfold.db.database import Database

table = sa.Table(
    "tenfold_idempotency",
    framework,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("claim", sa.Text, nullable=False),
    sa.Column("lease_until", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("reply", sa.LargeBinary),
    sa.Index("tenfold_idempotency_expiry", "expires_at"),
)
framework_part("idempotency")


class _Row(msgspec.Struct, frozen=True):
    fingerprint: str
    claim: str
    lease_until: float
    expires_at: float
    reply: bytes | None


# Bound names differ from the columns', which SQLAlchemy keeps for itself in an UPDATE.
_this = (table.c.scope == sa.bindparam("in_scope")) & (table.c.key == sa.bindparam("of_key"))
_open = _this & (table.c.claim == sa.bindparam("held")) & table.c.reply.is_(None)
_values: dict[str, Any] = {
    name: sa.bindparam(f"new_{name}") for name in ("fingerprint", "claim", "lease_until", "expires_at")
}

_FIND = sa.select(
    table.c.fingerprint, table.c.claim, table.c.lease_until, table.c.expires_at, table.c.reply
).where(_this)
_INSERT = sa.insert(table).values(
    scope=sa.bindparam("in_scope"), key=sa.bindparam("of_key"), reply=sa.null(), **_values
)
_TAKE_OVER = (
    sa.update(table).where(_this, table.c.claim == sa.bindparam("held")).values(reply=sa.null(), **_values)
)
_COMPLETE = (
    sa.update(table)
    .where(_open)
    .values(reply=sa.bindparam("new_reply"), expires_at=sa.bindparam("new_expires_at"))
)
_RELEASE = sa.delete(table).where(_open)
_PRUNE = sa.delete(table).where(
    sa.tuple_(table.c.scope, table.c.key).in_(
        sa.select(table.c.scope, table.c.key)
        .where(table.c.expires_at <= sa.bindparam("before"))
        .order_by(table.c.expires_at)
        .limit(sa.bindparam("at_most"))
    )
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StoredReply).decode


class SqlIdempotencyStore(IdempotencyStore):
    """The table ``tenfold_idempotency`` of one database. Make it when the database is bound."""

    effect_atomic = True

    def __init__(self, db: Database) -> None:
        self._db = db

    async def find(self, scope: str, key: str) -> KeyRecord | None:
        row = await self._db.read().maybe(_FIND, _Row, in_scope=scope, of_key=key)
        if row is None:
            return None
        reply = None if row.reply is None else _decode(row.reply)
        return KeyRecord(row.fingerprint, row.claim, row.lease_until, row.expires_at, reply)

    async def claim(self, scope: str, key: str, record: KeyRecord, *, over: str | None) -> bool:
        values = {
            "in_scope": scope,
            "of_key": key,
            "new_fingerprint": record.fingerprint,
            "new_claim": record.claim,
            "new_lease_until": record.lease_until,
            "new_expires_at": record.expires_at,
        }
        try:
            async with self._db.tx() as tx:
                if over is not None:
                    return await tx.execute(_TAKE_OVER, values, held=over) == 1
                await tx.execute(_INSERT, values)
                return True
        except UniqueViolation:
            return False

    def attempt(self, scope: str, key: str, claim: str) -> Attempt:
        return _SqlAttempt(self._db, scope, key, claim)

    async def prune(self, now: float, limit: int) -> int:
        async with self._db.tx() as tx:
            return await tx.execute(_PRUNE, before=now, at_most=limit)


class _SqlAttempt(Attempt):
    """Holds the operation's transaction: every ``db.tx()`` of the current Context is part of it."""

    def __init__(self, db: Database, scope: str, key: str, claim: str) -> None:
        self._db = db
        self._row = {"in_scope": scope, "of_key": key, "held": claim}
        self._context: Context = current()
        self._ambient: Ambient | None = Ambient(db)
        self._ambient.install(self._context)

    async def complete(self, reply: StoredReply, expires_at: float, *, effect: bool) -> bool:
        values = {**self._row, "new_reply": _encode(reply), "new_expires_at": expires_at}
        if not effect:
            await self._undo()
            async with self._db.tx() as tx:
                return await tx.execute(_COMPLETE, values) == 1
        assert self._ambient is not None  # a Claim completes once
        # The fence: a claim that was taken over changes no row, and then nothing of this run is committed.
        if await self._ambient.tx.execute(_COMPLETE, values) != 1:
            await self._undo()
            return False
        await self._leave().finish(commit=True)
        return True

    async def release(self) -> None:
        await self._undo()
        async with self._db.tx() as tx:
            await tx.execute(_RELEASE, self._row)

    async def _undo(self) -> None:
        if self._ambient is not None:
            await self._leave().finish(commit=False)

    def _leave(self) -> Ambient:
        """The transaction, to be ended now; later blocks of the Context open their own."""
        ambient, self._ambient = self._ambient, None
        assert ambient is not None
        ambient.remove(self._context)
        return ambient
