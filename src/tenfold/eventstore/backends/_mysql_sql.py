"""The statements of the event store on MariaDB and MySQL.

Lists travel as one JSON parameter and are unfolded by ``JSON_TABLE``. ``STRAIGHT_JOIN`` and ``FORCE INDEX`` fix the
order of the loops, the list outside and the table sought by its key.
"""

from __future__ import annotations

import sqlalchemy as sa

# ruff: noqa: S608 - the parts that are put together here are all constants of this file

_VERSION = """coalesce((SELECT max(e.version) FROM tenfold_event e FORCE INDEX (tenfold_event_version)
  WHERE e.category = :category AND e.stream = {stream}), 0)"""
# What the writer takes for the last event is the last one: a restored backup may have another at the same version.
_KNOWN = """({last} IS NULL OR EXISTS (SELECT 1 FROM tenfold_event k FORCE INDEX (tenfold_event_version)
  WHERE k.category = :category AND k.stream = {stream} AND k.version = h.version AND k.data = {last} AND k.at = {at}))"""
_COLUMNS = "category, stream, version, type, data, metadata, at"

# IGNORE skips an event whose version is taken; the columns' lengths were checked before. It also keeps MariaDB from
# locking the whole table for the first who insert into it, so the other events are inserted with it, too.
_APPEND_ONE = f"""
INSERT IGNORE INTO tenfold_event ({_COLUMNS})
SELECT :category, :stream, h.version + 1, :type, :data, :metadata, :at
FROM (SELECT {_VERSION.format(stream=":stream")} AS version) h
WHERE :expected IN (-1, h.version) AND {_KNOWN.format(stream=":stream", last=":last", at=":last_at")}
"""
_FIRST = f"""
INSERT IGNORE INTO tenfold_event ({_COLUMNS})
SELECT :category, h.stream, h.version + 1, h.type, h.data, :metadata, :at
FROM (SELECT w.*, {_VERSION.format(stream="w.stream")} AS version
      FROM JSON_TABLE(:firsts, '$[*]' COLUMNS (nr FOR ORDINALITY, stream VARCHAR(255) PATH '$[0]',
        expected BIGINT PATH '$[1]', type VARCHAR(128) PATH '$[2]', data LONGTEXT PATH '$[3]',
        last LONGTEXT PATH '$[4][0]', last_at DOUBLE PATH '$[4][1]')) w) h
WHERE h.expected IN (-1, h.version) AND {_KNOWN.format(stream="h.stream", last="h.last", at="h.last_at")}
ORDER BY h.nr
"""
APPEND_FIRSTS = sa.text(_FIRST + "RETURNING stream, version")
APPEND_ONE_RETURNING = sa.text(_APPEND_ONE + "RETURNING stream, version")
APPEND_ONE_PLAIN = sa.text(_APPEND_ONE)
APPEND_OTHERS = sa.text(f"""
INSERT IGNORE INTO tenfold_event ({_COLUMNS})
SELECT :category, w.stream, w.version, w.type, w.data, :metadata, :at
FROM JSON_TABLE(:others, '$[*]' COLUMNS (nr FOR ORDINALITY, stream VARCHAR(255) PATH '$[0]',
  version BIGINT PATH '$[1]', type VARCHAR(128) PATH '$[2]', data LONGTEXT PATH '$[3]')) w
ORDER BY w.nr
""")
LAST_ADDED = sa.text("SELECT stream, version FROM tenfold_event WHERE id = LAST_INSERT_ID()")

_WANTS = """JSON_TABLE(:wants, '$[*]' COLUMNS (stream VARCHAR(255) PATH '$[0]', after BIGINT PATH '$[1]')) w
  {join} tenfold_event_snapshot s {index}
    ON s.category = :category AND s.stream = w.stream AND w.after = 0 AND s.fingerprint = :fingerprint
    AND s.version <= :until AND s.at <= :until_at"""
