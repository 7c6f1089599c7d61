"""The statements of the event store on PostgreSQL; lists travel as one array per column."""

from __future__ import annotations

import sqlalchemy as sa

# ruff: noqa: S608 - the parts that are put together here are all constants of this file

MARK = 0x7465
"""The upper 16 bits of the keys of marks; the others are an id (there is room for 2.8 · 10^14 of them)."""

_GIVEN = "last_value - CASE WHEN is_called THEN 0 ELSE 1 END"
# Taken before any id is given: the id's default is evaluated for rows that have been joined with this one.
_MARKED = f"""
SELECT count(pg_advisory_xact_lock_shared(CAST(:gate AS bigint)))
     + count(pg_advisory_xact_lock_shared({MARK << 48} + {_GIVEN})) AS held
FROM tenfold_event_id_seq
"""
_VERSION = """coalesce((SELECT max(e.version) FROM tenfold_event e
  WHERE e.category = CAST(:category AS text) AND e.stream = {stream}), 0)"""

# What the writer takes for the last event is the last one: a restored backup may have another at the same version.
_KNOWN = """({last} IS NULL OR EXISTS (SELECT FROM tenfold_event k WHERE k.category = CAST(:category AS text)
  AND k.stream = {stream} AND k.version = head.version AND k.data = {last} AND k.at = {at}))"""

APPEND_ONE = sa.text(f"""
WITH mark AS MATERIALIZED ({_MARKED}), head AS MATERIALIZED (
  SELECT {_VERSION.format(stream="CAST(:stream AS text)")} AS version
)
INSERT INTO tenfold_event (category, stream, version, type, data, metadata, at)
SELECT CAST(:category AS text), CAST(:stream AS text), head.version + 1, CAST(:type AS text), CAST(:data AS text),
       CAST(:metadata AS text), CAST(:at AS float8)
FROM mark, head WHERE mark.held = 2 AND CAST(:expected AS bigint) IN (-1, head.version)
  AND {_KNOWN.format(stream="CAST(:stream AS text)", last="CAST(:last AS text)", at="CAST(:last_at AS float8)")}
ON CONFLICT (category, stream, version) DO NOTHING
RETURNING stream, version
""")

# The first event of each stream decides: who has got it in is the only one who can have the next versions.
APPEND = sa.text(f"""
WITH mark AS MATERIALIZED ({_MARKED}), head AS MATERIALIZED (
  SELECT w.stream, w.expected, w.last, w.last_at, {_VERSION.format(stream="w.stream")} AS version
  FROM unnest(CAST(:streams AS text[]), CAST(:expecteds AS bigint[]), CAST(:lasts AS text[]),
    CAST(:lasts_at AS float8[])) AS w(stream, expected, last, last_at)
), given AS MATERIALIZED (
  SELECT e.nr, e.stream, e.n, head.version + e.n AS version, e.type, e.data
  FROM mark CROSS JOIN unnest(CAST(:of_streams AS text[]), CAST(:numbers AS bigint[]), CAST(:types AS text[]),
    CAST(:data AS text[])) WITH ORDINALITY AS e(stream, n, type, data, nr) JOIN head ON head.stream = e.stream
  WHERE mark.held = 2 AND head.expected IN (-1, head.version)
    AND {_KNOWN.format(stream="head.stream", last="head.last", at="head.last_at")}
), first AS (
  INSERT INTO tenfold_event (category, stream, version, type, data, metadata, at)
  SELECT CAST(:category AS text), stream, version, type, data, CAST(:metadata AS text), CAST(:at AS float8)
  FROM given WHERE n = 1 ORDER BY stream
  ON CONFLICT (category, stream, version) DO NOTHING
  RETURNING stream, version
), others AS (
  INSERT INTO tenfold_event (category, stream, version, type, data, metadata, at)
  SELECT CAST(:category AS text), g.stream, g.version, g.type, g.data, CAST(:metadata AS text), CAST(:at AS float8)
  FROM given g JOIN first ON first.stream = g.stream WHERE g.n > 1 ORDER BY g.nr
  RETURNING stream, version
)
SELECT stream, max(version) FROM (SELECT * FROM first UNION ALL SELECT * FROM others) AS stored
GROUP BY stream
""")

