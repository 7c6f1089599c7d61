"""The one transaction of a keyed operation, whichever store its key lives in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold._core.context import Context, current
from tenfold.db.ambient import Ambient

if TYPE_CHECKING:
    from tenfold.db.database import Database
    from tenfold.db.tx import Tx


class OperationTx:
    """From its making to its end, every ``db.tx()`` of the current Context is part of it."""

    def __init__(self, db: Database) -> None:
        self._context: Context = current()
        self._ambient: Ambient | None = Ambient(db)
        self._ambient.install(self._context)

    @property
    def tx(self) -> Tx:
        """For what has to commit together with the operation."""
        assert self._ambient is not None  # a run ends once
        return self._ambient.tx

    async def commit(self) -> None:
        """Make everything durable that joined."""
        await self._leave().finish(commit=True)

    async def undo(self) -> None:
        """Undo everything that joined; again is harmless."""
        if self._ambient is not None:
            await self._leave().finish(commit=False)

    def _leave(self) -> Ambient:
        """The transaction, to be ended now; later blocks of the Context open their own."""
        ambient, self._ambient = self._ambient, None
        assert ambient is not None
        ambient.remove(self._context)
        return ambient
