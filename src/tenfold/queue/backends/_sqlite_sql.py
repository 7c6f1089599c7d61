"""The statements of the SQLite queue, built once.

Lists go in as one JSON parameter and are unfolded by ``json_each``, so that one prepared statement serves any
number of rows. ``CROSS JOIN`` fixes the order of the loops: the list outside, the table sought by its key.
"""

from __future__ import annotations

import sqlalchemy as sa

from tenfold.queue.backends._rows import STATE_BY_TIME

# ruff: noqa: S608 - the parts that are put together here are all constants of this file

INSERT = sa.text("""
INSERT INTO tenfold_message
  (kind, handler, payload, context, queue, lane, priority, run_at, created_at,
   order_key, head_key, unique_key, pending_key, event_id, state, share)
SELECT v ->> 0, v ->> 1, v ->> 2, v ->> 3, v ->> 4, v ->> 5, v ->> 6, v ->> 7, v ->> 8,
       v ->> 9, CASE WHEN NOT behind THEN v ->> 9 END, v ->> 10, v ->> 10, v ->> 11,
       CASE WHEN behind THEN 'waiting' ELSE v ->> 12 END, v ->> 13
FROM (SELECT j.value AS v, j.value ->> 12 = 'waiting' OR EXISTS
        (SELECT 1 FROM tenfold_message h WHERE h.head_key = j.value ->> 9) AS behind
      FROM json_each(:rows) j)
WHERE true
ON CONFLICT (pending_key) WHERE pending_key IS NOT NULL DO NOTHING
RETURNING id, pending_key
""")

PENDING_WITH_KEY = sa.text("""
SELECT pending_key, id FROM tenfold_message
WHERE pending_key IN (SELECT value FROM json_each(:keys)) AND pending_key IS NOT NULL
""")

PROMOTE = sa.text(f"""
UPDATE tenfold_message SET state = {STATE_BY_TIME}, head_key = order_key
WHERE id IN (SELECT (SELECT min(id) FROM tenfold_message w WHERE w.order_key = k.value AND w.state = 'waiting')
             FROM json_each(:keys) k
             WHERE NOT EXISTS (SELECT 1 FROM tenfold_message h WHERE h.head_key = k.value))
""")

# The lanes by a loose index scan: one seek per lane, however many messages stand in it. (Comparing row values,
# such as (queue, lane) > (:q, :l), would seek by the queue only and then walk over all of its messages.)
LOOK = sa.text("""
WITH RECURSIVE queues(q) AS (
  SELECT min(queue) FROM tenfold_message WHERE state = 'ready'
  UNION ALL
  SELECT (SELECT min(queue) FROM tenfold_message WHERE state = 'ready' AND queue > q)
  FROM queues WHERE q IS NOT NULL
), lanes(q, l) AS (
  SELECT q, (SELECT min(lane) FROM tenfold_message WHERE state = 'ready' AND queue = q)
  FROM queues WHERE q IS NOT NULL
  UNION ALL
  SELECT q, (SELECT min(lane) FROM tenfold_message WHERE state = 'ready' AND queue = q AND lane > l)
  FROM lanes WHERE l IS NOT NULL
)
SELECT (SELECT json_group_array(json_array(q, l, (SELECT max(share) FROM tenfold_message
          WHERE state = 'ready' AND queue = q AND lane = l) <> '')) FROM lanes WHERE l IS NOT NULL),
       (SELECT json_group_array(name) FROM tenfold_queue WHERE paused_at IS NOT NULL),
       (SELECT min(run_at) FROM tenfold_message WHERE state = 'delayed'),
       (SELECT min(lease_until) FROM tenfold_message WHERE lease_until IS NOT NULL)
""")

RUNNING = sa.text("""
SELECT handler, count(*) FROM tenfold_message
WHERE state = 'running' AND lane <> '' AND handler IN (SELECT value FROM json_each(:handlers)) GROUP BY handler
""")