READ = sa.text(f"""
SELECT 0 AS id, :category AS category, s.stream, s.version, '' AS type, s.state AS data, NULL AS metadata, s.at
FROM {_WANTS.format(join="STRAIGHT_JOIN", index="FORCE INDEX (PRIMARY)")}
UNION ALL
SELECT e.id, e.category, e.stream, e.version, e.type, e.data, e.metadata, e.at
FROM {_WANTS.format(join="LEFT JOIN", index="")}
  STRAIGHT_JOIN tenfold_event e FORCE INDEX (tenfold_event_version)
    ON e.category = :category AND e.stream = w.stream AND e.version > greatest(w.after, coalesce(s.version, 0))
    AND e.version <= :until
ORDER BY stream, version
LIMIT :limit
""")
VERSIONS = sa.text(f"""
SELECT w.stream, {_VERSION.format(stream="w.stream")}
FROM JSON_TABLE(:streams, '$[*]' COLUMNS (stream VARCHAR(255) PATH '$')) w
""")

# Assignments happen one after another and see those before them, so what decides is assigned last.
_NEWER = """IF(VALUES(version) > tenfold_event_snapshot.version
  OR VALUES(fingerprint) <> tenfold_event_snapshot.fingerprint, VALUES({0}), tenfold_event_snapshot.{0})"""
SAVE = sa.text(f"""
INSERT INTO tenfold_event_snapshot (category, stream, fingerprint, version, state, at)
SELECT :category, w.stream, :fingerprint, w.version, w.state, w.at
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (nr FOR ORDINALITY, stream VARCHAR(255) PATH '$[0]', version BIGINT PATH '$[1]',
  state LONGTEXT PATH '$[2]', at DOUBLE PATH '$[3]')) w
ORDER BY w.nr
ON DUPLICATE KEY UPDATE
  tenfold_event_snapshot.state = {_NEWER.format("state")}, tenfold_event_snapshot.at = {_NEWER.format("at")},
  tenfold_event_snapshot.version = {_NEWER.format("version")},
  tenfold_event_snapshot.fingerprint = VALUES(fingerprint)
""")

# ── places ──

UNPLACED = sa.text("""
SELECT id FROM tenfold_event FORCE INDEX (tenfold_event_position) WHERE position IS NULL ORDER BY id LIMIT :limit
""")
LAST_PLACE = sa.text("SELECT last FROM tenfold_event_place WHERE one = 1")
LOCK_PLACE = sa.text("SELECT last FROM tenfold_event_place WHERE one = 1 FOR UPDATE")
MAKE_PLACE = sa.text(
    "INSERT INTO tenfold_event_place (one, last) VALUES (1, 0) ON DUPLICATE KEY UPDATE one = 1"
)
GIVE_PLACES = sa.text("""
UPDATE JSON_TABLE(:places, '$[*]' COLUMNS (id BIGINT PATH '$[0]', position BIGINT PATH '$[1]')) j
  STRAIGHT_JOIN tenfold_event e FORCE INDEX (PRIMARY) ON e.id = j.id
SET e.position = j.position
""")
MOVE_PLACE = sa.text("UPDATE tenfold_event_place SET last = :last WHERE one = 1")

_FOLLOW = """
SELECT position, category, stream, version, type, data, metadata, at
FROM tenfold_event FORCE INDEX (tenfold_event_position)
WHERE position > :after AND position <= :until {where} ORDER BY position LIMIT :limit
"""
FOLLOW_ALL = sa.text(_FOLLOW.format(where=""))
FOLLOW_SOME = sa.text(
    _FOLLOW.format(
        where="AND category IN (SELECT c.name FROM JSON_TABLE(:categories, '$[*]' COLUMNS (name VARCHAR(128) PATH '$')) c)"
    )
)

# ── gates ──

_GATES = "JSON_TABLE(:categories, '$[*]' COLUMNS (nr FOR ORDINALITY, category VARCHAR(128) PATH '$')) w"
ENTER = sa.text("SELECT category FROM tenfold_event_gate WHERE category = :category LOCK IN SHARE MODE")
HOLD = sa.text(f"""
SELECT g.category FROM {_GATES}
  STRAIGHT_JOIN tenfold_event_gate g FORCE INDEX (PRIMARY) ON g.category = w.category
FOR UPDATE
""")
MAKE_GATES = sa.text(f"""
INSERT INTO tenfold_event_gate (category) SELECT w.category FROM {_GATES} ORDER BY w.nr
ON DUPLICATE KEY UPDATE category = w.category
""")
