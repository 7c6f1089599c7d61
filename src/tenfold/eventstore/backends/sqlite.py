"""The event store in an SQLite database.

There is one writer at a time, so events become visible in the order of their ids: the position is the id, and the
horizon the greatest there is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from tenfold.eventstore.contract import (
    Bounds,
    EventRow,
    EventStoreBackend,
    SnapshotRow,
    Stamp,
    Want,
    Write,
)

# ruff: noqa: S608 - the parts that are put together here are all constants of this file

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx

_VERSION = """coalesce((SELECT max(e.version) FROM tenfold_event e
  WHERE e.category = :category AND e.stream = {stream}), 0)"""

# What the writer takes for the last event is the last one: a restored backup may have another at the same version.
_KNOWN = """({last} IS NULL OR EXISTS (SELECT 1 FROM tenfold_event k
  WHERE k.category = :category AND k.stream = {stream} AND k.version = {expected} AND k.data = {last} AND k.at = {at}))"""

_APPEND_ONE = sa.text(f"""
INSERT INTO tenfold_event (category, stream, version, type, data, metadata, at)
SELECT :category, :stream, h.version + 1, :type, :data, :metadata, :at
FROM (SELECT {_VERSION.format(stream=":stream")} AS version) h
WHERE :expected IN (-1, h.version) AND {
    _KNOWN.format(stream=":stream", expected=":expected", last=":last", at=":last_at")
}
RETURNING stream, version
""")
# Outside the streams with their versions, inside their events: both lists are walked in the order given.
_APPEND = sa.text(f"""
INSERT INTO tenfold_event (category, stream, version, type, data, metadata, at)
SELECT :category, h.stream, h.version + e.key + 1, e.value ->> 0, e.value ->> 1, :metadata, :at
FROM (SELECT w.key AS nr, w.value ->> 0 AS stream, w.value ->> 1 AS expected, w.value -> 2 AS events,
             w.value ->> '$[3][0]' AS last, w.value ->> '$[3][1]' AS last_at,
             {_VERSION.format(stream="w.value ->> 0")} AS version
      FROM json_each(:writes) w) h CROSS JOIN json_each(h.events) e
WHERE h.expected IN (-1, h.version) AND {
    _KNOWN.format(stream="h.stream", expected="h.expected", last="h.last", at="h.last_at")
}
ORDER BY h.nr, e.key
RETURNING stream, version
""")
_READ = sa.text("""
WITH wants AS MATERIALIZED (
  SELECT w.value ->> 0 AS stream, w.value ->> 1 AS after FROM json_each(:wants) w
), snapshots AS MATERIALIZED (
  SELECT s.stream, s.version, s.state, s.at
  FROM wants w CROSS JOIN tenfold_event_snapshot s ON s.category = :category AND s.stream = w.stream
  WHERE w.after = 0 AND s.fingerprint = :fingerprint AND s.version <= :until AND s.at <= :until_at
)
SELECT 0 AS id, :category AS category, stream, version, '' AS type, state AS data, NULL AS metadata, at FROM snapshots
UNION ALL
SELECT e.id, e.category, e.stream, e.version, e.type, e.data, e.metadata, e.at
FROM (SELECT w.stream, max(w.after, coalesce(s.version, 0)) AS after
      FROM wants w LEFT JOIN snapshots s ON s.stream = w.stream) w
  CROSS JOIN tenfold_event e ON e.category = :category AND e.stream = w.stream
    AND e.version > w.after AND e.version <= :until
ORDER BY stream, version
LIMIT :limit
""")
_VERSIONS = sa.text("""
SELECT s.value, (SELECT max(version) FROM tenfold_event e WHERE e.category = :category AND e.stream = s.value)
FROM json_each(:streams) s
""")
_SAVE = sa.text("""
INSERT INTO tenfold_event_snapshot (category, stream, fingerprint, version, state, at)
SELECT :category, s.value ->> 0, :fingerprint, s.value ->> 1, s.value ->> 2, s.value ->> 3 FROM json_each(:rows) s
WHERE true
ON CONFLICT (category, stream) DO UPDATE SET fingerprint = excluded.fingerprint, version = excluded.version,
  state = excluded.state, at = excluded.at
WHERE excluded.version > tenfold_event_snapshot.version OR excluded.fingerprint <> tenfold_event_snapshot.fingerprint
""")
_HORIZON = sa.text("SELECT coalesce(max(id), 0) FROM tenfold_event")
_FOLLOW = """
SELECT id, category, stream, version, type, data, metadata, at FROM tenfold_event
WHERE id > :after AND id <= :until {where} ORDER BY id LIMIT :limit
"""
FOLLOW_ALL = sa.text(_FOLLOW.format(where=""))
# The plus keeps SQLite from the index by category: it would read and sort all that is left of one for every batch.
FOLLOW_SOME = sa.text(_FOLLOW.format(where="AND +category IN (SELECT c.value FROM json_each(:categories) c)"))

_encode = msgspec.json.Encoder().encode


def _list(values: object) -> str:
    return _encode(values).decode()


class Backend(EventStoreBackend):
    """See :class:`EventStoreBackend`."""

    async def append(
        self, tx: Tx, category: str, writes: Sequence[Write], stamp: Stamp, *, gated: bool
    ) -> dict[str, int]:
        if len(writes) == 1 and len(writes[0].events) == 1:
            stream, expected, [(type_, data)], last = writes[0]
            rows = await tx.all(
                _APPEND_ONE, tuple, category=category, stream=stream, expected=expected, type=type_, data=data,
                last=last and last.data, last_at=last and last.at, metadata=stamp.metadata, at=stamp.at,
            )  # fmt: skip
        else:
            rows = await tx.all(
                _APPEND, tuple, category=category, writes=_list(writes), metadata=stamp.metadata, at=stamp.at
            )
        newest: dict[str, int] = {}
        for stream, version in rows:
            newest[stream] = max(version, newest.get(stream, 0))
        return newest

    async def read(
        self, reader: Reader, category: str, wants: Sequence[Want], bounds: Bounds, limit: int
    ) -> list[EventRow]:
        rows = await reader.all(
            _READ, tuple, category=category, wants=_list(wants), fingerprint=bounds.fingerprint,
            until=bounds.version, until_at=bounds.at, limit=limit,
        )  # fmt: skip
        return [EventRow._make(row) for row in rows]

    async def versions(self, reader: Reader, category: str, streams: Collection[str]) -> dict[str, int]:
        rows = await reader.all(_VERSIONS, tuple, category=category, streams=_list(list(streams)))
        return {stream: version for stream, version in rows if version is not None}

    async def save(self, tx: Tx, category: str, fingerprint: str, snapshots: Sequence[SnapshotRow]) -> None:
        await tx.execute(_SAVE, category=category, fingerprint=fingerprint, rows=_list(snapshots))

    async def horizon(self, tx: Tx) -> int:
        return int(await tx.scalar(_HORIZON))

    async def follow(
        self, reader: Reader, categories: Collection[str], after: int, until: int, limit: int
    ) -> list[EventRow]:
        if categories:
            rows = await reader.all(
                FOLLOW_SOME, tuple, categories=_list(list(categories)), after=after, until=until, limit=limit
            )
        else:
            rows = await reader.all(FOLLOW_ALL, tuple, after=after, until=until, limit=limit)
        return [EventRow._make(row) for row in rows]

    async def hold(self, tx: Tx, categories: Collection[str]) -> None:
        """A transaction that has read for writing is the only one: nothing is to be waited for."""
