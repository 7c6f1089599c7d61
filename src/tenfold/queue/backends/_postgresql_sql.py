"""The statements of the queue on PostgreSQL.

Rows travel as one array per column. A subselect that picks rows locks them with SKIP LOCKED and hands on where
they lie (``ctid``), so that the update does not search for them again. FOR NO KEY UPDATE is the lock that an
UPDATE takes anyway; it does not wait for those who only look that a head stays (FOR KEY SHARE).

A list of parameters stands behind a subselect (:func:`_list`) where the statement is a frequent one. The planner sees how
long a list is that it is given, and finds a plan for that very list cheaper than the one that it keeps, for lists of ten:
every short list, the usual ones, would be planned anew, which takes longer than the statement.

A plan is kept by its connection while the table goes from empty to a million rows and back, so no statement may
depend on the planner's idea of the table's size: rows are named by ``id = ANY(…)``, also where a join with the
array would name them already, for a join may begin at either side.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from tenfold.queue.backends._rows import STATE_BY_TIME

# ruff: noqa: S608 - the parts that are put together here are all constants of this file

# Which message is in whose way can only be said by who holds the key: the next statement then sees all that the
# holder before has committed. Keys share a bounded number of locks, for the server keeps room for few thousands.
KEYS, LIMITS = 0x74656E66, 0x74656E67
"""The spaces of our advisory locks: those of order keys, and those of handlers with a concurrency limit."""


def _held(space: int | str, names: str) -> str:
    """Locks on names, by 1,024 buckets in their order, so that nobody waits in a circle; two keys of one bucket wait for
    each other for the length of a commit. The names are a table of ours, so that nobody tells users to ask less often."""
    return f"""
SELECT count(pg_advisory_xact_lock({space}, bucket)) FROM (
  SELECT DISTINCT hashtext(name) & 1023 AS bucket FROM ({names}) AS tenfold_names(name) ORDER BY 1) AS buckets
"""


HOLD = sa.text(_held("CAST(:space AS integer)", "SELECT unnest(CAST(:names AS text[]))"))

HOLD_AHEAD = sa.text(f"""
SELECT 1 FROM ({_held(KEYS, "SELECT unnest(CAST(:names AS text[]))")}) AS held(locks) WHERE locks < 0
""")
"""The same for order keys, without an answer: sent together with the statement behind it."""


def _list(name: str, type_: str) -> str:
    """A parameter that is a list, as long as any for all that the planner knows."""
    return f"CAST((SELECT CAST(:{name} AS {type_}[])) AS {type_}[])"


def _lists(columns: Mapping[str, str]) -> str:
    """``unnest`` of one list per column."""
    return f"unnest({', '.join(_list(name, type_) for name, type_ in columns.items())})"


_IDS = _list("ids", "bigint")
_TYPES = {
    "kind": "text", "handler": "text", "payload": "text", "context": "text", "queue": "text", "lane": "text",
    "priority": "integer", "run_at": "float8", "created_at": "float8", "order_key": "text", "unique_key": "text",
    "event_id": "text", "state": "text", "share": "text",
}  # fmt: skip
_NAMES = ", ".join(_TYPES)

# The usual batch: many messages that differ in nothing but their payload and their time.
INSERT_ALIKE = sa.text(f"""
INSERT INTO tenfold_message
  (kind, handler, payload, context, queue, lane, priority, run_at, created_at, event_id, state, share)
SELECT CAST(:kind AS text), CAST(:handler AS text), r.payload, CAST(:context AS text), CAST(:queue AS text),
       CAST(:lane AS text), CAST(:priority AS integer), r.run_at, r.created_at, CAST(:event_id AS text),
       CAST(:state AS text), CAST(:share AS text)
FROM {_lists({"payload": "text", "run_at": "float8", "created_at": "float8"})} AS r(payload, run_at, created_at)
RETURNING id
""")

INSERT_ONE = sa.text("""
INSERT INTO tenfold_message
  (kind, handler, payload, context, queue, lane, priority, run_at, created_at, event_id, state, share)
VALUES (:kind, :handler, :payload, :context, :queue, :lane, :priority, :run_at, :created_at, :event_id, :state,
        :share)
RETURNING id
""")


# A serializable transaction sees heads that have gone in the meantime. To lock one that has gone fails, and so does
# to become the second head of a key: both as collisions, upon which the transaction is run again. Any other must not
# wait for a head: who takes it off waits for the key.
_HEAD = "SELECT h.id FROM tenfold_message h WHERE h.head_key = r.order_key"
INSERT = sa.text(f"""
INSERT INTO tenfold_message
  (kind, handler, payload, context, queue, lane, priority, run_at, created_at,
   order_key, head_key, unique_key, pending_key, event_id, state, share)