WAKE_DUE = sa.text("""
UPDATE tenfold_message SET state = 'ready'
WHERE id IN (SELECT id FROM tenfold_message WHERE state = 'delayed' AND run_at <= :now ORDER BY run_at LIMIT :limit)
""")

WAKE = sa.text("""
UPDATE tenfold_message SET state = 'ready', run_at = :now
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'delayed'
""")

EXPIRED = sa.text("""
SELECT id, fence, crashes, cancel, queue FROM tenfold_message
WHERE lease_until < :now AND state = 'running' ORDER BY lease_until LIMIT :limit
""")

_TAKE = """
UPDATE tenfold_message
SET state = 'running', fence = fence + 1, worker = :worker, lease_until = :lease_until, started_at = :now,
    pending_key = NULL"""
_CLAIMED = """
  AND NOT EXISTS (SELECT 1 FROM tenfold_queue WHERE name = :queue AND paused_at IS NOT NULL)
RETURNING id, fence, kind, handler, payload, context, queue, lane, priority, run_at, created_at, failures,
          crashes, order_key, event_id, progress, share
"""
CLAIM = sa.text(f"""{_TAKE}
WHERE id IN (SELECT id FROM tenfold_message WHERE state = 'ready' AND queue = :queue AND lane = :lane AND share = ''
             ORDER BY priority, id LIMIT :count){_CLAIMED}""")

# The shares after the last one that had its turn, then those from the beginning: one seek per share, and no more
# shares than messages are asked for. Each gives as much of the claim as the others.
CLAIM_IN_TURN = sa.text(f"""
WITH RECURSIVE later(s, n) AS (
  SELECT min(share), 1 FROM tenfold_message
  WHERE state = 'ready' AND queue = :queue AND lane = :lane AND share > :after
  UNION ALL
  SELECT (SELECT min(share) FROM tenfold_message
          WHERE state = 'ready' AND queue = :queue AND lane = :lane AND share > s), n + 1
  FROM later WHERE s IS NOT NULL AND n < :count
), earlier(s, n) AS (
  SELECT min(share), 1 FROM tenfold_message
  WHERE state = 'ready' AND queue = :queue AND lane = :lane AND share <= :after
  UNION ALL
  SELECT (SELECT min(share) FROM tenfold_message
          WHERE state = 'ready' AND queue = :queue AND lane = :lane AND share > s AND share <= :after), n + 1
  FROM earlier WHERE s IS NOT NULL AND n < :count
), ring(s) AS MATERIALIZED (
  SELECT s FROM (SELECT s FROM later WHERE s IS NOT NULL UNION ALL SELECT s FROM earlier WHERE s IS NOT NULL)
  LIMIT :count
){_TAKE}
WHERE id IN (
  SELECT j.value FROM ring CROSS JOIN json_each(
    (SELECT json_group_array(id) FROM
      (SELECT id FROM tenfold_message WHERE state = 'ready' AND queue = :queue AND lane = :lane AND share = s
       ORDER BY priority, id LIMIT (SELECT :count / count(*) FROM ring)))) j){_CLAIMED}""")

EXTEND = sa.text("""
UPDATE tenfold_message AS m SET lease_until = :lease_until, progress = coalesce(j.value ->> 2, m.progress)
FROM json_each(:held) j
WHERE m.id = j.value ->> 0 AND m.fence = j.value ->> 1 AND m.state = 'running'
RETURNING id, cancel
""")

ASKED_TO_STOP = sa.text("""
SELECT id, cancel FROM tenfold_message WHERE id IN (SELECT value FROM json_each(:ids)) AND cancel IS NOT NULL
""")

