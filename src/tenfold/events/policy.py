"""What the relay and the intake decide: what may go on after a failure, and when it is tried again. Pure.

A *line* is what keeps its order: the events of one topic and key, or one event without a key. When an event fails,
its line is held up and nothing else; when the broker fails, everything is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from tenfold.events.contract import Outgoing

RETRY_FIRST_S = 0.1
"""Bound of the first pause after a failure; it doubles with each further one."""


def backoff_s(failures: int, most_s: float, random: random.Random) -> float:
    """The pause after so many failures in a row (1, 2, …): uniform below a bound that doubles (*full jitter*: Brooker,
    *Exponential Backoff and Jitter*, 2015), so that many who failed together do not come back together."""
    bound = min(most_s, RETRY_FIRST_S * 2.0 ** min(failures - 1, 32))
    return random.uniform(0.0, bound)


def refuse_large(events: Sequence[Outgoing], most_bytes: int) -> dict[int, str]:
    """Positions of the events that a broker would not take for their size, and of those that follow one in its key:
    each with a sentence."""
    failed = {
        n: f"event {event.event_id} of {event.topic} has {len(event.body):,} bytes; the broker takes {most_bytes:,} at most"
        for n, event in enumerate(events)
        if len(event.body) > most_bytes
    }
    return failed | behind(events, failed)


def behind(events: Sequence[Outgoing], failed: Iterable[int]) -> dict[int, str]:
    """Positions of the events that must not be published because one before them in their key failed."""
    first: dict[tuple[str, str], int] = {}
    for n in sorted(failed, reverse=True):
        if (key := events[n].key) is not None:
            first[events[n].topic, key] = n
    if not first:
        return {}
    return {
        n: f"it follows event {events[head].event_id} of its key, which failed"
        for n, event in enumerate(events)
        if event.key is not None and (head := first.get((event.topic, event.key), n)) < n
    }