SELECT kind, handler, payload, context, queue, lane, priority, run_at, created_at,
       order_key, CASE WHEN NOT behind THEN order_key END, unique_key, unique_key, event_id,
       CASE WHEN behind THEN 'waiting' ELSE state END, share
FROM (SELECT r.*, r.state = 'waiting' OR
        CASE WHEN current_setting('transaction_isolation') = 'read committed'
             THEN ({_HEAD}) ELSE ({_HEAD} FOR KEY SHARE) END IS NOT NULL AS behind
      FROM {_lists(_TYPES)} AS r({_NAMES})) AS placed
ON CONFLICT DO NOTHING
RETURNING id, pending_key
""")

PENDING_WITH_KEY = sa.text("""
SELECT pending_key, id FROM tenfold_message WHERE pending_key = ANY(CAST(:keys AS text[]))
""")

PROMOTE = sa.text(f"""
UPDATE tenfold_message SET state = {STATE_BY_TIME}, head_key = order_key
WHERE id = ANY(ARRAY(
  SELECT (SELECT w.id FROM tenfold_message w WHERE w.order_key = k AND w.state = 'waiting' ORDER BY w.id LIMIT 1)
  FROM {_lists({"keys": "text"})} AS k
  WHERE (SELECT h.id FROM tenfold_message h WHERE h.head_key = k) IS NULL))
""")
PROMOTE_LAST = sa.text(f"{PROMOTE.text} RETURNING 1")
"""For who commits with it: what takes a commit along answers rows."""

# A loose index scan: one seek per lane, however many messages stand in it. It goes backwards, so that what it meets
# first in a lane is the lane's last share, too: is it nobody's, all are.
LOOK = sa.text("""
WITH RECURSIVE lanes(q, l, s) AS (
  (SELECT queue, lane, share FROM tenfold_message WHERE state = 'ready'
   ORDER BY queue DESC, lane DESC, share DESC LIMIT 1)
  UNION ALL
  SELECT n.queue, n.lane, n.share FROM lanes, LATERAL (
    SELECT queue, lane, share FROM tenfold_message WHERE state = 'ready' AND (queue, lane) < (lanes.q, lanes.l)
    ORDER BY queue DESC, lane DESC, share DESC LIMIT 1) AS n
)
SELECT ARRAY(SELECT q FROM lanes), ARRAY(SELECT l FROM lanes), ARRAY(SELECT s <> '' FROM lanes),
       ARRAY(SELECT name FROM tenfold_queue WHERE paused_at IS NOT NULL),
       (SELECT run_at FROM tenfold_message WHERE state = 'delayed' ORDER BY run_at LIMIT 1),
       (SELECT lease_until FROM tenfold_message WHERE lease_until IS NOT NULL ORDER BY lease_until LIMIT 1),
       CAST(extract(epoch FROM clock_timestamp()) AS float8)
""")

RUNNING = sa.text("""
SELECT handler, count(*) FROM tenfold_message
WHERE state = 'running' AND lane <> '' AND handler = ANY(CAST(:handlers AS text[])) GROUP BY handler
""")

WAKE_DUE = sa.text("""
UPDATE tenfold_message SET state = 'ready'
WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM tenfold_message WHERE state = 'delayed' AND run_at <= :now
  ORDER BY run_at LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED))
""")

WAKE = sa.text("""
UPDATE tenfold_message SET state = 'ready', run_at = :now
WHERE id = ANY(CAST(:ids AS bigint[])) AND state = 'delayed'
""")

EXPIRED = sa.text("""
SELECT id, fence, crashes, cancel, queue FROM tenfold_message
WHERE lease_until < :now AND state = 'running'
ORDER BY lease_until LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
""")

# The claim need not be on the disk when the work begins: a server that forgets it in a crash hands the message out
# again. What settles the message is later in the same log, so it never survives without its claim.
_CLAIMED = """
  AND (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM tenfold_queue WHERE name = :queue AND paused_at IS NOT NULL)
RETURNING id, fence, kind, handler, payload, context, queue, lane, priority, run_at, created_at, failures,
          crashes, order_key, event_id, progress, share
