"""Groups of jobs: who belongs to one, how far it is, and its end.

No job of a group writes anything but its own acknowledgement, so a hundred thousand of them meet at no row. A group has
ended when none of its members is in the queue any more: the number up to which that is known (``passed``) only moves on,
so that all looks together cost one look per member. See :mod:`tenfold.jobs.gatherer` for who looks, and when.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import sqlalchemy as sa

from tenfold.errors import NotFound
from tenfold.jobs.call import Entry
from tenfold.jobs.tables import group, member
from tenfold.jobs.waking import wake
from tenfold.queue.message import GROUP, GROUP_WITH_RESULTS
from tenfold.queue.tables import archive, message

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx
    from tenfold.queue.queue import Queue

GroupState = Literal["open", "done", "failed", "cancelled"]

_PAGES = (1, *[1_000] * 10)
"""Members that each statement of a look asks for: one at first, since most looks find nothing new."""


class BatchStatus(msgspec.Struct, frozen=True):
    """How far a batch is. ``failed`` counts members that died or were cancelled."""

    id: str
    state: GroupState
    total: int
    done: int
    failed: int
    created_at: float
    finished_at: float | None = None

    @property
    def finished(self) -> bool:
        return self.state != "open"

    @property
    def pending(self) -> int:
        """Members that have no end yet."""
        return self.total - self.done - self.failed


class Ending(NamedTuple):
    """What is done when a group has ended: a flow is woken, or a message is put into the queue."""

    flow_id: int | None = None
    on_done: Entry | None = None
    on_failed: Entry | None = None


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of one member: its result as JSON, or why there is none."""

    result: str | None = None
    error: str | None = None


class _Row(msgspec.Struct, frozen=True):
    id: str
    state: GroupState
    total: int
    passed: int
    done: int
    failed: int
    created_at: float
    finished_at: float | None
    flow_id: int | None
    on_done: str | None
    on_failed: str | None

    def status(self) -> BatchStatus:
        return BatchStatus(
            self.id, self.state, self.total, self.done, self.failed, self.created_at, self.finished_at
        )


_COLUMNS = _Row.__struct_fields__
_by_id = sa.select(*(group.c[name] for name in _COLUMNS)).where(group.c.id == sa.bindparam("id"))
_locked = _by_id.where(group.c.state == "open").with_for_update(skip_locked=True)
_add_group = sa.insert(group)
_next_page = (
    sa.select(member.c.n, message.c.id.is_not(None), archive.c.state)
    .select_from(
        member.outerjoin(message, message.c.id == member.c.message_id).outerjoin(
            archive, archive.c.id == member.c.message_id
        )
    )
    .where(member.c.group_id == sa.bindparam("id"), member.c.n >= sa.bindparam("passed"))
    .order_by(member.c.n)
    .limit(sa.bindparam("page", type_=sa.Integer))
)
_move_on = (
    sa.update(group)
    .where(group.c.id == sa.bindparam("key"))
    .values({name: sa.bindparam(f"new_{name}") for name in ("passed", "done", "failed", "state")})
    .values(
        finished_at=sa.bindparam("new_finished_at", type_=sa.Double),
        expires_at=sa.bindparam("new_expires_at", type_=sa.Double),
    )
)
_rest = (
    sa.select(archive.c.state, sa.func.count())
    .select_from(member.join(archive, archive.c.id == member.c.message_id))
    .where(member.c.group_id == sa.bindparam("id"), member.c.n >= sa.bindparam("passed"))
    .group_by(archive.c.state)
)
_outcomes = (
    sa.select(member.c.n, member.c.message_id, archive.c.state, archive.c.result, archive.c.error)
    .select_from(member.outerjoin(archive, archive.c.id == member.c.message_id))
    .where(member.c.group_id == sa.bindparam("id"))
    .order_by(member.c.n)
)
_encode = msgspec.json.Encoder().encode


def new_id(queue: Queue, *, results: bool) -> str:
    """The id of a new group; ``results``: what its members return is kept."""
    return (GROUP_WITH_RESULTS if results else GROUP) + queue.clock.uuid()


async def put_group(
    tx: Tx, queue: Queue, id_: str, entries: Sequence[Entry], ending: Ending, messages: Sequence[int] = ()
) -> None:
    """Put ``entries`` into the queue as the members of a new group, after ``messages`` that are there already."""
    tickets = queue.put_all(tx, [entry.message(queue, id_) for entry in entries])
    await queue.flush(tx)
    ids = [*messages, *(ticket.id for ticket in tickets)]
    await tx.execute(
        _add_group,
        id=id_,
        state="open",
        total=len(ids),
        passed=0,
        done=0,
        failed=0,
        flow_id=ending.flow_id,
        on_done=_text(ending.on_done),
        on_failed=_text(ending.on_failed),
        created_at=queue.now(),
    )
    rows = ({"group_id": id_, "n": n, "message_id": message_id} for n, message_id in enumerate(ids))
    await tx.load(member, rows)