ARCHIVE = sa.text("""
INSERT INTO tenfold_message_archive
  (id, kind, handler, state, queue, lane, share, priority, created_at, started_at, finished_at, payload, context,
   order_key, unique_key, event_id, fence, failures, crashes, progress, error, result, result_until, expires_at)
SELECT m.id, m.kind, m.handler, j.value ->> 2, m.queue, m.lane, m.share, m.priority, m.created_at, m.started_at, :now,
       m.payload, m.context, m.order_key, m.unique_key, m.event_id, m.fence, m.failures + (j.value ->> 3),
       m.crashes + (j.value ->> 4), coalesce(j.value ->> 5, m.progress), coalesce(j.value ->> 6, m.error),
       j.value ->> 7, j.value ->> 8, j.value ->> 9
FROM json_each(:items) j CROSS JOIN tenfold_message m
WHERE m.id = j.value ->> 0 AND m.fence = j.value ->> 1 AND m.state = 'running'
""")

REMOVE = sa.text("""
DELETE FROM tenfold_message
WHERE id IN (SELECT m.id FROM json_each(:items) j CROSS JOIN tenfold_message m
             WHERE m.id = j.value ->> 0 AND m.fence = j.value ->> 1 AND m.state = 'running')
RETURNING id, order_key
""")

# "!" is policy.SUSPECT, the mark before the lane of a message that may kill its worker.
RETURN = sa.text("""
UPDATE tenfold_message AS m
SET state = j.value ->> 2, run_at = coalesce(j.value ->> 3, m.run_at), failures = m.failures + (j.value ->> 4),
    crashes = m.crashes + (j.value ->> 5), error = coalesce(j.value ->> 6, m.error),
    progress = coalesce(j.value ->> 7, m.progress),
    lane = CASE WHEN j.value ->> 8 THEN '!' || ltrim(m.lane, '!') ELSE coalesce(j.value ->> 9, m.lane) END,
    worker = NULL, lease_until = NULL
FROM json_each(:items) j
WHERE m.id = j.value ->> 0 AND m.fence = j.value ->> 1 AND m.state = 'running'
RETURNING id, unique_key
""")

# A message that goes back while a newer one with its unique key is pending would run twice what was asked for
# once: the key is taken back where it is free, and the others are superseded.
RESTORE_KEYS = sa.text("""
UPDATE OR IGNORE tenfold_message SET pending_key = unique_key
WHERE id IN (SELECT value FROM json_each(:ids)) AND unique_key IS NOT NULL
""")
SUPERSEDED = sa.text("""
UPDATE tenfold_message SET state = 'running'
WHERE id IN (SELECT value FROM json_each(:ids)) AND unique_key IS NOT NULL AND pending_key IS NULL
RETURNING id, fence
""")

UNPARK = sa.text(f"""
UPDATE tenfold_message AS m SET state = {STATE_BY_TIME},
                                lane = j.value ->> 1, error = NULL
FROM json_each(:lanes) j
WHERE m.state = 'parked' AND m.handler = j.value ->> 0
""")
PRUNE = (
    sa.text("""
DELETE FROM tenfold_message_archive WHERE id IN
  (SELECT id FROM tenfold_message_archive WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit)
"""),
    sa.text("""
UPDATE tenfold_message_archive SET result = NULL WHERE id IN
  (SELECT id FROM tenfold_message_archive WHERE result IS NOT NULL AND result_until <= :now
   ORDER BY result_until LIMIT :limit)
"""),
    sa.text("""
DELETE FROM tenfold_inbox WHERE (subscription, event_id) IN
  (SELECT subscription, event_id FROM tenfold_inbox WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit)
"""),
)

REMEMBER = sa.text("""
INSERT INTO tenfold_inbox (subscription, event_id, expires_at) VALUES (:subscription, :event_id, :expires_at)
ON CONFLICT DO NOTHING
""")

GIVE_UP = sa.text("""
INSERT INTO tenfold_inbox (subscription, event_id, expires_at, given_up_at)
SELECT a.handler, a.event_id, max(a.expires_at, :until), :now
FROM json_each(:ids) j CROSS JOIN tenfold_message_archive a
WHERE a.id = j.value AND a.kind = 'event' AND a.event_id IS NOT NULL AND a.unique_key IS NULL
ON CONFLICT DO NOTHING
""")
