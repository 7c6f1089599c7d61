"""Calls between those who change a queue and those who work on it: hints that there is something to look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenfold.db.contract import DatabaseBackend

Listener = Callable[[], None]


class Calls:
    """The calls of one ``topic`` over one database: heard in this process at once, in others where the database gives
    hints (see :meth:`~tenfold.db.contract.DatabaseBackend.hint`). They may be lost, so whoever listens looks by itself
    from time to time too."""

    def __init__(self, topic: str, database: Callable[[], DatabaseBackend]) -> None:
        self._topic = topic
        self._database = database
        self._listeners: list[Listener] = []
        self._end_hints: Listener | None = None

    def listen(self, listener: Listener) -> Listener:
        """Call ``listener`` after each call; returns the function that ends this."""
        self._listeners.append(listener)
        if self._end_hints is None:
            self._end_hints = self._database().on_hint(self._topic, self._tell)

        def end() -> None:
            self._listeners.remove(listener)
            if not self._listeners and self._end_hints is not None:
                self._end_hints()
                self._end_hints = None

        return end

    def moved(self, database: DatabaseBackend) -> None:
        """The queue goes on in ``database``: listen to its hints."""
        if self._end_hints is not None:
            self._end_hints()
            self._end_hints = database.on_hint(self._topic, self._tell)

    def give(self, *, far: bool = True) -> None:
        """Call, other processes too unless ``far`` is False. Not inside a transaction: what is not committed is not
        there."""
        database = self._database()
        if database.capabilities.listen:
            database.hint(self._topic, far=far)  # heard here too; told twice, a worker would look twice
        else:
            self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
