"""Moving the database of a running app: hold what begins, wait for what has begun, bind everything anew.

``tenfold grow`` copies the rows and speaks to this part through the operations listener. What decides is the mark in
the old database (:mod:`tenfold.db.moved`), never a message: whoever holds looks at the mark before it goes on, on
the old database while there is none, on the new one once there is. So it makes no difference who dies when.

* ``prepare``: connect to the new database beside the old one.
* ``hold``: new transactions and reads wait (requests are slow, none fails); the answer comes when none is open.
* ``resume``: look at the mark and go on. Happens by itself when the time of the hold is over.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import sqlalchemy as sa

from tenfold._core.failpoints import failpoints
from tenfold._core.resolve import backend_class
from tenfold._core.secrets import hide_passwords
from tenfold._core.tasks import end_tasks
from tenfold._core.text import plural
from tenfold.db import migrations
from tenfold.db.database import Database
from tenfold.db.gate import Gate, busy, quiet
from tenfold.db.moved import READ_MARK, Mark
from tenfold.errors import Conflict, DatabaseError, Forbidden

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import DatabaseSettings
    from tenfold.db.contract import DatabaseBackend
    from tenfold.queue.queue import Queues

log = logging.getLogger("tenfold.assembly.switch")

HOLD_MAX_S = 5.0
"""No hold is longer, whatever is asked for."""
LOOK_S = 0.5
"""Between two looks at the mark while a move is prepared and nothing is held."""

_read_mark = sa.text(READ_MARK)


class Status(msgspec.Struct, frozen=True):
    """What the process answers."""

    pid: int
    state: Literal["idle", "ready", "held", "moved"]
    database: str
    """The URL in use, without its password."""
    pause_s: float = 0.0
    """How long the last hold was."""
    waited: int = 0
    """Transactions and reads that waited in it."""


class Switch:
    """A part of a running app. ``rebound(old, new)`` is called once the databases are bound to ``new``."""

    def __init__(
        self,
        databases: Sequence[Database],
        queues: Queues,
        settings: DatabaseSettings,
        data_dir: Path,
        clock: Clock,
        rebound: Callable[[DatabaseBackend, DatabaseBackend], None],
    ) -> None:
        self._databases, self._queues, self._settings = databases, queues, settings
        self._data_dir, self._clock, self._rebound = data_dir, clock, rebound
        self._state: Literal["idle", "ready", "held", "moved"] = "idle"
        self._new: DatabaseBackend | None = None
        self._gate = Gate()
        self._held_at = self._held_until = 0.0
        self._pause_s = 0.0
        self._last: Mark | None = None
        self._bell = asyncio.Event()
        self._turn = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Nothing happens before :meth:`prepare`."""

    async def stop(self) -> None:
        """Let go of a new database that was not moved to."""
        await self._end_watch()
        async with self._turn:
            if self._state == "held":
                self._bind(self._old)
            await self._disconnect()

    @property
    def status(self) -> Status:
        url = hide_passwords(self._old.url) if self._databases else ""
        return Status(os.getpid(), self._state, url, self._pause_s, self._gate.waited)

    # ── what the mover asks for ──

    async def prepare(self, id_: str, url: str) -> Status:
        """Connect to ``url``, whose schema must be complete. Again is harmless.

        Raises Forbidden for who does not know the id in the file, the errors of connecting, and SchemaBehind.
        """
        await self._check(id_)
        async with self._turn:
            if self._state == "idle":
                self._new = await self._connect(url)
                self._state = "ready"
                self._watcher = asyncio.create_task(self._watch(), name="tenfold-switch")
        return self.status

    async def hold(self, id_: str, quiet_s: float, hold_s: float) -> Status:
        """Hold for ``hold_s`` at most, of which running transactions have ``quiet_s`` to end.

        Raises Conflict, holding nothing, when nothing is prepared or a transaction is still open then.
        """
        await self._check(id_)
        async with self._turn:
            if self._state != "ready":
                raise Conflict(f"This process cannot hold: it is {self._state}.")
            self._close_gate(min(hold_s, HOLD_MAX_S))
            if not await quiet(self._old, quiet_s):
                still = busy(self._old)
                self._reopen()
                raise Conflict(f"{plural(still, 'transaction')} did not end within {quiet_s:g} s.")
            if failpoints.on:
                failpoints.visit("switch.held")
        return self.status

    async def resume(self, id_: str) -> Status:
        """Look at the mark now, and go on: on the new database when the old one has moved."""
        mark = await self._check(id_)
        async with self._turn:
            await self._go_on(mark, over=True)
        return self.status

    async def forget(self, id_: str) -> Status:
        """The move was given up: disconnect from the new database."""
        await self._check(id_)
        await self._end_watch()
        async with self._turn:
            if self._state == "held":
                self._reopen()
            if self._state == "ready":
                await self._disconnect()
                self._state = "idle"
        return self.status

    # ── within ──

    @property
    def _old(self) -> DatabaseBackend:
        return self._databases[0].backend

    async def _check(self, id_: str) -> Mark:
        """The mark, for who knows its id: that is somebody who can read the database's file."""
        mark = await self._mark() if self._state != "moved" else self._last
        if mark is None or mark.id != id_:
            raise Forbidden(
                "There is no move of this name: this database is not the one that is being moved."
            )
        self._last = mark
        return mark

    async def _mark(self) -> Mark | None:
        reader = Database("switch", sa.MetaData())
        reader.bind(self._old)
        with suppress(DatabaseError):  # no table: nothing is being moved
            found = await reader.read().maybe(_read_mark, tuple)
            return None if found is None else Mark(*found)
        return None

    async def _connect(self, url: str) -> DatabaseBackend:
        settings = msgspec.structs.replace(self._settings, url=url)
        made: DatabaseBackend = backend_class("db", url, where="database.url").from_url(
            url, settings=settings, data_dir=self._data_dir, clock=self._clock
        )
        made.weight_of = self._old.weight_of
        await made.start()
        try:
            twins = [Database(d.name, d.metadata, migrations=d.migrations) for d in self._databases]
            for twin in twins:
                twin.bind(made)
            await migrations.prepare(twins, "check")
            await warm(twins, self._settings.pool_max)
        except BaseException:
            await made.stop()
            raise
        return made

    async def _disconnect(self) -> None:
        new, self._new = self._new, None
        if new is not None:
            await new.stop()

    def _close_gate(self, hold_s: float) -> None:
        now = self._clock.monotonic()
        self._gate, self._state = Gate(), "held"
        self._held_at, self._held_until = now, now + hold_s
        for database in self._databases:
            database.hold(self._gate)
        self._bell.set()

    def _reopen(self) -> None:
        self._bind(self._old)
        self._state = "ready"

    def _bind(self, backend: DatabaseBackend) -> None:
        for database in self._databases:
            database.bind(backend)
        self._pause_s = self._clock.monotonic() - self._held_at
        self._gate.open()

    async def _go_on(self, mark: Mark | None, *, over: bool) -> None:
        """What the mark says. ``over``: a hold without a mark ends."""
        if mark is not None and mark.moved and self._new is not None:
            await self._move(self._new)
        elif self._state == "held" and over:
            self._reopen()

    async def _move(self, new: DatabaseBackend) -> None:
        old = self._old
        if (
            self._state == "ready"
        ):  # the hold was over before the mark was made: its triggers refuse late writes
            self._close_gate(HOLD_MAX_S)
            await quiet(old, HOLD_MAX_S)
        if failpoints.on:
            failpoints.visit("switch.moving")
        self._queues.rebind(old, new)
        self._rebound(old, new)
        self._new, self._state = None, "moved"
        self._bind(new)
        log.warning(
            "the database is now %s; %d transactions and reads waited %.2f s",
            hide_passwords(new.url), self._gate.waited, self._pause_s, extra={"event": "database.moved"},
        )  # fmt: skip

    async def _watch(self) -> None:
        while self._state != "moved":
            await self._wait()
            try:
                async with self._turn:
                    if self._state in ("ready", "held"):
                        await self._go_on(
                            await self._mark(), over=self._clock.monotonic() >= self._held_until
                        )
            except Exception:
                log.exception("looking whether the database has moved failed; trying again")

    async def _wait(self) -> None:
        left_s = self._held_until - self._clock.monotonic() if self._state == "held" else LOOK_S
        self._bell.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(left_s, 0.001)):
                await self._bell.wait()

    async def _end_watch(self) -> None:
        watcher, self._watcher = self._watcher, None
        await end_tasks(watcher)


async def warm(databases: Sequence[Database], connections: int) -> None:
    """Open the connections, and let each look at every table: a server learns them anew on each connection, and all that
    has waited comes at once when the hold ends."""

    async def look() -> None:
        for database in databases:
            async with database.read(consistency="strong") as reader:
                for table in database.metadata.tables.values():
                    await reader.all(sa.select(sa.literal(1)).select_from(table).limit(0), int)

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(look())
