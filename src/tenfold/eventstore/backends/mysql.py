"""The event store in a MariaDB or MySQL database.

Needs nothing beyond the database itself (MariaDB 10.6, MySQL 8.0.17, or newer). Any number of transactions append side
by side; two that append to the same stream meet at its unique version.

Ids are given before the commit and nothing tells which of them are still under way, so the position is not the id: an
event gets its place after the commit, from whoever asks for the horizon. Places are given under the lock of one row,
to committed events only, by rising ids, and commit together with the last place: so what has a place at or below it
is all there will ever be. (Two events of one stream never change places: who has appended the second has seen the
first committed, so whoever sees both gives the first the lower place.) Appending knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from tenfold.eventstore.backends import _mysql_sql as sql
from tenfold.eventstore.contract import (
    Bounds,
    EventRow,
    EventStoreBackend,
    SnapshotRow,
    Stamp,
    Want,
    Write,
)

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx

PLACES_MAX = 5_000
"""Events that get their places at a time."""

_encode = msgspec.json.Encoder().encode


def _list(values: object) -> str:
    return _encode(values).decode()


class Backend(EventStoreBackend):
    """See :class:`EventStoreBackend`."""

    # ── appending ──

    async def append(
        self, tx: Tx, category: str, writes: Sequence[Write], stamp: Stamp, *, gated: bool
    ) -> dict[str, int]:
        if gated and not await tx.all(sql.ENTER, str, category=category):
            await tx.execute(sql.MAKE_GATES, categories=_list([category]))
        common = {"category": category, "metadata": stamp.metadata, "at": stamp.at}
        # By stream, so that two who append to the same ones meet at the first of them.
        firsts = await self._firsts(tx, sorted(writes), common)
        others = [
            (write.stream, firsts[write.stream] + n, *event)
            for write in writes
            if write.stream in firsts
            for n, event in enumerate(write.events[1:], 1)
        ]
        if others:
            await tx.execute(sql.APPEND_OTHERS, others=_list(others), **common)
        return {w.stream: firsts[w.stream] + len(w.events) - 1 for w in writes if w.stream in firsts}

    async def _firsts(self, tx: Tx, writes: Sequence[Write], common: dict[str, Any]) -> dict[str, int]:
        """The first event of each stream decides: who has got it in is the only one who can have the next."""
        if len(writes) > 1 and _has_returning(tx):
            firsts = _list([(w.stream, w.expected, *w.events[0], w.last) for w in writes])
            rows = await tx.all(sql.APPEND_FIRSTS, tuple, firsts=firsts, **common)
            return dict(rows)
        first: dict[str, int] = {}
        for write in writes:
            type_, data = write.events[0]
            given = {
                "stream": write.stream,
                "expected": write.expected,
                "type": type_,
                "data": data,
                "last": write.last and write.last.data,
                "last_at": write.last and write.last.at,
                **common,
            }
            if _has_returning(tx):
                rows = await tx.all(sql.APPEND_ONE_RETURNING, tuple, **given)
            elif await tx.execute(sql.APPEND_ONE_PLAIN, given) == 1:
                rows = await tx.all(sql.LAST_ADDED, tuple)
            else:
                rows = []
            first.update(rows)
        return first

    # ── reading ──

    async def read(
        self, reader: Reader, category: str, wants: Sequence[Want], bounds: Bounds, limit: int
    ) -> list[EventRow]:
        rows = await reader.all(
            sql.READ, tuple, category=category, wants=_list(wants), fingerprint=bounds.fingerprint,
            until=bounds.version, until_at=bounds.at, limit=limit,
        )  # fmt: skip
        return [EventRow._make(row) for row in rows]

    async def versions(self, reader: Reader, category: str, streams: Collection[str]) -> dict[str, int]:
        rows = await reader.all(sql.VERSIONS, tuple, category=category, streams=_list(list(streams)))
        return {stream: int(version) for stream, version in rows if version}

    async def save(self, tx: Tx, category: str, fingerprint: str, snapshots: Sequence[SnapshotRow]) -> None:
        await tx.execute(sql.SAVE, category=category, fingerprint=fingerprint, rows=_list(sorted(snapshots)))

    # ── all events ──

    async def horizon(self, tx: Tx) -> int:
        if not await tx.all(sql.UNPLACED, tuple, limit=1):
            last = await tx.maybe(sql.LAST_PLACE, int)
            return last or 0
        last = await tx.maybe(sql.LOCK_PLACE, int)
        if last is None:
            await tx.execute(sql.MAKE_PLACE)
            last = await tx.scalar(sql.LOCK_PLACE)
        places: list[tuple[int, int]] = []
        for id_ in await tx.all(sql.UNPLACED, int, limit=PLACES_MAX):
            last = max(last + 1, id_)
            places.append((id_, last))
        if places:
            await tx.execute(sql.GIVE_PLACES, places=_list(places))
            await tx.execute(sql.MOVE_PLACE, last=last)
        return cast("int", last)

    async def follow(
        self, reader: Reader, categories: Collection[str], after: int, until: int, limit: int
    ) -> list[EventRow]:
        if categories:
            rows = await reader.all(
                sql.FOLLOW_SOME,
                tuple,
                categories=_list(list(categories)),
                after=after,
                until=until,
                limit=limit,
            )
        else:
            rows = await reader.all(sql.FOLLOW_ALL, tuple, after=after, until=until, limit=limit)
        return [EventRow._make(row) for row in rows]

    async def hold(self, tx: Tx, categories: Collection[str]) -> None:
        wanted = sorted(set(categories))
        names = _list(wanted)
        if len(await tx.all(sql.HOLD, str, categories=names)) < len(wanted):  # held for the first time
            await tx.execute(sql.MAKE_GATES, categories=names)
            await tx.all(sql.HOLD, str, categories=names)


def _has_returning(tx: Tx) -> bool:
    return bool(cast("Any", tx.database.backend.dialect).insert_returning)
