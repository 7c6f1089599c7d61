"""The statements of the queue on MariaDB and MySQL.

Neither has UPDATE … RETURNING, so what is moved is first selected with its rows locked, then changed by its ids.
Lists travel as one JSON parameter and are unfolded by ``JSON_TABLE``, so that one prepared statement serves any
number of rows. ``STRAIGHT_JOIN`` and ``FORCE INDEX`` fix the order of the loops, the list outside and the table sought
by its key: the planner's idea of the table's size is from another hour, and a scan would lock every row it reads.
"""

from __future__ import annotations

import sqlalchemy as sa

from tenfold.queue.backends._rows import STATE_BY_TIME

# ruff: noqa: S608 - the parts that are put together here are all constants of this file

_IDS = "JSON_TABLE(:ids, '$[*]' COLUMNS (id BIGINT PATH '$')) j STRAIGHT_JOIN tenfold_message m FORCE INDEX (PRIMARY)"
_SKIP = "FOR UPDATE SKIP LOCKED"

# ── locks ──

# Rows that stand for the locks of order keys and of limits: unlike the server's named locks they end with the
# transaction. Whoever takes several takes them in the order of their numbers.
HOLD = sa.text("""
SELECT l.bucket FROM JSON_TABLE(:buckets, '$[*]' COLUMNS (n FOR ORDINALITY, bucket INT PATH '$')) j
  STRAIGHT_JOIN tenfold_queue_lock l FORCE INDEX (PRIMARY) ON l.bucket = j.bucket
FOR UPDATE
""")
# ON DUPLICATE KEY locks the row that is there as a writer does; IGNORE would as a reader, and two readers who both
# want to write are a deadlock.
MAKE_LOCKS = sa.text("""
INSERT INTO tenfold_queue_lock (bucket)
SELECT j.bucket FROM JSON_TABLE(:buckets, '$[*]' COLUMNS (bucket INT PATH '$')) j
ON DUPLICATE KEY UPDATE bucket = tenfold_queue_lock.bucket
""")

# ── putting in ──

_FIELDS = """kind VARCHAR(8) PATH '$[0]', handler VARCHAR(255) PATH '$[1]', payload LONGTEXT PATH '$[2]',
    context LONGTEXT PATH '$[3]', queue VARCHAR(64) PATH '$[4]', lane VARCHAR(255) PATH '$[5]',
    priority INT PATH '$[6]', run_at DOUBLE PATH '$[7]', created_at DOUBLE PATH '$[8]',
    order_key VARCHAR(512) PATH '$[9]', unique_key VARCHAR(512) PATH '$[10]', event_id VARCHAR(64) PATH '$[11]',
    state VARCHAR(12) PATH '$[12]', share VARCHAR(255) PATH '$[13]'"""
_PLAIN = "kind, handler, payload, context, queue, lane, priority, run_at, created_at, event_id, state, share"
_EACH = f"JSON_TABLE(:rows, '$[*]' COLUMNS (n FOR ORDINALITY, {_FIELDS})) j"

INSERT_ONE = sa.text(f"""
INSERT INTO tenfold_message ({_PLAIN})
VALUES (:kind, :handler, :payload, :context, :queue, :lane, :priority, :run_at, :created_at, :event_id, :state, :share)
""")
INSERT_PLAIN = sa.text(
    f"INSERT INTO tenfold_message ({_PLAIN}) SELECT {_PLAIN} FROM {_EACH} ORDER BY n RETURNING id"
)
LAST_ID = sa.text("SELECT LAST_INSERT_ID()")

# IGNORE skips the rows whose unique key is pending; the columns' lengths were checked before.
_INSERT = f"""
INSERT IGNORE INTO tenfold_message
  (kind, handler, payload, context, queue, lane, priority, run_at, created_at, order_key, head_key, unique_key,
   pending_key, event_id, state, share)
SELECT kind, handler, payload, context, queue, lane, priority, run_at, created_at, order_key,
       CASE WHEN behind THEN NULL ELSE order_key END, unique_key, unique_key, event_id,
       CASE WHEN behind THEN 'waiting' ELSE state END, share
FROM (SELECT j.*, j.state = 'waiting' OR EXISTS
        (SELECT 1 FROM tenfold_message h FORCE INDEX (tenfold_message_head) WHERE h.head_key = j.order_key) AS behind
      FROM {_EACH}) placed
ORDER BY n
"""
INSERT_WITH_KEYS = sa.text(_INSERT + "RETURNING id, pending_key")
INSERT_ONE_WITH_KEYS = sa.text(_INSERT)

PENDING_WITH_KEY = sa.text("""
SELECT m.pending_key, m.id FROM JSON_TABLE(:keys, '$[*]' COLUMNS (k VARCHAR(512) PATH '$')) j
  STRAIGHT_JOIN tenfold_message m FORCE INDEX (tenfold_message_unique) ON m.pending_key = j.k
""")

