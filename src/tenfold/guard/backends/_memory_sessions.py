"""Sessions in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tenfold.security.sessions import SessionRecord, SessionStore

if TYPE_CHECKING:
    from tenfold.db.tx import Tx


class MemorySessions(SessionStore):
    """Two dicts. Its methods never suspend, so each is atomic on the event loop."""

    joins = False

    def __init__(self) -> None:
        self._records: dict[str, SessionRecord] = {}
        self._of: dict[str, set[str]] = {}
        """Hashes by account."""

    async def create(self, record: SessionRecord, *, tx: Tx) -> None:
        self._records[record.hash] = record
        self._of.setdefault(record.account_id, set()).add(record.hash)

    async def get(self, hash_: str, now: float) -> SessionRecord | None:
        record = self._records.get(hash_)
        return record if record is not None and record.expires_at > now else None

    async def touch(self, hash_: str, expires_at: float, *, now: float) -> bool:
        record = await self.get(hash_, now)
        if record is None:
            return False
        self._records[hash_] = msgspec.structs.replace(record, expires_at=expires_at)
        return True

    async def revoke(self, hash_: str, *, tx: Tx) -> bool:
        return self._drop(hash_)

    async def revoke_all(self, account_id: str, *, tx: Tx) -> None:
        for hash_ in list(self._of.get(account_id, ())):
            self._drop(hash_)

    async def prune(self, now: float, *, tx: Tx) -> None:
        for hash_ in [h for h, record in self._records.items() if record.expires_at <= now]:
            self._drop(hash_)

    def _drop(self, hash_: str) -> bool:
        record = self._records.pop(hash_, None)
        if record is None:
            return False
        theirs = self._of[record.account_id]
        theirs.discard(hash_)
        if not theirs:
            del self._of[record.account_id]
        return True
