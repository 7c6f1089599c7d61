"""The tables of the store.

Rows come in batches, each kind by one statement that takes the whole batch as JSON (see :mod:`.file` for why). What
repeats in every row (names of operations, handlers, instances) is kept once in ``word``. The spans of a trace are one
row: they are read together or not at all. They have a table of their own, so that looking through traces does not read
them.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 2
"""In ``PRAGMA user_version``. A file of an older version is put aside: telemetry is not migrated."""

TABLES: Final = """
CREATE TABLE word (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE place (
    id INTEGER PRIMARY KEY, operation TEXT NOT NULL, method TEXT NOT NULL, route TEXT NOT NULL,
    UNIQUE (operation, method, route)
) STRICT;
CREATE TABLE instance (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, first_at REAL NOT NULL, last_at REAL NOT NULL)
    STRICT;

CREATE TABLE request (
    id INTEGER PRIMARY KEY, place INTEGER NOT NULL, status INTEGER NOT NULL, us INTEGER NOT NULL, path TEXT NOT NULL,
    trace BLOB, request TEXT, tenant TEXT, instance INTEGER NOT NULL, error TEXT
) STRICT;
CREATE INDEX request_place ON request (place);
CREATE INDEX request_trace ON request (trace) WHERE trace IS NOT NULL;
CREATE INDEX request_request ON request (request) WHERE request IS NOT NULL;
CREATE INDEX request_failed ON request (id) WHERE status >= 500;
CREATE INDEX request_place_failed ON request (place) WHERE status >= 500;

CREATE TABLE job (
    id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, handler INTEGER NOT NULL, outcome TEXT NOT NULL,
    us INTEGER NOT NULL, wait_us INTEGER NOT NULL, attempt INTEGER NOT NULL, trace BLOB, job TEXT, tenant TEXT,
    instance INTEGER NOT NULL, error TEXT
) STRICT;
CREATE INDEX job_handler ON job (handler);
CREATE INDEX job_trace ON job (trace) WHERE trace IS NOT NULL;
CREATE INDEX job_job ON job (job) WHERE job IS NOT NULL;
CREATE INDEX job_failed ON job (id) WHERE outcome IN ('retry', 'dead', 'crash', 'lost');

CREATE TABLE trace (
    id INTEGER PRIMARY KEY, trace BLOB NOT NULL, operation INTEGER NOT NULL, kind TEXT NOT NULL, us INTEGER NOT NULL,
    spans INTEGER NOT NULL, why TEXT NOT NULL, error TEXT, instance INTEGER NOT NULL
) STRICT;
CREATE TABLE trace_spans (id INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE INDEX trace_trace ON trace (trace);
CREATE INDEX trace_operation ON trace (operation);
CREATE INDEX trace_why ON trace (why);

CREATE TABLE log (
    id INTEGER PRIMARY KEY, level INTEGER NOT NULL, event TEXT NOT NULL, logger INTEGER NOT NULL, fields TEXT NOT NULL,
    trace BLOB, request TEXT, instance INTEGER NOT NULL
) STRICT;
CREATE INDEX log_trace ON log (trace) WHERE trace IS NOT NULL;
CREATE INDEX log_request ON log (request) WHERE request IS NOT NULL;
CREATE INDEX log_warned ON log (id) WHERE level >= 30;
CREATE INDEX log_failed ON log (id) WHERE level >= 40;
CREATE VIRTUAL TABLE log_text USING fts5 (
    words, content = '', contentless_delete = 1, tokenize = "unicode61 remove_diacritics 2", prefix = '2 3'
);

CREATE TABLE series (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, labels TEXT NOT NULL, kind TEXT NOT NULL, bounds TEXT NOT NULL,
    UNIQUE (name, labels)
) STRICT;
CREATE TABLE point (
    series INTEGER NOT NULL, step INTEGER NOT NULL, at INTEGER NOT NULL, sum REAL NOT NULL, count REAL NOT NULL,
    buckets TEXT, PRIMARY KEY (series, step, at)
) STRICT, WITHOUT ROWID;
CREATE INDEX point_age ON point (step, at);
CREATE TABLE rolled (step INTEGER PRIMARY KEY, until INTEGER NOT NULL) STRICT;

CREATE TABLE kept (kind TEXT PRIMARY KEY, rows INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
INSERT INTO kept VALUES ('request', 0, 0), ('job', 0, 0), ('trace', 0, 0), ('log', 0, 0), ('point', 0, 0);
"""

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
NAMES: Final = {number: name for name, number in LEVELS.items()}
