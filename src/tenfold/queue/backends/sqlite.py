"""The queue in a SQLite database.

Needs nothing beyond the database itself. Weakens no guarantee of the contract: SQLite has one writer at a
time, so ids are in the order of commits and claims of several processes never meet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tenfold.queue.backends import _sqlite_sql as sql
from tenfold.queue.backends._rows import by_priority, finished, line_up, match, split, superseded
from tenfold.queue.contract import Expired, Inbox, Keep, Look, QueueBackend, Stored
from tenfold.queue.message import Beat, Claim, Message, NewMessage, Settlement
from tenfold.queue.policy import Lane

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx

_encode = msgspec.json.Encoder().encode


def _json(value: Any) -> str:
    return _encode(value).decode()


class Backend(QueueBackend, Inbox):
    """See :class:`QueueBackend` and :class:`Inbox`."""

    # ── putting in ──

    async def hold_keys(self, tx: Tx, keys: Sequence[str]) -> None:
        pass  # a transaction that writes is alone

    async def insert(self, tx: Tx, rows: Sequence[NewMessage]) -> list[Stored]:
        keys = line_up(rows)
        inserted = await tx.all(sql.INSERT, tuple, rows=_json(rows))
        if len(inserted) == len(rows):
            return [Stored(id_, existed=False) for id_ in sorted(row[0] for row in inserted)]
        unique = [row.unique_key for row in rows if row.unique_key is not None]
        pending: dict[str, int] = dict(await tx.all(sql.PENDING_WITH_KEY, tuple, keys=_json(unique)))
        stored = match(rows, sorted(inserted), pending)
        if keys:  # the head of a line may be the one that was not added
            await tx.execute(sql.PROMOTE, now=rows[0].created_at, keys=_json(keys))
        return [found for found in stored if found is not None]

    # ── looking ──

    async def look(self, reader: Reader) -> Look:
        lanes, due_at, lease_until = await reader.one(sql.LOOK, tuple)
        return Look([Lane(queue, lane) for queue, lane in msgspec.json.decode(lanes)], due_at, lease_until)

    async def running(self, tx: Tx, handlers: Collection[str]) -> dict[str, int]:
        return dict(await tx.all(sql.RUNNING, tuple, handlers=_json(list(handlers))))

    async def expired(self, tx: Tx, now: float, limit: int) -> list[Expired]:
        rows = await tx.all(sql.EXPIRED, tuple, now=now, limit=limit)
        return [Expired(id_, fence, crashes, bool(cancel)) for id_, fence, crashes, cancel in rows]

    # ── moving ──

    async def wake_due(self, tx: Tx, now: float, limit: int) -> int:
        return await tx.execute(sql.WAKE_DUE, now=now, limit=limit)

    async def claim(self, tx: Tx, claim: Claim, worker: str, now: float, lease_until: float) -> list[Message]:
        rows = await tx.all(
            sql.CLAIM,
            tuple,
            queue=claim.queue,
            lane=claim.lane,
            count=claim.limit,
            worker=worker,
            now=now,
            lease_until=lease_until,
        )
        messages = [Message._make(row) for row in rows]
        messages.sort(key=by_priority)
        return messages

    async def extend(
        self, tx: Tx, held: Sequence[tuple[int, int]], lease_until: float, progress: Mapping[int, str]
    ) -> Beat:
        items = [(id_, fence, progress.get(id_)) for id_, fence in held]
        rows = await tx.all(sql.EXTEND, tuple, held=_json(items), lease_until=lease_until)
        kept = {id_ for id_, _ in rows}
        return Beat(lost={id_ for id_, _ in held} - kept, cancelled={id_ for id_, cancel in rows if cancel})

    async def settle(self, tx: Tx, settlements: Sequence[Settlement], now: float, keep: Keep) -> set[int]:
        ended, back = split(settlements, now, keep)
        lost = {s.id for s in settlements}
        if ended:
            lost -= await self._finish(tx, ended, now)
        if back:
            lost -= await self._give_back(tx, back, now, keep)
        return lost

    async def _finish(self, tx: Tx, items: list[tuple[Any, ...]], now: float) -> set[int]:
        text = _json(items)
        await tx.execute(sql.ARCHIVE, items=text, now=now)
        removed = await tx.all(sql.REMOVE, tuple, items=text)
        if keys := [key for _, key in removed if key is not None]:
            await tx.execute(sql.PROMOTE, now=now, keys=_json(keys))
        return {id_ for id_, _ in removed}

    async def _give_back(self, tx: Tx, items: list[tuple[Any, ...]], now: float, keep: Keep) -> set[int]:
        rows = await tx.all(sql.RETURN, tuple, items=_json(items))
        if unique := [id_ for id_, key in rows if key is not None]:
            ids = _json(unique)
            await tx.execute(sql.RESTORE_KEYS, ids=ids)
            if doubles := await tx.all(sql.SUPERSEDED, tuple, ids=ids):
                # they are marked as running, so that the finishing statements take them
                await self._finish(tx, [finished(s, now, keep) for s in superseded(doubles)], now)
        return {id_ for id_, _ in rows}

    # ── housekeeping ──

    async def adopt(self, tx: Tx, lanes: Mapping[str, str], now: float) -> int:
        return await tx.execute(sql.UNPARK, lanes=_json(list(lanes.items())), now=now)

    async def prune(self, tx: Tx, now: float, limit: int) -> int:
        return sum([await tx.execute(statement, now=now, limit=limit) for statement in sql.PRUNE])

    async def remember(self, tx: Tx, subscription: str, event_id: str, expires_at: float) -> bool:
        added = await tx.execute(
            sql.REMEMBER, subscription=subscription, event_id=event_id, expires_at=expires_at
        )
        return added == 1
