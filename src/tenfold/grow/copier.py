"""Copying and following, as one thing done in rounds.

A round takes one consistent state of the source, brings the rows that changed since the last round to that state,
and then copies further rows of the same state for a while. So everything in the target is always of one moment of
the source, in whatever order rows come: no two rows ever collide in a unique index that they did not share in the
source. Rows that changed are removed first, all of them, and then inserted as they are.

A round is short, because SQLite cannot move its log into the file while somebody reads an old state. Every round is
one or more transactions of the target, and repeating one that was interrupted changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tenfold._core.failpoints import failpoints
from tenfold.errors import ConfigError
from tenfold.grow.checksum import Checksum, hash_of
from tenfold.grow.keys import after, is_key, key_of, parts_of, up_to
from tenfold.grow.source import Source, log_table
from tenfold.grow.tables import Subject
from tenfold.grow.target import Progress, Target
from tenfold.grow.watch import Watch

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.reader import Reader
    from tenfold.db.tx import Tx

ROWS_MAX = 2_000
"""Rows of one transaction of the copy."""
BYTES_MAX = 4 * 1024 * 1024
"""The same in bytes, about."""
KEYS_MAX = 500
"""Keys of one statement."""

_TOUCHED = sa.select(log_table.c.tbl).distinct()


class Copier:
    """See the module's docstring. ``compare`` makes every round read back what it has changed."""

    def __init__(self, source: Source, target: Target, watch: Watch, clock: Clock) -> None:
        self._source, self._target = source, target
        self._watch, self._clock = watch, clock
        self._subjects = {s.name: s for s in source.subjects if s.keys}
        self.totals: dict[str, int] = {}
        """Rows of each table when the copy began, for those who watch."""
        self.compare = False
        self.followed = 0
        """Rows that changed during the move and were copied again."""

    @property
    def copied(self) -> bool:
        """Whether every table has been copied once."""
        return all(progress.done for progress in self._target.progress.values())

    async def round(self, reader: Reader, copy_s: float = 0.0) -> int:
        """Follow what has changed, then copy for ``copy_s`` seconds; answers the newest entry that was followed.

        ``reader`` is a block of reads of one state. Nothing is removed from the log.
        """
        top, entries = await self._source.pending(reader)
        self._watch.lag(entries)
        if entries:
            await self._follow(reader)
        if copy_s and not self.copied:
            await self._copy(reader, self._clock.monotonic() + copy_s)
        return top

    # ── following ──

    async def _follow(self, reader: Reader) -> None:
        names = await reader.all(_TOUCHED, str)
        touched = [self._subjects[name] for name in names if self._begun(name)]
        target = self._target
        async with target.database.tx() as tx:
            await target.begin(tx)
            for subject in touched:
                async for keys in _pieces(reader, changed_keys(subject), KEYS_MAX):
                    await target.delete(tx, subject, keys)
                    self.followed += len(keys)
            for subject in touched:
                progress = target.progress[subject.name]
                limits = {} if progress.done else {"until": progress.key}
                statement = changed_rows(subject, partly=not progress.done)
                async for rows in _pieces(reader, statement, ROWS_MAX, **limits):
                    await target.load(tx, subject, rows)
                    if self.compare:
                        await self._read_back(tx, subject, rows)
        if failpoints.on:
            failpoints.visit("grow.applied")

    def _begun(self, name: str) -> bool:
        """Of a table that was not begun, every row is still to be copied."""
        progress = self._target.progress.get(name)
        return name in self._subjects and progress is not None and (progress.done or progress.key is not None)

    async def _read_back(self, tx: Tx, subject: Subject, rows: Sequence[tuple[Any, ...]]) -> None:
        places = [subject.columns.index(column) for column in subject.keys]
        for start in range(0, len(rows), KEYS_MAX):
            piece = rows[start : start + KEYS_MAX]
            keys = [tuple(row[at] for at in places) for row in piece]
            found = await tx.all(rows_of(subject, keys), tuple)
            if (mine := checksum(piece)) != (theirs := checksum(found)):
                raise ConfigError(
                    f"rows of {subject.name} are not in the new database what they are in the old one "
                    f"({mine.rows} and {theirs.rows} rows, {mine} and {theirs}), among them {keys[:3]}.",
                    where="grow",
                )

    # ── copying ──

    async def _copy(self, reader: Reader, until: float) -> None:
        for name, subject in self._subjects.items():
            progress = self._target.progress[name]
            while not progress.done:
                progress = await self._copy_table(reader, subject, progress, until)
                if self._clock.monotonic() > until:
                    return

    async def _copy_table(
        self, reader: Reader, subject: Subject, progress: Progress, until: float
    ) -> Progress:
        """From where it stands to the table's end, or until the time is over."""
        given = {} if progress.key is None else {"behind": progress.key}
        async for rows, size in _sized(reader, unread_rows(subject, begun=progress.key is not None), given):
            progress = await self._load(subject, rows, progress, done=False)
            self._watch.table(subject.name, progress.rows, self.totals.get(subject.name, 0), size)
            if self._clock.monotonic() > until:
                return progress
        progress = await self._load(subject, [], progress, done=True)
        self._watch.table(subject.name, progress.rows, progress.rows, 0)
        return progress

    async def _load(
        self, subject: Subject, rows: Sequence[tuple[Any, ...]], progress: Progress, *, done: bool
    ) -> Progress:
        """One piece and how far it leads, in one transaction."""
        target = self._target
        key: str | None = str(rows[-1][-1]) if rows else progress.key
        now = Progress(key, progress.rows + len(rows), done)
        async with target.database.tx() as tx:
            await target.begin(tx)
            if rows:
                await target.load(tx, subject, [row[:-1] for row in rows])
            await target.note(tx, subject, now)
        target.progress[subject.name] = now
        if failpoints.on:
            failpoints.visit("grow.copied")
        return now