"""
_TAKE = """
UPDATE tenfold_message
SET state = 'running', fence = fence + 1, worker = :worker, lease_until = :lease_until, started_at = :now,
    pending_key = NULL"""

CLAIM = sa.text(f"""{_TAKE}
WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM tenfold_message WHERE state = 'ready' AND queue = :queue AND lane = :lane AND share = ''
  ORDER BY priority, id LIMIT :count FOR NO KEY UPDATE SKIP LOCKED)){_CLAIMED}""")

# The shares after the last one that had its turn, then those from the beginning: one seek per share, and no more
# shares than messages are asked for. Each gives as much of the claim as the others.
_RING = """
WITH RECURSIVE later(s, n) AS (
  (SELECT share, 1 FROM tenfold_message
   WHERE state = 'ready' AND queue = :queue AND lane = :lane AND share > :after
   ORDER BY queue, lane, share LIMIT 1)
  UNION ALL
  SELECT m.share, n + 1 FROM later, LATERAL (
    SELECT share FROM tenfold_message WHERE state = 'ready' AND queue = :queue AND lane = :lane AND share > s
    ORDER BY queue, lane, share LIMIT 1) AS m WHERE n < :count
), earlier(s, n) AS (
  (SELECT share, 1 FROM tenfold_message
   WHERE state = 'ready' AND queue = :queue AND lane = :lane AND share <= :after
   ORDER BY queue, lane, share LIMIT 1)
  UNION ALL
  SELECT m.share, n + 1 FROM earlier, LATERAL (
    SELECT share FROM tenfold_message
    WHERE state = 'ready' AND queue = :queue AND lane = :lane AND share > s AND share <= :after
    ORDER BY queue, lane, share LIMIT 1) AS m WHERE n < :count
), ring AS MATERIALIZED (
  SELECT s FROM (SELECT s FROM later UNION ALL SELECT s FROM earlier) AS every LIMIT :count
)"""
CLAIM_IN_TURN = sa.text(f"""{_RING}{_TAKE}
WHERE ctid = ANY(ARRAY(
  SELECT m.ctid FROM ring, LATERAL (
    SELECT ctid FROM tenfold_message WHERE state = 'ready' AND queue = :queue AND lane = :lane AND share = s
    ORDER BY priority, id LIMIT (SELECT :count / count(*) FROM ring) FOR NO KEY UPDATE SKIP LOCKED) AS m)){_CLAIMED}""")

EXTEND = sa.text("""
UPDATE tenfold_message AS m SET lease_until = :lease_until, progress = coalesce(h.progress, m.progress)
FROM unnest(CAST(:ids AS bigint[]), CAST(:fences AS integer[]), CAST(:progress AS text[])) AS h(id, fence, progress)
WHERE m.id = ANY(CAST(:ids AS bigint[])) AND m.id = h.id AND m.fence = h.fence AND m.state = 'running'
RETURNING m.id, m.cancel
""")

ASKED_TO_STOP = sa.text("""
SELECT id, cancel FROM tenfold_message WHERE id = ANY(CAST(:ids AS bigint[])) AND cancel IS NOT NULL
""")

_ARCHIVED = """id, kind, handler, state, queue, lane, share, priority, created_at, started_at, finished_at, payload, context,
   order_key, unique_key, event_id, fence, failures, crashes, progress, error, result, result_until, expires_at"""

# The usual end: nothing to say but that it is done, in the first run.
# The lines behind what is gone are held as well, so that the statement which follows sees who waits in them.
_GONE = f"""
, held(locks) AS ({_held(KEYS, "SELECT order_key FROM gone WHERE order_key IS NOT NULL")})
SELECT id, order_key, current_setting('transaction_isolation') FROM gone CROSS JOIN held
"""

FINISH_DONE = sa.text(f"""
WITH gone AS (
  DELETE FROM tenfold_message AS m
  WHERE m.id = ANY({_IDS}) AND m.fence = 1 AND m.state = 'running'
  RETURNING m.*
), kept AS (
  INSERT INTO tenfold_message_archive ({_ARCHIVED})
  SELECT id, kind, handler, 'done', queue, lane, share, priority, created_at, started_at, :now, payload, context,
         order_key, unique_key, event_id, fence, failures, crashes, progress, error, NULL, NULL, :expires_at
  FROM gone
)
{_GONE}
""")

# The same for one message, sent together with what follows it, so that nobody is there to judge the answer: who has lost
# it would archive a row without an id, who may not see the line behind it one without a state, and both fail.
FINISH_DONE_AHEAD = sa.text(f"""
WITH gone AS (
  DELETE FROM tenfold_message AS m
  WHERE m.id = :id AND m.fence = 1 AND m.state = 'running' RETURNING m.*
)
INSERT INTO tenfold_message_archive ({_ARCHIVED})
SELECT id, kind, handler,
       CASE WHEN order_key IS NULL OR current_setting('transaction_isolation') = 'read committed' THEN 'done' END,
       queue, lane, share, priority, created_at, started_at, :now, payload, context,
       order_key, unique_key, event_id, fence, failures, crashes, progress, error, NULL, NULL, :expires_at
