"""What the relay and the intake decide: what may go on after a failure, and when it is tried again. Pure.

A *line* is what keeps its order: the events of one topic and key, or one event without a key. When an event fails,
its line is held up and nothing else; when the broker fails, everything is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from tenfold._core.backoff import full_jitter_s

if TYPE_CHECKING:
    import random

    from tenfold.events.contract import Outgoing

RETRY_FIRST_S = 0.1
"""Bound of the first pause after a failure; it doubles with each further one."""
LINES_HELD_MAX = 100
"""Lines of one topic that are held up one by one; with more of them, the topic is held up as a whole."""


class Keyed(Protocol):
    """What has a place in a line."""

    @property
    def topic(self) -> str: ...

    @property
    def key(self) -> str | None: ...


class Stored(Keyed, Protocol):
    """A row of the outbox."""

    @property
    def id(self) -> int: ...


S = TypeVar("S", bound=Stored)


def line_of(row: Stored) -> str:
    """The name of a row's line. No topic has a slash, or begins with ``#``."""
    return f"#{row.id}" if row.key is None else f"{row.topic}/{row.key}"


class Around(NamedTuple):
    """What the next batch leaves out."""

    topics: list[str]
    lines: list[str]


@dataclass(slots=True)
class _Hold:
    topic: str
    failures: int
    until: float
    alone: bool = False
    """It may be what the broker broke off for: it is published by itself."""


class Holds:
    """The lines that are held up, in the memory of who publishes: a new leader learns of them by trying once."""

    def __init__(self, retry_max_s: float, random: random.Random) -> None:
        self._retry_max_s, self._random = retry_max_s, random
        self._lines: dict[str, _Hold] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def failed(self, rows: Iterable[Stored], now: float) -> None:
        """The first of a line that failed counts; those behind it were not tried."""
        for line, row in _heads(rows).items():
            hold = self._lines.setdefault(line, _Hold(row.topic, 0, now))
            hold.failures += 1
            pause_s = full_jitter_s(
                hold.failures, self._random, base_s=RETRY_FIRST_S, most_s=self._retry_max_s
            )
            hold.until = now + pause_s

    def suspect(self, row: Stored, now: float) -> None:
        """The broker broke off when the row was published by itself: it may be away, or may not stand this row. Others
        are tried first; once it is back, this one is again."""
        hold = self._lines.setdefault(line_of(row), _Hold(row.topic, 0, now))
        hold.alone, hold.until = True, now + self._retry_max_s

    def suspects(self, row: Stored) -> bool:
        """Whether the row is published by itself."""
        hold = self._lines.get(line_of(row))
        return hold is not None and hold.alone

    def back(self, now: float) -> None:
        """The broker is there: suspects are tried at once."""
        for hold in self._lines.values():
            if hold.alone and not hold.failures:
                hold.until = now

    def batch(self, rows: Sequence[S]) -> Sequence[S]:
        """Those of ``rows``, from the first on, that may be published together."""
        first = next((n for n, row in enumerate(rows) if self.suspects(row)), None) if self._lines else None
        return rows if first is None else rows[: first or 1]

    def gone(self, rows: Iterable[Stored], now: float) -> None:
        """``rows`` are all that is unsent and not held: forget the lines that are due and not among them."""
        if self._lines:
            there = set(map(line_of, rows))
            self._lines = {n: hold for n, hold in self._lines.items() if hold.until > now or n in there}

    def published(self, rows: Iterable[Stored]) -> None:
        """Their lines are free again."""
        if self._lines:
            for row in rows:
                self._lines.pop(line_of(row), None)

    def around(self, now: float) -> Around:
        """What is not to be tried now."""
        held = {line: hold.topic for line, hold in self._lines.items() if hold.until > now}
        many = {topic for topic, count in Counter(held.values()).items() if count > LINES_HELD_MAX}
        return Around(sorted(many), [line for line, topic in held.items() if topic not in many])

    def next_at(self) -> float | None:
        """When the first of them is to be tried again."""
        return min((hold.until for hold in self._lines.values()), default=None)


def _heads(rows: Iterable[Stored]) -> dict[str, Stored]:
    heads: dict[str, Stored] = {}
    for row in rows:
        heads.setdefault(line_of(row), row)
    return heads


def refuse_large(events: Sequence[Outgoing], most_bytes: int) -> dict[int, str]:
    """Positions of the events that a broker would not take for their size, and of those that follow one in its key:
    each with a sentence."""
    failed = {
        n: f"event {event.event_id} of {event.topic} has {len(event.body):,} bytes; the broker takes {most_bytes:,} at most"
        for n, event in enumerate(events)
        if len(event.body) > most_bytes
    }
    return failed | behind(events, failed)


def behind(events: Sequence[Keyed], failed: Iterable[int]) -> dict[int, str]:
    """Positions of the events that must not be published because one before them in their key failed."""
    first: dict[tuple[str, str], int] = {}
    for n in sorted(failed, reverse=True):
        if (key := events[n].key) is not None:
            first[events[n].topic, key] = n
    if not first:
        return {}
    return {
        n: "it waits behind an event of its key that was not published"
        for n, event in enumerate(events)
        if event.key is not None and first.get((event.topic, event.key), n) < n
    }


@dataclass(slots=True)
class Failures:
    """Failures in a row of something that is tried again as a whole."""

    most_s: float
    random: random.Random
    count: int = 0

    def pause_s(self) -> float:
        """It failed once more: how long to wait."""
        self.count += 1
        return full_jitter_s(self.count, self.random, base_s=RETRY_FIRST_S, most_s=self.most_s)

    def over(self) -> bool:
        """It worked; answers whether it had failed before."""
        was, self.count = self.count, 0
        return was > 0
