"""Answers wait for each other: those of requests that began in one turn of the event loop are sent one after another.

An interpreter's code does not fit into the first cache of a processor, so the same thing done to many requests is cheaper
than many things done to each. The event loop reads what has come to all connections before it runs any of their tasks, and
writes to the sockets after that; what stands between, an answer's bytes, is made here for all of them. Measured, a small
request takes a tenth less CPU so, and a sixth less with everything on that a service in production has.

Nobody waits for longer than without: the loop writes to the sockets at the end of its turn in any case. Where the last of
those that begin has to wait for something, the others are sent before the next ones begin.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenfold.http.reply import Answer
    from tenfold.runtime.exchange import Exchange


class Outbox:
    """One for all connections of an app. Used on one event loop."""

    __slots__ = ("_ready", "beginning")

    def __init__(self) -> None:
        self.beginning = 0
        """Requests whose tasks have been made and have not run yet."""
        self._ready: list[tuple[Exchange, Answer]] = []

    def begin(self) -> None:
        """One more begins; it says so itself when it runs, by counting :attr:`beginning` down."""
        self.beginning += 1
        if self._ready:
            self.send()

    def put(self, exchange: Exchange, answer: Answer) -> None:
        """Send an answer, with the others of this turn if some are still to come. Raises what sending it raises."""
        if self.beginning:
            self._ready.append((exchange, answer))
            if len(self._ready) == 1:  # for the case that the last of them does not come here in this turn
                asyncio.get_running_loop().call_soon(self.send)
            return
        if self._ready:
            self.send()
        exchange.finish(answer)

    def send(self) -> None:
        """Send all that wait."""
        ready, self._ready = self._ready, []
        for exchange, answer in ready:
            exchange.finish_or_fail(answer)
