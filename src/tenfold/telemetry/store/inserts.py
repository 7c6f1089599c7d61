"""Batches into the tables: one statement and one JSON text for each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, Final

import msgspec

from tenfold.telemetry.clean import Cleaner
from tenfold.telemetry.contract import Span
from tenfold.telemetry.recording import Recording
from tenfold.telemetry.redact import Redactor
from tenfold.telemetry.store.feed import LineIn
from tenfold.telemetry.store.file import StoreFile
from tenfold.telemetry.store.keys import key_of
from tenfold.telemetry.store.points import Grown
from tenfold.telemetry.store.records import JobSummary, RequestSummary, Why
from tenfold.telemetry.store.rollup import FINE, floor

PATH_MAX_CHARS: Final = 300
ERROR_MAX_CHARS: Final = 1000
ID_MAX_CHARS: Final = 200
VALUE_MAX_CHARS: Final = 4000
ATTRIBUTES_MAX: Final = 64
WORDS_MAX: Final = 20_000
"""Texts remembered of each kind; what is beyond is called "other" from then on."""
OTHER: Final = "other"
ROW_BYTES: Final = {"request": 160, "job": 170, "trace": 200, "log": 190, "point": 45}
"""What a row takes besides its texts, with its indexes and their slack. Measured; only their proportion matters."""

_REQUESTS = """
INSERT OR IGNORE INTO request
SELECT value->>0, value->>1, value->>2, value->>3, value->>4, unhex(value->>5), value->>6, value->>7, value->>8, value->>9
FROM json_each(?)
"""
_JOBS = """
INSERT OR IGNORE INTO job
SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, unhex(value->>7), value->>8,
    value->>9, value->>10, value->>11
