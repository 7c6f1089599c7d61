"""Idempotency keys in the service's own database, so that a reply commits with the effect it stands for.

Needs a database (any backend of ``tenfold.db``) with the framework's tables. Guarantees all of the contract;
``effect_atomic`` is True for effects in that database. Effects elsewhere (another database, a mail, a call)
happen again when the process dies between them and the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from tenfold.db.schema import framework, framework_part
from tenfold.guard.backends._sql_dialect import Dialect, alone, dialect_of
from tenfold.guard.idempotency import Attempt, IdempotencyStore
from tenfold.guard.keys import KEY_MAX_CHARS, SCOPE_MAX_CHARS, KeyRecord, StoredReply
from tenfold.guard.operation_tx import OperationTx

if TYPE_CHECKING:
    from tenfold.db.database import Database

table = sa.Table(
    "tenfold_idempotency",
    framework,
    sa.Column("scope", sa.String(SCOPE_MAX_CHARS), primary_key=True),
    sa.Column("key", sa.String(KEY_MAX_CHARS), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("claim", sa.String(64), nullable=False),
    sa.Column("lease_until", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("reply", sa.LargeBinary),
    sa.Index("tenfold_idempotency_expiry", "expires_at"),
)
"""Times are seconds since the epoch on the database's clock."""
framework_part("idempotency")


class _Row(msgspec.Struct, frozen=True):
    fingerprint: str
    claim: str
    lease_s: float
    keep_s: float
    reply: bytes | None


class _Name(msgspec.Struct, frozen=True):
    scope: str
    key: str


class _Statements:
    """Those of one kind of database. Bound names differ from the columns', which SQLAlchemy keeps for an UPDATE."""

    def __init__(self, dialect: Dialect) -> None:
        c, now = table.c, dialect.now_s
        this = (c.scope == sa.bindparam("in_scope")) & (c.key == sa.bindparam("of_key"))
        running = this & (c.claim == sa.bindparam("held")) & c.reply.is_(None)
        lease_until = now + sa.bindparam("lease_s", type_=sa.Double)
        expires_at = now + sa.bindparam("keep_s", type_=sa.Double)
        record: dict[str, Any] = {
            "fingerprint": sa.bindparam("of_request"),
            "claim": sa.bindparam("new_claim"),
            "lease_until": lease_until,
            "expires_at": expires_at,
            "reply": sa.null(),
        }
        given_up = (
            c.reply.is_(None) & (c.lease_until <= now) & (c.fingerprint == sa.bindparam("same_request"))
        )
        left = (sa.type_coerce(until - now, sa.Double) for until in (c.lease_until, c.expires_at))
        lease_left, keep_left = left
        self.find = sa.select(
            c.fingerprint, c.claim, lease_left.label("lease_s"), keep_left.label("keep_s"), c.reply
        ).where(this)
        self.first = dialect.insert_absent(
            table, {"scope": sa.bindparam("in_scope"), "key": sa.bindparam("of_key"), **record}
        )
        # What `decide` calls free, judged again under the row's lock: a run that has completed or been renewed in
        # the meantime keeps its key.
        self.take_over = sa.update(table).where(this, (c.expires_at <= now) | given_up).values(record)
        self.renew = sa.update(table).where(running).values(lease_until=lease_until)
        self.complete = (
            sa.update(table).where(running).values(reply=sa.bindparam("new_reply"), expires_at=expires_at)
        )
        self.release = sa.delete(table).where(running)
        self.expired = (
            sa.select(c.scope, c.key)
            .where(c.expires_at <= now)
            .order_by(c.expires_at)
            .limit(sa.bindparam("at_most"))
        )
        self.delete = sa.delete(table).where(this, c.expires_at <= now)


@cache
def _statements(dialect: Dialect) -> _Statements:
    return _Statements(dialect)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StoredReply).decode


class SqlIdempotencyStore(IdempotencyStore):
    """The table ``tenfold_idempotency`` of one database."""

    effect_atomic = True

    def __init__(self, db: Database) -> None:
        self.db = db

    @property
    def sql(self) -> _Statements:
        return _statements(dialect_of(self.db))

    def clock(self) -> dict[str, Any]:
        """The parameters that a statement with the database's time takes. They are, as :attr:`sql` is, those of the
        database that is bound now: ask inside of the transaction that uses them."""
        return dialect_of(self.db).clock(self.db)

    async def find(self, scope: str, key: str) -> KeyRecord | None:
        await self.db.passage()
        row = await self.db.read(consistency="strong").maybe(
            self.sql.find, _Row, in_scope=scope, of_key=key, **self.clock()
        )
        if row is None:
            return None
        reply = None if row.reply is None else _decode(row.reply)
        return KeyRecord(row.fingerprint, row.claim, row.lease_s, row.keep_s, reply)

    async def claim(self, scope: str, key: str, record: KeyRecord) -> bool:
        values = {
            "in_scope": scope,
            "of_key": key,
            "of_request": record.fingerprint,
            "new_claim": record.claim,
            "lease_s": record.lease_s,
            "keep_s": record.keep_s,
        }
        # Two transactions: on MariaDB an insertion that met a row shares its lock, and two that then want to change it
        # wait for each other.
        if await alone(self.db, lambda tx: tx.execute(self.sql.first, {**values, **self.clock()})):
            return True
        values["same_request"] = record.fingerprint
        took = await alone(self.db, lambda tx: tx.execute(self.sql.take_over, {**values, **self.clock()}))
        return took > 0

    async def renew(self, claims: Sequence[tuple[str, str, str]], lease_s: float) -> None:
        rows = [
            {"in_scope": scope, "of_key": key, "held": claim, "lease_s": lease_s}
            for scope, key, claim in claims
        ]
        await alone(self.db, lambda tx: tx.execute(self.sql.renew, self._timed(rows)))

    def attempt(self, scope: str, key: str, claim: str) -> Attempt:
        return _SqlAttempt(self, scope, key, claim)

    async def prune(self, limit: int) -> int:
        await self.db.passage()
        names = await self.db.read(consistency="strong").all(
            self.sql.expired, _Name, at_most=limit, **self.clock()
        )
        if not names:
            return 0
        rows = [{"in_scope": name.scope, "of_key": name.key} for name in names]
        await alone(self.db, lambda tx: tx.execute(self.sql.delete, self._timed(rows)))
        return len(names)

    def _timed(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, **self.clock()} for row in rows]


class _SqlAttempt(Attempt):
    """Holds the operation's transaction: every ``db.tx()`` of the current Context is part of it."""

    def __init__(self, store: SqlIdempotencyStore, scope: str, key: str, claim: str) -> None:
        self._store = store
        self._row = {"in_scope": scope, "of_key": key, "held": claim}
        self._operation = OperationTx(store.db)

    async def complete(self, reply: StoredReply, keep_s: float, *, effect: bool) -> bool:
        store = self._store
        values = {**self._row, "new_reply": _encode(reply), "keep_s": keep_s}
        if not effect:
            await self._operation.undo()
            async with store.db.tx() as tx:
                return await tx.execute(store.sql.complete, {**values, **store.clock()}) == 1
        # The fence: a claim that was taken over changes no row, and then nothing of this run is committed.
        if await self._operation.tx.execute(store.sql.complete, {**values, **store.clock()}) != 1:
            await self._operation.undo()
            return False
        await self._operation.commit()
        return True

    async def release(self) -> None:
        await self._operation.undo()
        await alone(self._store.db, lambda tx: tx.execute(self._store.sql.release, self._row), late=True)
