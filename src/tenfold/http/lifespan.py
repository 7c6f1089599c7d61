"""The lifespan of an ASGI application that is mounted: whoever mounts it has to start and stop it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tenfold._core.tasks import end_tasks
from tenfold.errors import ConfigError

log = logging.getLogger("tenfold.http")

Message = MutableMapping[str, Any]

END_S = 1.0
"""How long an application that has said that it stopped may take to return."""


class Lifespan:
    """Runs one application's ASGI lifespan; an application that knows none is left alone.

    The lifespan lives in a task of its own, so that context managers in it are entered and left by the same task.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], where: str) -> None:
        self._app = app
        self._where = where
        self._task: asyncio.Task[None] | None = None
        self._asked: asyncio.Queue[Message]
        self._told: asyncio.Queue[Message]
        self.state: dict[str, Any] = {}
        """What the application's lifespan left for its requests."""

    async def start(self) -> None:
        """Returns when the application has started. Raises ConfigError with the reason when it cannot."""
        if self._task is not None:
            return
        self._asked, self._told, self.state = asyncio.Queue(), asyncio.Queue(), {}
        self._task = asyncio.create_task(self._run(), name=f"tenfold {self._where}")
        self._asked.put_nowait({"type": "lifespan.startup"})
        answer = await self._told.get()
        if answer["type"] == "lifespan.startup.failed":
            await self._end()
            said: list[str] = str(answer.get("message", "")).strip().splitlines()
            raise ConfigError(
                f"the application there does not start: {said[-1] if said else 'it gives no reason'}",
                where=self._where,
            )

    async def stop(self) -> None:
        """Returns when the application has stopped; what goes wrong is logged. Again is harmless."""
        if self._task is not None and not self._task.done():
            self._asked.put_nowait({"type": "lifespan.shutdown"})
            answer = await self._told.get()
            if answer["type"] == "lifespan.shutdown.failed":
                log.error("%s did not stop well: %s", self._where, answer.get("message", ""))
        await self._end()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._asked.get, self._told.put)
        except Exception as error:
            # By the specification this means that the application has no lifespan.
            log.debug("%s has no lifespan: %r", self._where, error)
        finally:
            self._told.put_nowait({"type": "lifespan.ended"})  # nobody waits for an application that is gone

    async def _end(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait([task], timeout=END_S)
            await end_tasks(task)
