"""The queue in a SQLite database.

Needs nothing beyond the database itself. Weakens no guarantee of the contract: SQLite has one writer at a
time, so ids are in the order of commits and claims of several processes never meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tenfold.queue.backends import _sqlite_sql as sql
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

    async def insert(self, tx: Tx, rows: Sequence[NewMessage]) -> list[Stored]:
        keys = _line_up(rows)
        inserted = await tx.all(sql.INSERT, tuple, rows=_json(rows))
        if len(inserted) == len(rows):
            return [Stored(id_, existed=False) for id_ in sorted(row[0] for row in inserted)]
        stored = await self._match(tx, rows, sorted(inserted))
        if keys:  # the head of a line may be the one that was not added
            await tx.execute(sql.PROMOTE, now=rows[0].created_at, keys=_json(keys))
        return stored

    async def _match(
        self, tx: Tx, rows: Sequence[NewMessage], inserted: Sequence[tuple[Any, ...]]
    ) -> list[Stored]:
        """Which id belongs to which row: ids rise in the order of the rows, and only rows with a unique key
        can be missing."""
        keys = [row.unique_key for row in rows if row.unique_key is not None]
        pending: dict[str, int] = dict(await tx.all(sql.PENDING_WITH_KEY, tuple, keys=_json(keys)))
        left = iter([*inserted, (0, None)])
        next_id, next_key = next(left)
        stored: list[Stored] = []
        for row in rows:
            if row.unique_key is None or row.unique_key == next_key:
                stored.append(Stored(next_id, existed=False))
                next_id, next_key = next(left)
            else:
                stored.append(Stored(pending[row.unique_key], existed=True))
        return stored

    # ── looking ──

    async def look(self, reader: Reader) -> Look:
        ready, due_at, lease_until = await reader.one(sql.LOOK, tuple)
        return Look(bool(ready), due_at, lease_until)

    async def lanes(self, reader: Reader) -> list[Lane]:
        return [Lane(queue, lane) for queue, lane in await reader.all(sql.LANES, tuple)]

    async def running(self, reader: Reader) -> dict[str, int]:
        return dict(await reader.all(sql.RUNNING, tuple))

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
        messages.sort(key=_by_priority)  # RETURNING promises no order
        return messages

    async def extend(
        self, tx: Tx, held: Sequence[tuple[int, int]], lease_until: float, progress: Mapping[int, str]
    ) -> Beat:
        items = [(id_, fence, progress.get(id_)) for id_, fence in held]
        rows = await tx.all(sql.EXTEND, tuple, held=_json(items), lease_until=lease_until)
        kept = {id_ for id_, _ in rows}
        return Beat(lost={id_ for id_, _ in held} - kept, cancelled={id_ for id_, cancel in rows if cancel})

    async def settle(self, tx: Tx, settlements: Sequence[Settlement], now: float, keep: Keep) -> set[int]:
        finished: list[tuple[Any, ...]] = []
        returned: list[tuple[Any, ...]] = []
        for s in settlements:
            if s.verdict in _FINISHING:
                finished.append(_finished(s, now, keep))
            else:
                returned.append(_returned(s, now))
        lost = {s.id for s in settlements}
        if finished:
            lost -= await self._finish(tx, finished, now)
        if returned:
            lost -= await self._give_back(tx, returned, now, keep)
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
            if superseded := await tx.all(sql.SUPERSEDED, tuple, ids=ids):
                # they are marked as running, so that the finishing statements take them
                reason = "superseded by a newer message with the same unique key"
                settled = [Settlement(id_, fence, "cancelled", error=reason) for id_, fence in superseded]
                await self._finish(tx, [_finished(s, now, keep) for s in settled], now)
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


_FINISHING = frozenset({"done", "dead", "cancelled"})
_STATE_AFTER = {"retry": "delayed", "park": "parked", "release": "ready", "crash": "ready"}


def _by_priority(message: Message) -> tuple[int, int]:
    return message.priority, message.id


def _line_up(rows: Sequence[NewMessage]) -> list[str]:
    """Let the second and later messages of a key wait (INSERT … SELECT does not see its own rows)."""
    seen: dict[str, None] = {}
    for row in rows:
        if row.order_key is not None:
            if row.order_key in seen:
                row.state = "waiting"
            seen[row.order_key] = None
    return list(seen)


def _finished(s: Settlement, now: float, keep: Keep) -> tuple[Any, ...]:
    """The columns of the statements ARCHIVE and REMOVE."""
    kept_s = keep.dead_s if s.verdict == "dead" else keep.done_s
    expires_at = max(now + kept_s, s.result_until or 0.0)
    return (
        s.id, s.fence, s.verdict, s.failures, s.crashes, s.progress, s.error, s.result, s.result_until, expires_at
    )  # fmt: skip


def _returned(s: Settlement, now: float) -> tuple[Any, ...]:
    """The columns of the statement RETURN."""
    run_at = s.run_at if s.verdict == "retry" else None
    state = "ready" if run_at is not None and run_at <= now else _STATE_AFTER[s.verdict]
    return (s.id, s.fence, state, run_at, s.failures, s.crashes, s.error, s.progress, s.suspect, s.lane)
