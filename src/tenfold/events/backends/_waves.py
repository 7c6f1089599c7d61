"""In which rounds events are published to a broker that may take one and refuse the next. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tenfold.events.policy import Keyed


def waves(events: Sequence[Keyed], positions: Iterable[int]) -> list[list[int]]:
    """Rounds of positions, no key twice in one: when the first of a key fails, the next has not been sent. A batch of
    many keys takes few rounds; one of a single key takes as many as it has events."""
    rounds: list[list[int]] = []
    taken: dict[tuple[str, str], int] = {}
    for n in positions:
        event = events[n]
        turn = 0
        if event.key is not None:
            line = (event.topic, event.key)
            turn = taken.get(line, -1) + 1
            taken[line] = turn
        while len(rounds) <= turn:
            rounds.append([])
        rounds[turn].append(n)
    return rounds