class Look(NamedTuple):
    """What a look at a group showed."""

    open: bool
    more: bool
    """There are members that have ended and were not moved over yet."""
    left: int
    """Members that may be pending; at least those that are."""


async def look(tx: Tx, queue: Queue, id_: str, *, kept_s: float) -> Look:
    """Move on over members that have ended, and end the group behind the last.

    One look at a time per group: whoever comes meanwhile leaves it to the other.
    """
    row = await tx.maybe(_locked, _Row, id=id_)
    if row is None:
        return Look(open=False, more=False, left=0)
    moved, more = await _move_over(tx, row)
    left = moved.total - moved.passed
    if left:
        if moved.passed > row.passed:
            await _store(tx, moved, None)
        return Look(open=True, more=more, left=left)
    now = queue.now()
    moved = msgspec.structs.replace(moved, state="failed" if moved.failed else "done", finished_at=now)
    await _store(tx, moved, now + kept_s)
    await _end(tx, queue, moved)
    return Look(open=False, more=False, left=0)


async def _move_over(tx: Tx, row: _Row) -> tuple[_Row, bool]:
    """The row as it is behind the last member that has ended before all others, and whether there are more pages."""
    moved, more = row, True
    for page in _PAGES:
        found = await tx.all(_next_page, tuple, id=row.id, passed=moved.passed, page=page)
        ended = [state for _, _, state in takewhile(_has_ended, found)]
        # one that was removed from the archive since had ended well: the dead stay for longest
        done = sum(state in (None, "done") for state in ended)
        moved = msgspec.structs.replace(
            moved,
            passed=moved.passed + len(ended),
            done=moved.done + done,
            failed=moved.failed + len(ended) - done,
        )
        more = len(ended) == page and moved.passed < row.total
        if not more:
            break
    return moved, more


def _has_ended(found: tuple[int, bool, str | None]) -> bool:
    _, is_pending, _ = found
    return not is_pending


async def _store(tx: Tx, row: _Row, expires_at: float | None) -> None:
    new = {f"new_{name}": getattr(row, name) for name in ("passed", "done", "failed", "state", "finished_at")}
    await tx.execute(_move_on, new, key=row.id, new_expires_at=expires_at)


async def _end(tx: Tx, queue: Queue, row: _Row) -> None:
    """In the transaction that ends the group."""
    if row.flow_id is not None:
        await wake(tx, queue, row.flow_id, row.id)
    text = row.on_done if row.state == "done" else row.on_failed
    if text is not None:
        entry = msgspec.json.decode(text, type=Entry)
        queue.put(tx, entry.given(_encode(row.status())).message(queue))


async def status(reader: Reader, id_: str) -> BatchStatus:
    """Counted now. Raises :class:`NotFound` for one that does not exist, or was removed after its time."""
    row = await reader.maybe(_by_id, _Row, id=id_)
    if row is None:
        raise NotFound(f"There is no batch {id_!r}; finished ones are removed after a while.")
    now = row.status()
    if row.state != "open":
        return now
    ended: dict[str, int] = dict(await reader.all(_rest, tuple, id=id_, passed=row.passed))
    done = ended.pop("done", 0)
    return msgspec.structs.replace(now, done=row.done + done, failed=row.failed + sum(ended.values()))


async def is_open(reader: Reader, id_: str) -> bool:
    """Whether a member of the group may still be pending."""
    row = await reader.maybe(_by_id, _Row, id=id_)
    return row is not None and row.state == "open"


async def outcomes(reader: Reader, id_: str) -> list[Outcome]:
    """What became of each member of a group that has ended, in their order."""
    found: list[Outcome] = []
    for _, message_id, state, result, error in await reader.all(_outcomes, tuple, id=id_):
        if state == "done" and result is not None:
            found.append(Outcome(result))
        elif state in ("dead", "cancelled"):
            found.append(Outcome(None, f"{message_id} is {state}: {(error or '').split(chr(10), 1)[0]}"))
        else:
            found.append(Outcome(None, f"the result of {message_id} was removed after its time"))
    return found


def _text(entry: Entry | None) -> str | None:
    return None if entry is None else _encode(entry).decode()
