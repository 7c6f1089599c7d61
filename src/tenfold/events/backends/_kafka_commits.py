"""Committing a consumer's positions behind its back: one commit for many acknowledgements."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from aiokafka.errors import CommitFailedError, IllegalStateError  # type: ignore[import-untyped]
from aiokafka.structs import TopicPartition  # type: ignore[import-untyped]

from tenfold._core.tasks import end_tasks

if TYPE_CHECKING:
    from tenfold._core.clock import Clock

COMMIT_EVERY_S = 0.1
"""A commit is a round trip to the server that keeps the group, several times as long as a fetch: a consumer that waited
for it after each batch would spend most of its time there. What a crash takes away of this is delivered again."""

Positions = Mapping[TopicPartition, int]
"""By partition, the offset of what is to be handed out next."""


class KafkaCommits:
    """Positions are noted at once and committed within :data:`COMMIT_EVERY_S`, one commit at a time, so that none moves a
    position back. ``commit`` calls the server; what it raises, the next :meth:`note` or :meth:`check` does.
    """

    def __init__(self, commit: Callable[[Positions], Awaitable[None]], clock: Clock) -> None:
        self._commit, self._clock = commit, clock
        self._noted: dict[TopicPartition, int] = {}
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._failed: Exception | None = None

    def note(self, positions: Positions) -> None:
        """Commit them soon."""
        self.check()
        self._noted |= positions
        if self._noted and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="tenfold-kafka-commits")

    def check(self) -> None:
        """Raise what a commit has raised, usually a KafkaError, OSError or TimeoutError."""
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    async def flush(self) -> None:
        """Commit now what is noted; returns once no commit is under way. Raises like :meth:`check`."""
        async with self._turn:
            while self._noted:
                positions, self._noted = self._noted, {}
                try:
                    await self._commit(positions)
                except (CommitFailedError, IllegalStateError):
                    continue  # taken away in this very moment: it comes again, to whoever has it now

    def forget(self) -> None:
        """The partitions belong to others: what is noted is not committed any more."""
        self._noted.clear()

    async def close(self) -> None:
        """Commit what is noted, and nothing later. Raises like :meth:`check`."""
        try:
            await self.flush()
        finally:
            await end_tasks(self._task)

    async def _run(self) -> None:
        while self._noted:
            await self._clock.sleep(COMMIT_EVERY_S)
            try:
                await self.flush()
            except Exception as error:
                self._failed = error
                return
