"""SQLAlchemy ORM sessions on the connection of a transaction, and on readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tenfold.errors import TransactionMisuse

if TYPE_CHECKING:
    from tenfold.db.contract import Channel, DatabaseBackend, TxChannel


class TxSession:
    """The session of one transaction. The transaction begins, commits and rolls back, never the session."""

    def __init__(self, channel: TxChannel, backend: DatabaseBackend) -> None:
        self.session = AsyncSession(sync_session_class=_Session)
        self.session.sync_session.bind = backend.session_connection(channel)

    async def flush(self) -> None:
        """Write what the session has pending."""
        await self.session.flush()

    async def close(self) -> None:
        """Detach the objects."""
        await self.session.close()


class _Session(Session):
    """``commit`` flushes only and ``rollback`` is refused: the transaction is ended by its own block."""

    def commit(self) -> None:
        self.flush()

    def rollback(self) -> None:
        raise TransactionMisuse(
            "session.rollback() would end a transaction that is not the session's. Leave the `async with db.tx()` "
            "block by an exception, or put what may fail into `async with tx.savepoint()`."
        )


def reading_session(channel: Channel, backend: DatabaseBackend) -> AsyncSession:
    """A session whose statements go where the reader's go. It holds nothing, so nobody has to close it."""
    session = AsyncSession(sync_session_class=_Reading)
    session.sync_session.bind = backend.session_connection(channel)
    return session


class _Reading(Session):
    """What would write is refused; there is no transaction to end."""

    def flush(self, objects: Any = None) -> None:
        if self.new or self.deleted or self.is_modified_at_all():
            raise TransactionMisuse(
                "this session reads only, and objects of it are new, changed or deleted. Write with the session of a "
                "transaction: `async with db.tx() as tx: tx.session.add(…)`."
            )

    def is_modified_at_all(self) -> bool:
        """Whether an object that was read is different now."""
        return any(self.is_modified(found) for found in self.dirty)
