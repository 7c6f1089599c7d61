"""Ends groups, and sweeps up what flows and groups have left behind: a source of the worker's claims.

Whoever recorded the end of a member tells the gatherer of its process, which looks at the group in the next claim. What
it is not told (another process ended the last member, or died before it could look) a sweep finds within seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tenfold.jobs import groups
from tenfold.jobs.tables import arrival, group, member, signal, step
from tenfold.queue.tables import archive, message

if TYPE_CHECKING:
    from tenfold.db.database import Tx
    from tenfold.queue.queue import Queue

SWEEP_S = 5.0
"""Between two sweeps while there are open groups."""
IDLE_S = 30.0
"""The same while there are none, and between two removals of what has expired."""
LOOK_S = 1.0
"""A group is looked at no later than so long after one of its members has ended."""
SWEEP_MAX = 100
PRUNE_MAX = 500
MEMBERS_MAX = 5_000

_is_pending = (
    sa.select(member.c.n)
    .select_from(member.join(message, message.c.id == member.c.message_id))
    .where(member.c.group_id == group.c.id, member.c.n == group.c.passed)
    .exists()
)
_movable = (
    sa.select(group.c.id).where(group.c.state == "open", ~_is_pending).order_by(group.c.id).limit(SWEEP_MAX)
)
_any_open = sa.select(group.c.id).where(group.c.state == "open").limit(1)

_expired = (
    sa.select(group.c.id, group.c.total)
    .where(group.c.expires_at <= sa.bindparam("now"))
    .order_by(group.c.expires_at)
    .limit(10)
)
_drop_members = sa.delete(member).where(
    member.c.group_id == sa.bindparam("key"), member.c.n >= sa.bindparam("first")
)
_shrink = (
    sa.update(group)
    .where(group.c.id == sa.bindparam("key"))
    .values(total=sa.bindparam("left", type_=sa.Integer))
)
_drop_group = sa.delete(group).where(group.c.id == sa.bindparam("key"))
_old_arrivals = sa.select(arrival.c.id).where(arrival.c.expires_at <= sa.bindparam("now")).limit(PRUNE_MAX)
_drop_arrival = sa.delete(arrival).where(arrival.c.id == sa.bindparam("key"))


def _left_behind(table: sa.Table) -> sa.Select[Any, Any]:
    """The next flows that have rows in ``table``, and whether their message is gone."""
    window = (
        sa.select(table.c.flow_id)
        .distinct()
        .where(table.c.flow_id > sa.bindparam("after"))
        .order_by(table.c.flow_id)
        .limit(PRUNE_MAX)
        .subquery()
    )
    hot = sa.select(message.c.id).where(message.c.id == window.c.flow_id).exists()
    cold = sa.select(archive.c.id).where(archive.c.id == window.c.flow_id).exists()
    return sa.select(window.c.flow_id, ~(hot | cold)).order_by(window.c.flow_id)


_LEFT_BEHIND = [
    (table, _left_behind(table), sa.delete(table).where(table.c.flow_id == sa.bindparam("key")))
    for table in (step, signal)
]


class Gatherer:
    """See the module's docstring. One per worker; ``kept_s`` is how long ended groups are kept."""

    def __init__(self, queue: Queue, kept_s: float) -> None:
        self._queue = queue
        self._kept_s = kept_s
        self._told: dict[str, _Told] = {}
        self._sweep_at = 0.0
        self._prune_at = 0.0
        self._after = dict.fromkeys((table.name for table, _, _ in _LEFT_BEHIND), 0)
        self.next_at = 0.0
        self.due_at: float | None = None

    def ended(self, group_id: str, members: int) -> None:
        """So many members of the group have ended, and that is committed."""
        now = self._queue.now()
        told = self._told.setdefault(group_id, _Told())
        told.members += members
        # The more are left, the less one of them matters: some hundred looks, however many members.
        enough = told.members * 100 >= told.left or now >= told.looked_at + LOOK_S
        told.look_at = now if enough else told.looked_at + LOOK_S
        if told.look_at < self.next_at:
            self.next_at = told.look_at
            self.due_at = min(told.look_at, self.due_at or told.look_at)
        if enough:
            self._queue.wake()

    async def feed(self, tx: Tx, now: float) -> None:
        """Look at the groups that there is news of, and at the others when their time has come."""
        due = [id_ for id_, told in self._told.items() if told.look_at is not None and told.look_at <= now]
        if now >= self._sweep_at:
            due += [id_ for id_ in await tx.all(_movable, str) if id_ not in due]
            is_open = await tx.maybe(_any_open, str) is not None
            self._sweep_at = now + (SWEEP_S if is_open else IDLE_S)
        for id_ in due:
            await self._look(tx, id_, now)
        if now >= self._prune_at:
            self._prune_at = now + IDLE_S
            await self._prune(tx, now)
        looks = [told.look_at for told in self._told.values() if told.look_at is not None]
        self.due_at = min(looks, default=None)
        self.next_at = min([*looks, self._sweep_at, self._prune_at])

    async def _look(self, tx: Tx, id_: str, now: float) -> None:
        look = await groups.look(tx, self._queue, id_, kept_s=self._kept_s)
        if look.open:
            self._told[id_] = _Told(left=look.left, looked_at=now, look_at=now if look.more else None)
        else:
            self._told.pop(id_, None)

    async def _prune(self, tx: Tx, now: float) -> None:
        for id_, total in await tx.all(_expired, tuple, now=now):
            left = max(0, total - MEMBERS_MAX)
            await tx.execute(_drop_members, key=id_, first=left)
            if left:
                await tx.execute(_shrink, key=id_, left=left)
            else:
                await tx.execute(_drop_group, key=id_)
        if arrivals := await tx.all(_old_arrivals, int, now=now):
            await tx.execute(_drop_arrival, [{"key": id_} for id_ in arrivals])
        for table, window, drop in _LEFT_BEHIND:
            found = await tx.all(window, tuple, after=self._after[table.name])
            self._after[table.name] = found[-1][0] if len(found) == PRUNE_MAX else 0
            if gone := [flow_id for flow_id, is_gone in found if is_gone]:
                await tx.execute(drop, [{"key": flow_id} for flow_id in gone])


class _Told:
    """What is known of one group since the last look."""

    __slots__ = ("left", "look_at", "looked_at", "members")

    def __init__(self, left: int = 0, looked_at: float = float("-inf"), look_at: float | None = None) -> None:
        self.members = 0
        """That have ended since."""
        self.left = left
        self.looked_at = looked_at
        self.look_at = look_at
