"""Rolls metrics up and removes what is too old or too much; any instance does it for all, whichever comes first.

A turn removes a few thousand rows of each kind at most, so that no batch waits long; what is left is for the next.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import msgspec

from tenfold.telemetry.store.file import StoreFile
from tenfold.telemetry.store.keys import key_of
from tenfold.telemetry.store.retention import AHEAD_S, Kept, Steady, to_free
from tenfold.telemetry.store.rollup import RESOLUTIONS, Raw, due, rolled_up

ROWS_MAX: Final = 5_000
"""Removed in one statement."""
STATEMENTS_MAX: Final = 20
"""In one turn."""
POINTS_READ_MAX: Final = 200_000
KINDS: Final = ("request", "job", "trace", "log")
_BESIDE: Final = {"log": "log_text", "trace": "trace_spans"}
"""What has a row for each of theirs, with the same id."""

_FREED = (
    "UPDATE kept SET bytes = max(0, bytes - bytes * ? / max(1, rows)), rows = max(0, rows - ?) WHERE kind = ?"
)


class Housekeeping:
    """Done by the writer's thread every 20 seconds."""

    def __init__(self, file: StoreFile, *, keep_bytes: int, keep_s: float, steady: Steady) -> None:
        self.sentence = ""
        """About a clock that has jumped; empty otherwise."""
        self._file, self._steady = file, steady
        self._keep_bytes, self._keep_s = keep_bytes, keep_s

    def tidy(self, wall: float, monotonic: float) -> None:
        now = self._steady.now(wall, monotonic)
        jumped_s = self._steady.jumped_s
        self.sentence = (
            f"The machine's clock jumped by {jumped_s:+,.0f} s. Nothing is removed for its age until that has "
            "held for ten minutes."
            if jumped_s
            else ""
        )
        if not jumped_s:
            self.roll_up(now)
            self._remove_old(now)
        self._remove_excess()

    # ── metrics ──

    def roll_up(self, now: float) -> None:
        """Make coarser points of finer ones, as far as these are complete."""
        for finer, coarser in pairwise(RESOLUTIONS):
            with self._file.transaction():
                rolled = self._file.value("SELECT until FROM rolled WHERE step = ?", coarser.step_s)
                span = due(rolled, now, coarser.step_s)
                if span is None:
                    continue
                self._roll(finer.step_s, coarser.step_s, *span)
                self._file.run("INSERT OR REPLACE INTO rolled VALUES (?, ?)", coarser.step_s, span[1])

    def _roll(self, finer: int, coarser: int, since: int, until: int) -> None:
        rows = self._file.rows(
            "SELECT series AS c0, at AS c1, sum AS c2, count AS c3, buckets AS c4 FROM point INDEXED BY point_age "
            "WHERE step = ? AND at >= ? AND at < ? LIMIT ?",
            finer, since, until, POINTS_READ_MAX, columns=5, json=(4,),
        )  # fmt: skip
        by_series: dict[int, list[Raw]] = {}
        for series, at, total, count, buckets in rows:
            raw = Raw(at, total, count, buckets)
            by_series.setdefault(series, []).append(raw)
        made = [
            [series, coarser, step.at, step.sum, step.count, _text(step.buckets)]
            for series, points in by_series.items()
            for step in rolled_up(points, coarser)
        ]
        if made:
            self._file.run(
                "INSERT OR REPLACE INTO point SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5 "
                "FROM json_each(?)",
                msgspec.json.encode(made).decode(),
            )
            self._file.run(
                "UPDATE kept SET rows = rows + ?, bytes = bytes + ? WHERE kind = 'point'",
                len(made),
                45 * len(made),
            )

    # ── what goes ──

    def _remove_old(self, now: float) -> None:
        before = key_of(max(0.0, now - self._keep_s), 0)
        after = key_of(now + AHEAD_S, 0)
        for kind in KINDS:
            self._repeat(kind, f"SELECT id FROM {kind} WHERE id < ? ORDER BY id LIMIT {ROWS_MAX}", before)  # noqa: S608
            self._repeat(kind, f"SELECT id FROM {kind} WHERE id > ? LIMIT {ROWS_MAX}", after)  # noqa: S608
        for one in RESOLUTIONS:
            self._remove_points(one.step_s, int(now - min(one.keep_s, self._keep_s)))
        self._file.run("DELETE FROM instance WHERE last_at < ?", now - 400 * 86_400)

    def _repeat(self, kind: str, which: str, *args: int) -> None:
        for _ in range(STATEMENTS_MAX):
            if self._remove(kind, which, *args) < ROWS_MAX:
                return

    def _remove(self, kind: str, which: str, *args: int) -> int:
        with self._file.transaction():
            if kind in _BESIDE:
                self._file.run(f"DELETE FROM {_BESIDE[kind]} WHERE rowid IN ({which})", *args)  # noqa: S608
            self._file.run(f"DELETE FROM {kind} WHERE id IN ({which})", *args)  # noqa: S608
            removed = self._file.changed()
            if removed:
                self._file.run(_FREED, removed, removed, kind)
        return removed

    def _remove_points(self, step_s: int, before: int) -> None:
        for _ in range(STATEMENTS_MAX):
            with self._file.transaction():
                self._file.run(
                    "DELETE FROM point WHERE (series, step, at) IN (SELECT series, step, at FROM point INDEXED BY "
                    "point_age WHERE step = ? AND at < ? LIMIT ?)",
                    step_s, before, ROWS_MAX,
                )  # fmt: skip
                removed = self._file.changed()
                if removed:
                    self._file.run(_FREED, removed, removed, "point")
            if removed < ROWS_MAX:
                return

    def _remove_excess(self) -> None:
        free = to_free(self.kept(), self._file.size_bytes(), self._keep_bytes)
        for kind, rows in free.items():
            for begun in range(0, min(rows, STATEMENTS_MAX * ROWS_MAX), ROWS_MAX):
                some = min(rows - begun, ROWS_MAX)
                if kind == "point":
                    self._oldest_points(some)
                else:
                    self._remove(kind, f"SELECT id FROM {kind} ORDER BY id LIMIT ?", some)  # noqa: S608
        if free:  # the pages are reused; the file on the disk keeps its size
            self._file.run("PRAGMA wal_checkpoint(PASSIVE)")

    def _oldest_points(self, rows: int) -> None:
        """Of the finest that there is."""
        for one in RESOLUTIONS:
            with self._file.transaction():
                self._file.run(
                    "DELETE FROM point WHERE (series, step, at) IN (SELECT series, step, at FROM point INDEXED BY "
                    "point_age WHERE step = ? ORDER BY at LIMIT ?)",
                    one.step_s, rows,
                )  # fmt: skip
                removed = self._file.changed()
                if removed:
                    self._file.run(_FREED, removed, removed, "point")
            if removed:
                return

    def kept(self) -> dict[str, Kept]:
        """About how much there is of each kind."""
        rows = self._file.rows("SELECT kind AS c0, rows AS c1, bytes AS c2 FROM kept LIMIT 10", columns=3)
        return {kind: Kept(count, size) for kind, count, size in rows}


def _text(buckets: list[float] | None) -> str | None:
    return None if buckets is None else msgspec.json.encode(buckets).decode()
