"""Hints: "look again", without saying at what. They save polling; what polls finds everything without them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

log = logging.getLogger("tenfold.db")

Callback = Callable[[], object]


class Hints:
    """The callbacks of one backend in this process. Used from the event loop only."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callback]] = {}
        self._given: set[str] = set()

    def on(self, topic: str, callback: Callback) -> Callable[[], None]:
        """Call ``callback()`` after hints on ``topic``; returns the function that ends this."""
        self._callbacks.setdefault(topic, []).append(callback)

        def end() -> None:
            waiting = self._callbacks.get(topic, [])
            if callback in waiting:
                waiting.remove(callback)
            if not waiting:
                self._callbacks.pop(topic, None)

        return end

    def __iter__(self) -> Iterator[tuple[str, Callback]]:
        """Every topic with each of its callbacks."""
        yield from [(topic, one) for topic, waiting in self._callbacks.items() for one in waiting]

    @property
    def topics(self) -> list[str]:
        """What somebody waits for."""
        return list(self._callbacks)

    def give(self, topic: str) -> None:
        """Call back in the loop's next round, once, however many hints are given until then."""
        if topic in self._callbacks and topic not in self._given:
            self._given.add(topic)
            asyncio.get_running_loop().call_soon(self._wake, topic)

    def give_all(self) -> None:
        """After a time in which hints may have been lost."""
        for topic in self.topics:
            self.give(topic)

    def _wake(self, topic: str) -> None:
        self._given.discard(topic)
        for callback in list(self._callbacks.get(topic, ())):
            try:
                callback()
            except Exception:
                log.exception("a function that waits for hints on %r failed; it will be called again", topic)