READ = sa.text("""
WITH wants AS MATERIALIZED (
  SELECT * FROM unnest(CAST(:streams AS text[]), CAST(:afters AS bigint[])) AS w(stream, after)
), snapshots AS MATERIALIZED (
  SELECT s.stream, s.version, s.state, s.at
  FROM wants w CROSS JOIN LATERAL (
    SELECT * FROM tenfold_event_snapshot s WHERE s.category = CAST(:category AS text) AND s.stream = w.stream
      AND w.after = 0 AND s.fingerprint = CAST(:fingerprint AS text) AND s.version <= CAST(:until AS bigint)
      AND s.at <= CAST(:until_at AS float8) OFFSET 0) s
)
SELECT 0 AS id, CAST(:category AS text) AS category, stream, version, '' AS type, state AS data, NULL AS metadata, at
FROM snapshots
UNION ALL
SELECT e.id, e.category, e.stream, e.version, e.type, e.data, e.metadata, e.at
FROM (SELECT w.stream, greatest(w.after, coalesce(s.version, 0)) AS after
      FROM wants w LEFT JOIN snapshots s ON s.stream = w.stream) w
  CROSS JOIN LATERAL (
    SELECT * FROM tenfold_event e WHERE e.category = CAST(:category AS text) AND e.stream = w.stream
      AND e.version > w.after AND e.version <= CAST(:until AS bigint)
    ORDER BY e.version LIMIT CAST(:limit AS bigint)) e
ORDER BY stream, version
LIMIT CAST(:limit AS bigint)
""")

VERSIONS = sa.text("""
SELECT s.stream, (SELECT max(e.version) FROM tenfold_event e
                  WHERE e.category = CAST(:category AS text) AND e.stream = s.stream)
FROM unnest(CAST(:streams AS text[])) AS s(stream)
""")

SAVE = sa.text("""
INSERT INTO tenfold_event_snapshot AS old (category, stream, fingerprint, version, state, at)
SELECT CAST(:category AS text), s.stream, CAST(:fingerprint AS text), s.version, s.state, s.at
FROM unnest(CAST(:streams AS text[]), CAST(:versions AS bigint[]), CAST(:states AS text[]), CAST(:times AS float8[]))
  AS s(stream, version, state, at)
ON CONFLICT (category, stream) DO UPDATE SET fingerprint = excluded.fingerprint, version = excluded.version,
  state = excluded.state, at = excluded.at
WHERE excluded.version > old.version OR excluded.fingerprint <> old.fingerprint
""")

LAST_GIVEN = sa.text(f"SELECT {_GIVEN} FROM tenfold_event_id_seq")
LOWEST_MARK = sa.text(f"""
SELECT min(((CAST(classid AS bigint) & 65535) << 32) + CAST(objid AS bigint)) FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND CAST(classid AS bigint) >> 16 = {MARK}
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")

# The concatenation keeps the planner from walking over the streams of a category: they are in another order.
_FOLLOW = """
SELECT id, category, stream, version, type, data, metadata, at FROM tenfold_event
WHERE id > CAST(:after AS bigint) AND id <= CAST(:until AS bigint) {where}
ORDER BY id LIMIT CAST(:limit AS bigint)
"""
FOLLOW_ALL = sa.text(_FOLLOW.format(where=""))
FOLLOW_SOME = sa.text(_FOLLOW.format(where="AND category || '' = ANY(CAST(:categories AS text[]))"))

HOLD = sa.text("""
SELECT count(pg_advisory_xact_lock(gate))
FROM (SELECT gate FROM unnest(CAST(:gates AS bigint[])) AS gate ORDER BY gate) AS tenfold_gates
""")
