"""What instances answer to whether they are ready. Nobody waits for one that does not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from tenfold._core.tasks import end_tasks

if TYPE_CHECKING:
    from tenfold._core.clock import Clock

TIMEOUT_S: Final = 2.5
"""Longer than a health check may take."""

_ASKED: Final = b"GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


class Answer(NamedTuple):
    """``ready`` is None where nothing was answered."""

    ready: bool | None


class Answers:
    """One question at a time to each instance, and its last answer until it is taken."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[bool | None]] = {}
        self._asked_at: dict[str, float] = {}

    def ask(self, name: str, ops_port: int, every_s: float) -> None:
        """Ask, unless that was done less than ``every_s`` seconds ago or the last question is open."""
        now = self._clock.monotonic()
        if name not in self._tasks and now - self._asked_at.get(name, float("-inf")) >= every_s:
            self._asked_at[name] = now
            self._tasks[name] = asyncio.create_task(is_ready(ops_port), name=f"tenfold asks {name}")

    def take(self, name: str) -> Answer | None:
        """What was answered since the last call; None when nothing is known yet."""
        task = self._tasks.get(name)
        if task is None or not task.done():
            return None
        del self._tasks[name]
        return Answer(task.result())

    def forget(self, name: str) -> None:
        """Its process is gone: an answer would be that of another."""
        self._asked_at.pop(name, None)
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()

    async def stop(self) -> None:
        await end_tasks(*self._tasks.values())


async def is_ready(ops_port: int) -> bool | None:
    """Whether the process whose operations listener has this port says that it is ready; None where it says nothing."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", ops_port)
            writer.write(_ASKED)
            line = await reader.readline()
    except (OSError, ValueError):
        return None
    finally:
        if writer is not None:
            writer.close()
    return line.split(b" ")[1:2] == [b"200"] if line.startswith(b"HTTP/") else None