FROM (SELECT 1) AS one LEFT JOIN gone ON true
""")
FINISH_DONE_LAST = sa.text(f"{FINISH_DONE_AHEAD.text} RETURNING 1")
"""For who commits with it."""

_FINISHED = {
    "ids": "bigint", "fences": "integer", "states": "text", "failures": "integer", "crashes": "integer",
    "progress": "text", "errors": "text", "results": "text", "result_until": "float8", "expires_at": "float8",
}  # fmt: skip
FINISH = sa.text(f"""
WITH gone AS (
  DELETE FROM tenfold_message AS m
  USING {_lists(_FINISHED)}
    AS i(id, fence, state, failures, crashes, progress, error, result, result_until, expires_at)
  WHERE m.id = ANY({_IDS}) AND m.id = i.id AND m.fence = i.fence AND m.state = 'running'
  RETURNING m.*, i.state AS end_state, i.failures AS end_failures, i.crashes AS end_crashes,
            i.progress AS end_progress, i.error AS end_error, i.result, i.result_until, i.expires_at
), kept AS (
  INSERT INTO tenfold_message_archive ({_ARCHIVED})
  SELECT id, kind, handler, end_state, queue, lane, share, priority, created_at, started_at, :now, payload, context,
         order_key, unique_key, event_id, fence, failures + end_failures, crashes + end_crashes,
         coalesce(end_progress, progress), coalesce(end_error, error), result, result_until, expires_at
  FROM gone
)
{_GONE}
""")

# "!" is policy.SUSPECT, the mark before the lane of a message that may kill its worker.
RETURN = sa.text("""
UPDATE tenfold_message AS m
SET state = i.state, run_at = coalesce(i.run_at, m.run_at), failures = m.failures + i.failures,
    crashes = m.crashes + i.crashes, error = coalesce(i.error, m.error),
    progress = coalesce(i.progress, m.progress),
    lane = CASE WHEN i.suspect THEN '!' || ltrim(m.lane, '!') ELSE coalesce(i.lane, m.lane) END,
    worker = NULL, lease_until = NULL
FROM unnest(CAST(:ids AS bigint[]), CAST(:fences AS integer[]), CAST(:states AS text[]), CAST(:run_at AS float8[]),
            CAST(:failures AS integer[]), CAST(:crashes AS integer[]), CAST(:errors AS text[]),
            CAST(:progress AS text[]), CAST(:suspect AS boolean[]), CAST(:lanes AS text[]))
  AS i(id, fence, state, run_at, failures, crashes, error, progress, suspect, lane)
WHERE m.id = ANY(CAST(:ids AS bigint[])) AND m.id = i.id AND m.fence = i.fence AND m.state = 'running'
RETURNING m.id, m.unique_key
""")

# A message that goes back while a newer one with its unique key is pending would run twice what was asked for
# once: the newest takes the key where it is free, and the others are superseded.
RESTORE_KEYS = sa.text("""
UPDATE tenfold_message SET pending_key = unique_key
WHERE id = ANY(ARRAY(
  SELECT max(m.id) FROM tenfold_message m
  WHERE m.id = ANY(CAST(:ids AS bigint[]))
    AND (SELECT o.id FROM tenfold_message o WHERE o.pending_key = m.unique_key) IS NULL
  GROUP BY m.unique_key))
""")
SUPERSEDED = sa.text("""
UPDATE tenfold_message SET state = 'running'
WHERE id = ANY(CAST(:ids AS bigint[])) AND unique_key IS NOT NULL AND pending_key IS NULL
RETURNING id, fence
""")

UNPARK = sa.text(f"""
UPDATE tenfold_message AS m SET state = {STATE_BY_TIME},
                                lane = i.lane, error = NULL
FROM unnest(CAST(:handlers AS text[]), CAST(:lanes AS text[])) AS i(handler, lane)
WHERE m.state = 'parked' AND m.handler = i.handler
""")

PRUNE = (
    sa.text("""
DELETE FROM tenfold_message_archive WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM tenfold_message_archive WHERE expires_at <= :now
  ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED))
"""),
    sa.text("""
UPDATE tenfold_message_archive SET result = NULL WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM tenfold_message_archive WHERE result IS NOT NULL AND result_until <= :now
  ORDER BY result_until LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED))
"""),
    sa.text("""
DELETE FROM tenfold_inbox WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM tenfold_inbox WHERE expires_at <= :now
  ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED))
"""),
)

REMEMBER = sa.text("""
INSERT INTO tenfold_inbox (subscription, event_id, expires_at) VALUES (:subscription, :event_id, :expires_at)
ON CONFLICT DO NOTHING
""")

# In the same order whoever gives up which: of two who wait for each other's rows, one would fail.
GIVE_UP = sa.text("""
INSERT INTO tenfold_inbox (subscription, event_id, expires_at, given_up_at)
SELECT handler, event_id, greatest(expires_at, CAST(:until AS float8)), CAST(:now AS float8)
FROM tenfold_message_archive
WHERE id = ANY(CAST(:ids AS bigint[])) AND kind = 'event' AND event_id IS NOT NULL AND unique_key IS NULL
ORDER BY handler, event_id
ON CONFLICT DO NOTHING
""")