FROM json_each(?)
"""
_TRACES = """
INSERT OR IGNORE INTO trace
SELECT value->>0, unhex(value->>1), value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8
FROM json_each(?) WHERE unhex(value->>1) IS NOT NULL
"""
_SPANS = """
INSERT OR IGNORE INTO trace_spans SELECT value->>0, value->>9 FROM json_each(?) WHERE unhex(value->>1) IS NOT NULL
"""
_LOGS = """
INSERT OR IGNORE INTO log
SELECT value->>0, value->>1, value->>2, value->>3, value->>4, unhex(value->>5), value->>6, value->>7 FROM json_each(?)
"""
_LOG_TEXT = "INSERT INTO log_text (rowid, words) SELECT value->>0, value->>8 FROM json_each(?)"
_POINTS = """
INSERT INTO point SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5 FROM json_each(?) WHERE true
ON CONFLICT DO UPDATE SET sum = excluded.sum, count = excluded.count, buckets = excluded.buckets
"""
_KEPT = "UPDATE kept SET rows = rows + ?, bytes = bytes + ? WHERE kind = ?"


class Known:
    """Ids of what is kept once. Asked and filled within the transaction of a batch; forgotten when one fails."""

    def __init__(self, file: StoreFile, instance: str) -> None:
        self._file, self._instance = file, instance
        self._words: dict[str, int] = {}
        self._places: dict[tuple[str, str, str], int] = {}
        self._series: dict[tuple[str, str], int] = {}
        self._own: int | None = None

    def forget(self) -> None:
        """What was added may have been rolled back."""
        self._words.clear()
        self._places.clear()
        self._series.clear()
        self._own = None

    def word(self, text: str) -> int:
        found = self._words.get(text)
        if found is None:
            if len(self._words) >= WORDS_MAX:
                text = OTHER
            self._file.run("INSERT OR IGNORE INTO word (text) VALUES (?)", text)
            found = self._words[text] = self._file.value("SELECT id FROM word WHERE text = ?", text)
        return found

    def place(self, operation: str, method: str, route: str) -> int:
        key = (operation, method, route)
        found = self._places.get(key)
        if found is None:
            if len(self._places) >= WORDS_MAX:
                key = (OTHER, "", "")
            self._file.run("INSERT OR IGNORE INTO place (operation, method, route) VALUES (?, ?, ?)", *key)
            sql = "SELECT id FROM place WHERE operation = ? AND method = ? AND route = ?"
            found = self._places[key] = self._file.value(sql, *key)
        return found

    def series(self, grown: Grown) -> int:
        key = (grown.name, grown.labels)
        found = self._series.get(key)
        if found is None:
            sql = "INSERT OR IGNORE INTO series (name, labels, kind, bounds) VALUES (?, ?, ?, ?)"
            self._file.run(sql, *key, grown.kind, msgspec.json.encode(grown.bounds).decode())
            found = self._file.value("SELECT id FROM series WHERE name = ? AND labels = ?", *key)
            self._series[key] = found
        return found

    def instance(self, now: float) -> int:
        """This process; that it lives is noted with every batch."""
        if self._own is None:
            sql = "INSERT OR IGNORE INTO instance (name, first_at, last_at) VALUES (?, ?, ?)"
            self._file.run(sql, self._instance, now, now)
            self._own = self._file.value("SELECT id FROM instance WHERE name = ?", self._instance)
        self._file.run("UPDATE instance SET last_at = ? WHERE id = ?", now, self._own)
        assert self._own is not None
        return self._own


class Inserts:
    """What the writer does with a batch, within its transaction."""

    def __init__(self, file: StoreFile, instance: str, redactor: Redactor) -> None:
        self.known = Known(file, instance)
        self._file, self._clean = file, Cleaner(redactor)
        self._numbers = count(abs(hash(instance)))  # instances differ, and rows of one microsecond

    def requests(self, summaries: Sequence[RequestSummary], instance: int) -> None:
        text = self._clean.text
        place, key = self.known.place, self._key
        rows = [
            [
                key(one.at), place(one.operation, one.method, one.route), one.status, _us(one.seconds),
                text(one.path, PATH_MAX_CHARS), one.trace_id, one.request_id[:ID_MAX_CHARS] or None,
                one.tenant[:ID_MAX_CHARS] or None, instance,
                text(one.error, ERROR_MAX_CHARS) or None,
            ]
            for one in summaries
        ]  # fmt: skip
        self._insert("request", _REQUESTS, rows)

    def jobs(self, summaries: Sequence[JobSummary], instance: int) -> None:
        text, word, key = self._clean.text, self.known.word, self._key
        rows = [
            [
                key(one.at), word(one.queue), word(one.handler), one.outcome, _us(one.seconds), _us(one.wait_s),
                one.attempt, one.trace_id, one.job_id or None, one.tenant[:ID_MAX_CHARS] or None, instance,
                text(one.error, ERROR_MAX_CHARS) or None,
            ]
            for one in summaries
        ]  # fmt: skip
        self._insert("job", _JOBS, rows)

    def logs(self, lines: Sequence[LineIn], instance: int) -> None:
        word = self.known.word
        rows = [
            [
                self._key(one.at), one.level, one.event, word(one.logger), _json(one.fields), one.trace_id,
                one.request_id or None, instance, " ".join(_words(one)),
            ]
            for one in lines
        ]  # fmt: skip
        if self._insert("log", _LOGS, rows):
            self._file.run(_LOG_TEXT, _json(rows))

    def traces(self, kept: Sequence[tuple[Recording, Why]], instance: int) -> None:
        rows = [self._trace(recording, why, instance) for recording, why in kept]
        if self._insert("trace", _TRACES, rows):
            self._file.run(_SPANS, _json(rows))

    def _trace(self, recording: Recording, why: Why, instance: int) -> list[Any]:
        root = recording.spans[-1]
        spans = [self._cleaned(span) for span in sorted(recording.spans, key=lambda span: span.started)]
        return [
            self._key(root.started), recording.trace_id, self.known.word(recording.operation), recording.kind,
            _us(root.ended - root.started), len(spans) + recording.left_out, why,
            self._clean.text(root.error, ERROR_MAX_CHARS) or None, instance, _json(spans),
        ]  # fmt: skip

    def _cleaned(self, span: Span) -> Span:
        """Nothing secret, nothing long. A new one: exporters may hold the other."""
        attributes = self._clean.plain(span.attributes, ATTRIBUTES_MAX, VALUE_MAX_CHARS)
        error = self._clean.text(span.error, ERROR_MAX_CHARS)
        return msgspec.structs.replace(span, name=span.name[:200], attributes=attributes, error=error)

    def points(self, grown: Iterable[Grown], at: float) -> None:
        slot, series = floor(at, FINE.step_s), self.known.series
        rows = [
            [
                series(one), FINE.step_s, slot, float(one.sum), float(one.count),
                None if one.buckets is None else _json(one.buckets),
            ]
            for one in grown
        ]  # fmt: skip
        self._insert("point", _POINTS, rows)

    def _insert(self, kind: str, sql: str, rows: list[list[Any]]) -> bool:
        if not rows:
            return False
        sent = _json(rows)
        self._file.run(sql, sent)
        self._file.run(_KEPT, len(rows), len(sent) // 2 + len(rows) * ROW_BYTES[kind] // 2, kind)
        return True

    def _key(self, at: float) -> int:
        return key_of(at, next(self._numbers))


def _us(seconds: float) -> int:
    return max(0, int(seconds * 1e6))


def _words(line: LineIn) -> Iterable[str]:
    yield line.event
    yield line.logger
    for key, value in line.fields.items():
        yield key
        yield str(value)


_encode: Callable[[Any], bytes] = msgspec.json.Encoder(enc_hook=str).encode


def _json(value: Any) -> str:
    return _encode(value).decode()
