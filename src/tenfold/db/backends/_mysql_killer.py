"""Stopping what other connections run."""

from __future__ import annotations

import asyncio
from typing import Any

from tenfold.db.backends import _mysql_errors as errors
from tenfold.db.backends._mysql_errors import VendorError
from tenfold.db.backends._mysql_target import Target, connect

_NO_SUCH_THREAD = 1094


class Killer:
    """Stops statements from a connection of its own, made when first needed."""

    def __init__(self) -> None:
        self._conns: dict[Target, Any] = {}
        self._todo: list[tuple[Target, str]] = []
        self._task: asyncio.Task[None] | None = None
        self.kills = 0

    def kill(self, target: Target, id_: int, *, query_only: bool) -> asyncio.Task[None]:
        """Stop what connection ``id_`` runs; with all that it holds unless ``query_only``. The task never fails; it ends when
        the server has been told, or cannot be."""
        self.kills += 1
        self._todo.append((target, f"KILL {'QUERY' if query_only else 'CONNECTION'} {id_}"))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work(), name="tenfold-mysql-killer")
        return self._task

    async def _work(self) -> None:
        while self._todo:
            target, command = self._todo.pop(0)
            try:
                async with asyncio.timeout(target.connect_timeout_s):
                    await self._send(target, command)
            except (OSError, VendorError, TimeoutError):
                # A server that cannot be told finds out from the connection, which is closed from our side too.
                self._forget(target)

    async def _send(self, target: Target, command: str) -> None:
        for attempt in (1, 2):
            try:
                conn = self._conns.get(target)
                if conn is None:
                    conn = self._conns[target] = await connect(target)
                await conn.query(command)
                return
            except VendorError as error:
                if errors.number(error) == _NO_SUCH_THREAD:  # it has ended by itself
                    return
                self._forget(target)
                if attempt == 2 or not errors.is_lost(error):
                    raise

    def _forget(self, target: Target) -> None:
        conn = self._conns.pop(target, None)
        if conn is not None:
            conn.close()

    async def close(self) -> None:
        """Finish what there is to kill, then disconnect."""
        if self._task is not None:
            await asyncio.wait([self._task])
        for target in list(self._conns):
            self._forget(target)
