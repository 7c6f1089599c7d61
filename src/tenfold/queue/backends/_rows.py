"""What the SQL backends of the queue share: rows of settlements as statements take them, lines, and matching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tenfold.queue.contract import Keep, Stored
from tenfold.queue.message import Message, NewMessage, Settlement

FINISHING = frozenset({"done", "dead", "cancelled"})
"""Verdicts after which a message goes into the archive."""

SUPERSEDED = "superseded by a newer message with the same unique key"

STATE_BY_TIME = "CASE WHEN run_at <= :now OR run_at <= created_at THEN 'ready' ELSE 'delayed' END"
"""SQL: what becomes of a message that need not wait for others any more. What was to run at once does, whatever the clock of
its sender said: one that is ahead must not hold up the line."""

_STATE_AFTER = {"retry": "delayed", "wait": "delayed", "park": "parked", "release": "ready", "crash": "ready"}


def line_up(rows: Sequence[NewMessage]) -> list[str]:
    """Let the second and later messages of a key wait (INSERT … SELECT does not see its own rows); answers
    the keys."""
    seen: dict[str, None] = {}
    for row in rows:
        if row.order_key is not None:
            if row.order_key in seen:
                row.state = "waiting"
            seen[row.order_key] = None
    return list(seen)


def match(
    rows: Sequence[NewMessage], inserted: Sequence[tuple[int, str | None]], pending: Mapping[str, int]
) -> list[Stored | None]:
    """Where each row went. ``inserted`` has ids and unique keys, by id: ids rise in the order of the rows, and
    only rows with a unique key can be missing. Those are in ``pending``, else the answer has None."""
    left = iter([*inserted, (0, None)])
    next_id, next_key = next(left)
    stored: list[Stored | None] = []
    for row in rows:
        if row.unique_key is None or row.unique_key == next_key:
            stored.append(Stored(next_id, existed=False))
            next_id, next_key = next(left)
        elif row.unique_key in pending:
            stored.append(Stored(pending[row.unique_key], existed=True))
        else:
            stored.append(None)
    return stored


def by_priority(message: Message) -> tuple[int, int]:
    """The order of a claim; RETURNING promises none."""
    return message.priority, message.id


def finished(s: Settlement, now: float, keep: Keep) -> tuple[Any, ...]:
    """A settlement that ends the message: id, fence, state, failures, crashes, progress, error, result,
    result_until, expires_at."""
    expires_at = max(now + keep.seconds(s.queue, s.verdict), s.result_until or 0.0)
    return (
        s.id, s.fence, s.verdict, s.failures, s.crashes, s.progress, s.error, s.result, s.result_until, expires_at
    )  # fmt: skip


def returned(s: Settlement, now: float) -> tuple[Any, ...]:
    """A settlement that gives the message back: id, fence, state, run_at, failures, crashes, error, progress,
    suspect, lane."""
    run_at = s.run_at if s.verdict in ("retry", "wait") else None
    state = "ready" if run_at is not None and run_at <= now else _STATE_AFTER[s.verdict]
    return (s.id, s.fence, state, run_at, s.failures, s.crashes, s.error, s.progress, s.suspect, s.lane)


def split(
    settlements: Sequence[Settlement], now: float, keep: Keep
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """The rows of :func:`finished` and of :func:`returned`."""
    ended = [finished(s, now, keep) for s in settlements if s.verdict in FINISHING]
    back = [returned(s, now) for s in settlements if s.verdict not in FINISHING]
    return ended, back


def superseded(rows: Sequence[tuple[int, int]]) -> list[Settlement]:
    """``rows`` are id and fence of messages that must not run beside a newer one with their unique key."""
    return [Settlement(id_, fence, "cancelled", error=SUPERSEDED) for id_, fence in rows]
