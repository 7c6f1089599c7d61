"""The event store in a PostgreSQL database.

Any number of transactions append side by side; two that append to the same stream meet at its unique version.

The position is the id, which a sequence gives before the commit, so ids become visible in another order. Whoever
appends therefore holds, until its transaction ends, a shared advisory lock whose *key* is the last id given before
its own: a mark "from me on, something may still be missing" that goes away together with the transaction, whatever
becomes of it. The horizon is the lowest mark (:meth:`Backend.horizon` has the proof). Nobody ever waits for these
locks, and unlike ``pg_snapshot_xmin`` a long transaction that appends nothing holds up nobody.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from tenfold.eventstore.backends import _postgresql_sql as sql
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

GATE = 0x7466 << 48
"""The space of the advisory locks that stand for categories."""


class Backend(EventStoreBackend):
    """See :class:`EventStoreBackend`."""

    append_max = 5_000

    async def append(
        self, tx: Tx, category: str, writes: Sequence[Write], stamp: Stamp, *, gated: bool
    ) -> dict[str, int]:
        common: dict[str, Any] = {
            "category": category, "metadata": stamp.metadata, "at": stamp.at, "gate": _gate(category),
        }  # fmt: skip
        if len(writes) == 1 and len(writes[0].events) == 1:
            stream, expected, [(type_, data)], last = writes[0]
            rows = await tx.all(
                sql.APPEND_ONE, tuple, stream=stream, expected=expected, type=type_, data=data,
                last=last and last.data, last_at=last and last.at, **common,
            )  # fmt: skip
        else:
            rows = await tx.all(sql.APPEND, tuple, **_columns(writes), **common)
        return dict(rows)

    async def read(
        self, reader: Reader, category: str, wants: Sequence[Want], bounds: Bounds, limit: int
    ) -> list[EventRow]:
        rows = await reader.all(
            sql.READ, tuple, category=category, streams=[want.stream for want in wants],
            afters=[want.after for want in wants], fingerprint=bounds.fingerprint, until=bounds.version,
            until_at=bounds.at, limit=limit,
        )  # fmt: skip
        return [EventRow._make(row) for row in rows]

    async def versions(self, reader: Reader, category: str, streams: Collection[str]) -> dict[str, int]:
        rows = await reader.all(sql.VERSIONS, tuple, category=category, streams=list(streams))
        return {stream: version for stream, version in rows if version is not None}

    async def save(self, tx: Tx, category: str, fingerprint: str, snapshots: Sequence[SnapshotRow]) -> None:
        # By stream, so that two who save the same ones meet at the first of them.
        streams, versions, states, times = map(list, zip(*sorted(snapshots), strict=True))
        await tx.execute(
            sql.SAVE, category=category, fingerprint=fingerprint, streams=streams, versions=versions,
            states=states, times=times,
        )  # fmt: skip

    async def horizon(self, tx: Tx) -> int:
        """The last id given, or the lowest mark if that is below.

        Let an event be missing with an id p up to there. Its id was given before the first statement here, and its
        mark, which is below p, was set before its id was given. Either the mark is still there in the second
        statement, then the answer is below p; or its transaction is over: then a statement that begins after this
        method sees the event, or nobody ever will. (The server takes away locks after it has made a commit visible.)
        For the same reason these are two statements, and the events are read by a third.
        """
        given = int(await tx.scalar(sql.LAST_GIVEN))
        mark = await tx.scalar(sql.LOWEST_MARK)
        return given if mark is None else min(given, int(mark))

    async def follow(
        self, reader: Reader, categories: Collection[str], after: int, until: int, limit: int
    ) -> list[EventRow]:
        if categories:
            rows = await reader.all(
                sql.FOLLOW_SOME, tuple, categories=list(categories), after=after, until=until, limit=limit
            )
        else:
            rows = await reader.all(sql.FOLLOW_ALL, tuple, after=after, until=until, limit=limit)
        return [EventRow._make(row) for row in rows]

    async def hold(self, tx: Tx, categories: Collection[str]) -> None:
        await tx.scalar(sql.HOLD, gates=sorted({_gate(category) for category in categories}))


def _gate(category: str) -> int:
    return GATE | zlib.crc32(category.encode())


def _columns(writes: Sequence[Write]) -> dict[str, list[Any]]:
    """One array per column, and those of the streams."""
    events = [(w.stream, n, *event) for w in writes for n, event in enumerate(w.events, 1)]
    streams, numbers, types, data = map(list, zip(*events, strict=True))
    return {
        "streams": [w.stream for w in writes],
        "expecteds": [w.expected for w in writes],
        "lasts": [w.last and w.last.data for w in writes],
        "lasts_at": [w.last and w.last.at for w in writes],
        "of_streams": streams,
        "numbers": numbers,
        "types": types,
        "data": data,
    }