def changed_keys(subject: Subject) -> Any:
    """SELECT of the primary keys that the log names, read by the columns' types."""
    keys = _logged(subject)
    typed = [
        sa.type_coerce(part, column.type).label(f"key{at}")
        for at, (column, part) in enumerate(zip(subject.keys, parts_of(subject, keys.c.key), strict=True))
    ]
    return sa.select(*typed).select_from(keys)


def changed_rows(subject: Subject, *, partly: bool) -> Any:
    """SELECT of the rows that the log names and that there are; ``partly``: only up to the key ``:until``."""
    keys = _logged(subject)
    rows = sa.select(*subject.columns).select_from(keys.join(subject.table, is_key(subject, keys.c.key)))
    return rows.where(up_to(subject, sa.bindparam("until", type_=sa.Text))) if partly else rows


def unread_rows(subject: Subject, *, begun: bool) -> Any:
    """SELECT of the rows behind the key ``:behind``, in order, each with its own key last."""
    key: Any = sa.literal_column(key_of(subject)).label("tenfold_key")
    rows = sa.select(*subject.columns, key).order_by(*subject.keys)
    return rows.where(after(subject, sa.bindparam("behind", type_=sa.Text))) if begun else rows


def rows_of(subject: Subject, keys: Sequence[tuple[Any, ...]]) -> Any:
    """SELECT of the rows with these keys."""
    if len(subject.keys) == 1:
        return sa.select(*subject.columns).where(subject.keys[0].in_([key[0] for key in keys]))
    return sa.select(*subject.columns).where(sa.tuple_(*subject.keys).in_(keys))


def checksum(rows: Sequence[Sequence[Any]]) -> Checksum:
    """Of rows in memory."""
    made = Checksum()
    for row in rows:
        made.add(hash_of(row))
    return made


def _logged(subject: Subject) -> Any:
    entries = sa.select(log_table.c.key).where(log_table.c.tbl == sa.literal(subject.name)).distinct()
    return entries.subquery("changed")


async def _pieces(
    reader: Reader, statement: Any, size: int, **params: Any
) -> AsyncIterator[list[tuple[Any, ...]]]:
    piece: list[tuple[Any, ...]] = []
    async for row in reader.stream(statement, tuple, **params):
        piece.append(row)
        if len(piece) >= size:
            yield piece
            piece = []
    if piece:
        yield piece


async def _sized(
    reader: Reader, statement: Any, params: dict[str, Any]
) -> AsyncIterator[tuple[list[tuple[Any, ...]], int]]:
    """Pieces of at most so many rows and about so many bytes, with their bytes."""
    piece: list[tuple[Any, ...]] = []
    size = 0
    async for row in reader.stream(statement, tuple, **params):
        piece.append(row)
        size += sum(len(value) if isinstance(value, (str, bytes)) else 8 for value in row)
        if len(piece) >= ROWS_MAX or size >= BYTES_MAX:
            yield piece, size
            piece, size = [], 0
    if piece:
        yield piece, size