# The next of each line whose head has gone.
NEXT_IN_LINE = sa.text("""
SELECT (SELECT min(w.id) FROM tenfold_message w FORCE INDEX (tenfold_message_line)
        WHERE w.order_key = j.k AND w.state = 'waiting') AS id
FROM JSON_TABLE(:keys, '$[*]' COLUMNS (k VARCHAR(512) PATH '$')) j
WHERE NOT EXISTS
  (SELECT 1 FROM tenfold_message h FORCE INDEX (tenfold_message_head) WHERE h.head_key = j.k)
""")
PROMOTE = sa.text(f"""
UPDATE {_IDS} ON m.id = j.id
SET m.state = {STATE_BY_TIME}, m.head_key = m.order_key
WHERE m.state = 'waiting'
""")

# ── looking ──

# The lanes by a loose index scan: one seek per lane, however many messages stand in it. That is done only for a
# GROUP BY that begins like the index, so state is named in it.
LOOK = sa.text("""
SELECT queue, lane, last <> '', NULL, NULL, NULL FROM
  (SELECT queue, lane, max(share) AS last FROM tenfold_message FORCE INDEX (tenfold_message_ready)
   WHERE state = 'ready' GROUP BY state, queue, lane) lanes
UNION ALL
SELECT NULL, NULL, NULL,
  (SELECT run_at FROM tenfold_message FORCE INDEX (tenfold_message_due) WHERE state = 'delayed'
   ORDER BY run_at LIMIT 1),
  (SELECT lease_until FROM tenfold_message FORCE INDEX (tenfold_message_lease) WHERE lease_until IS NOT NULL
   ORDER BY lease_until LIMIT 1),
  (SELECT json_array(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1000000,
                     (SELECT json_arrayagg(name) FROM tenfold_queue WHERE paused_at IS NOT NULL)))
""")

RUNNING = sa.text("""
SELECT m.handler, count(*) FROM JSON_TABLE(:handlers, '$[*]' COLUMNS (handler VARCHAR(255) PATH '$')) j
  STRAIGHT_JOIN tenfold_message m FORCE INDEX (tenfold_message_parked)
  ON m.state = 'running' AND m.handler = j.handler
WHERE m.lane <> '' GROUP BY m.handler
""")

DUE = sa.text(f"""
SELECT id FROM tenfold_message FORCE INDEX (tenfold_message_due)
WHERE state = 'delayed' AND run_at <= :now ORDER BY run_at LIMIT :limit {_SKIP}
""")
WAKE_DUE = sa.text(f"UPDATE {_IDS} ON m.id = j.id SET m.state = 'ready'")
WAKE = sa.text(f"""
UPDATE {_IDS} ON m.id = j.id SET m.state = 'ready', m.run_at = :now WHERE m.state = 'delayed'
""")

EXPIRED = sa.text(f"""
SELECT id, fence, crashes, cancel, queue FROM tenfold_message FORCE INDEX (tenfold_message_lease)
WHERE lease_until < :now AND state = 'running' ORDER BY lease_until LIMIT :limit {_SKIP}
""")

# ── claiming and settling ──

READY = sa.text(f"""
SELECT id, fence + 1, kind, handler, payload, context, queue, lane, priority, run_at, created_at, failures, crashes,
       order_key, event_id, progress, share
FROM tenfold_message FORCE INDEX (tenfold_message_ready)
WHERE state = 'ready' AND queue = :queue AND lane = :lane AND share = :share
  AND NOT EXISTS (SELECT 1 FROM tenfold_queue WHERE name = :queue AND paused_at IS NOT NULL)
ORDER BY priority, id LIMIT :count {_SKIP}
""")
# The shares after the last one that had its turn, then those from the beginning: each by one seek.
LATER, EARLIER = (
    sa.text(f"""
SELECT DISTINCT state, queue, lane, share FROM tenfold_message FORCE INDEX (tenfold_message_ready)
WHERE state = 'ready' AND queue = :queue AND lane = :lane AND share {side} :after ORDER BY share LIMIT :count
""")
    for side in (">", "<=")
)
CLAIM = sa.text(f"""
UPDATE {_IDS} ON m.id = j.id
SET m.state = 'running', m.fence = m.fence + 1, m.worker = :worker, m.lease_until = :lease_until,
    m.started_at = :now, m.pending_key = NULL
""")

_ITEMS = """JSON_TABLE(:items, '$[*]' COLUMNS (n FOR ORDINALITY, id BIGINT PATH '$[0]', fence INT PATH '$[1]',
    state VARCHAR(12) PATH '$[2]', {more})) j
  STRAIGHT_JOIN tenfold_message m FORCE INDEX (PRIMARY)
  ON m.id = j.id AND m.fence = j.fence AND m.state = 'running'"""
_SIMPLE = _ITEMS.format(more="other INT PATH '$[99]'")

# The first to settle has the rows; who comes later waits, and finds another fence or no row.
HELD = sa.text(f"SELECT m.id, m.order_key, m.unique_key, m.cancel FROM {_SIMPLE} FOR UPDATE")

