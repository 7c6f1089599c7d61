"""An SQLAlchemy ORM session on the connection of a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tenfold.errors import TransactionMisuse

if TYPE_CHECKING:
    from tenfold.db.contract import DatabaseBackend, TxChannel


class TxSession:
    """The session of one transaction. The transaction begins, commits and rolls back, never the session."""

    def __init__(self, channel: TxChannel, backend: DatabaseBackend) -> None:
        self.session = AsyncSession(sync_session_class=_Session)
        engine = backend.session_engine(channel)
        # Every transaction has an engine of its own; compiling its statements anew each time would cost more than all else.
        engine.update_execution_options(compiled_cache=backend.compiled_for_sessions)
        self.session.sync_session.bind = engine

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
