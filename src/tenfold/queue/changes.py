"""What people change of messages, many at a time: portable SQL, off the hot path, in the caller's transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tenfold.queue.message import PENDING, Settlement
from tenfold.queue.tables import archive, inbox, message

if TYPE_CHECKING:
    from tenfold.db.database import Tx
    from tenfold.queue.queue import Queue

_ids: sa.BindParameter[int] = sa.bindparam("ids", expanding=True)

# A pending message that is taken off is marked as running, so that the ordinary settlement finishes it.
_take_off = (
    sa.update(message)
    .where(message.c.id.in_(_ids), message.c.state.in_(PENDING))
    .values(state="running", pending_key=None)
    .returning(message.c.id, message.c.fence, message.c.queue)
)
_ask_to_stop = (
    sa.update(message)
    .where(message.c.id.in_(_ids), message.c.state == "running", message.c.cancel.is_(None))
    .values(cancel=sa.bindparam("reason"))
)
_run_now = (
    sa.update(message)
    .where(message.c.id.in_(_ids), message.c.state.in_(("delayed", "parked")))
    .values(state="ready", run_at=sa.bindparam("now"), error=None)
)
_remove = sa.delete(archive).where(archive.c.id.in_(_ids))
_found = (
    sa.select(archive.c.id, archive.c.order_key, archive.c.unique_key, archive.c.handler, archive.c.event_id)
    .where(archive.c.id.in_(_ids), archive.c.state.in_(("dead", "cancelled")))
    .order_by(archive.c.id)
)
# Only what was given up: an event that another delivery of it has handled meanwhile stays handled.
_forget = sa.delete(inbox).where(
    inbox.c.subscription == sa.bindparam("handler"),
    inbox.c.event_id.in_(sa.bindparam("events", expanding=True)),
    inbox.c.given_up_at.is_not(None),
)
_busy_key = sa.select(message.c.id).where(message.c.pending_key == sa.bindparam("key"))
_head = sa.select(message.c.id).where(message.c.head_key == sa.bindparam("key"))
_BACK = (
    "id", "kind", "handler", "queue", "lane", "share", "priority", "created_at", "payload", "context", "order_key",
    "unique_key", "event_id", "fence",
)  # fmt: skip
_bring_back = sa.insert(message).from_select(
    [*_BACK, "pending_key", "head_key", "state", "run_at", "failures", "crashes"],
    sa.select(
        *(archive.c[name] for name in _BACK),
        archive.c.unique_key,
        sa.bindparam("head_key", type_=sa.String),
        sa.bindparam("state", type_=sa.String),
        sa.bindparam("now", type_=sa.Double),
        sa.literal_column("0"),
        sa.literal_column("0"),
    ).where(archive.c.id.in_(_ids)),
)


class Changes:
    """The verbs, each for at most some hundred ids in one transaction."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def cancel(self, tx: Tx, ids: Collection[int], reason: str) -> int:
        """Take pending ones off, ask running ones to stop; answers how many. The rest had finished."""
        await self._queue.flush(tx)
        taken: list[tuple[int, int, str]] = await tx.all(_take_off, tuple, ids=list(ids))
        if taken:
            ended = [
                Settlement(id_, fence, "cancelled", error=f"{reason}, before it ran", queue=queue)
                for id_, fence, queue in taken
            ]
            await self._queue.backend.settle(tx, ended, self._queue.now(), self._queue.keep)
            tx.on_commit(self._queue.wake)  # others of their keys may be ready now
        asked = 0
        if left := set(ids) - {id_ for id_, _, _ in taken}:
            asked = await tx.execute(_ask_to_stop, ids=sorted(left), reason=reason)
        if asked:
            tx.on_commit(self._queue.cancellations.give)
        return len(taken) + asked

    async def run_now(self, tx: Tx, ids: Collection[int]) -> int:
        """Delayed and parked ones; answers how many."""
        moved = await tx.execute(_run_now, ids=list(ids), now=self._queue.now())
        if moved:
            tx.on_commit(self._queue.wake)
        return moved

    async def bring_back(self, tx: Tx, ids: Collection[int]) -> dict[int, int]:
        """Dead and cancelled ones run again, as if new; those that would repeat a pending message stay where they are:
        the answer maps them to it."""
        found: list[tuple[int, str | None, str | None, str, str | None]] = await tx.all(
            _found, tuple, ids=list(ids)
        )
        await self._forget(
            tx, [(handler, event_id) for *_, handler, event_id in found if event_id is not None]
        )
        in_the_way: dict[int, int] = {}
        plain: list[int] = []
        for id_, order_key, unique_key, *_ in found:
            if order_key is None and unique_key is None:
                plain.append(id_)
                continue
            other = await tx.maybe(_busy_key, int, key=unique_key) if unique_key is not None else None
            if other is not None:
                in_the_way[id_] = other
            else:
                await self._bring_back(tx, [id_], order_key)
        if plain:
            await self._bring_back(tx, plain, None)
        tx.on_commit(self._queue.wake)
        return in_the_way

    async def _forget(self, tx: Tx, events: Sequence[tuple[str, str]]) -> None:
        """Subscriptions and events that may be handled after all."""
        of_each: defaultdict[str, list[str]] = defaultdict(list)
        for handler, event_id in events:
            of_each[handler].append(event_id)
        for handler, event_ids in of_each.items():
            await tx.execute(_forget, handler=handler, events=event_ids)

    async def _bring_back(self, tx: Tx, ids: Sequence[int], order_key: str | None) -> None:
        state, head_key = "ready", order_key
        if order_key is not None:
            await self._queue.backend.hold_keys(tx, [order_key])
            if await tx.maybe(_head, int, key=order_key) is not None:
                state, head_key = "waiting", None
        await tx.execute(_bring_back, ids=list(ids), state=state, head_key=head_key, now=self._queue.now())
        await tx.execute(_remove, ids=list(ids))

    async def remove(self, tx: Tx, ids: Collection[int]) -> int:
        """Finished ones, for good; answers how many."""
        return await tx.execute(_remove, ids=list(ids))