EXTEND = sa.text(f"""
UPDATE {_ITEMS.format(more="progress LONGTEXT PATH '$[3]'")}
SET m.lease_until = :lease_until, m.progress = coalesce(j.progress, m.progress)
""")

ASKED_TO_STOP = sa.text(f"SELECT m.id, m.cancel FROM {_IDS} ON m.id = j.id WHERE m.cancel IS NOT NULL")

_FINISHED = """failures INT PATH '$[3]', crashes INT PATH '$[4]', progress LONGTEXT PATH '$[5]',
    error LONGTEXT PATH '$[6]', result LONGTEXT PATH '$[7]', result_until DOUBLE PATH '$[8]',
    expires_at DOUBLE PATH '$[9]'"""
ARCHIVE = sa.text(f"""
INSERT INTO tenfold_message_archive
  (id, kind, handler, state, queue, lane, share, priority, created_at, started_at, finished_at, payload, context,
   order_key, unique_key, event_id, fence, failures, crashes, progress, error, result, result_until, expires_at)
SELECT m.id, m.kind, m.handler, j.state, m.queue, m.lane, m.share, m.priority, m.created_at, m.started_at, :now,
       m.payload, m.context, m.order_key, m.unique_key, m.event_id, m.fence, m.failures + j.failures,
       m.crashes + j.crashes, coalesce(j.progress, m.progress), coalesce(j.error, m.error), j.result,
       j.result_until, j.expires_at
FROM {_ITEMS.format(more=_FINISHED)}
""")
REMOVE = sa.text(f"DELETE m FROM {_SIMPLE}")

# "!" is policy.SUSPECT, the mark before the lane of a message that may kill its worker.
_RETURNED = """run_at DOUBLE PATH '$[3]', failures INT PATH '$[4]', crashes INT PATH '$[5]',
    error LONGTEXT PATH '$[6]', progress LONGTEXT PATH '$[7]', suspect BOOLEAN PATH '$[8]',
    lane VARCHAR(255) PATH '$[9]'"""
RETURN = sa.text(f"""
UPDATE {_ITEMS.format(more=_RETURNED)}
SET m.run_at = coalesce(j.run_at, m.run_at), m.failures = m.failures + j.failures,
    m.crashes = m.crashes + j.crashes, m.error = coalesce(j.error, m.error),
    m.progress = coalesce(j.progress, m.progress),
    m.lane = CASE WHEN j.suspect THEN concat('!', trim(LEADING '!' FROM m.lane)) ELSE coalesce(j.lane, m.lane) END,
    m.worker = NULL, m.lease_until = NULL, m.state = j.state
""")

# A message that goes back while a newer one with its unique key is pending would run twice what was asked for
# once: the newest takes the key where it is free, and the others are superseded.
RESTORE_KEYS = sa.text(f"UPDATE IGNORE {_IDS} ON m.id = j.id SET m.pending_key = m.unique_key")
DOUBLES = sa.text(f"""
SELECT m.id, m.fence FROM {_IDS} ON m.id = j.id WHERE m.unique_key IS NOT NULL AND m.pending_key IS NULL FOR UPDATE
""")
TAKE_DOUBLES = sa.text(f"UPDATE {_IDS} ON m.id = j.id SET m.state = 'running'")

# ── housekeeping ──

UNPARK = sa.text(f"""
UPDATE JSON_TABLE(:lanes, '$[*]' COLUMNS (handler VARCHAR(255) PATH '$[0]', lane VARCHAR(255) PATH '$[1]')) j
  STRAIGHT_JOIN tenfold_message m FORCE INDEX (tenfold_message_parked)
  ON m.state = 'parked' AND m.handler = j.handler
SET m.lane = j.lane, m.error = NULL, m.state = {STATE_BY_TIME}
""")
PRUNE = (
    sa.text("DELETE FROM tenfold_message_archive WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit"),
    sa.text("""
UPDATE tenfold_message_archive SET result = NULL
WHERE result IS NOT NULL AND result_until <= :now ORDER BY result_until LIMIT :limit
"""),
    sa.text("DELETE FROM tenfold_inbox WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit"),
)

REMEMBER = sa.text("""
INSERT IGNORE INTO tenfold_inbox (subscription, event_id, expires_at) VALUES (:subscription, :event_id, :expires_at)
""")

GIVE_UP = sa.text("""
INSERT IGNORE INTO tenfold_inbox (subscription, event_id, expires_at, given_up_at)
SELECT a.handler, a.event_id, greatest(a.expires_at, :until), :now
FROM JSON_TABLE(:ids, '$[*]' COLUMNS (id BIGINT PATH '$')) j
  STRAIGHT_JOIN tenfold_message_archive a FORCE INDEX (PRIMARY) ON a.id = j.id
WHERE a.kind = 'event' AND a.event_id IS NOT NULL AND a.unique_key IS NULL
ORDER BY a.handler, a.event_id
""")
