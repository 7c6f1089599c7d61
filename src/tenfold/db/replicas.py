"""Reads on copies of the database, without going back behind what the caller has written.

A :class:`Replicas` stands beside the backend of a database; writes go past it, and only tell it how far the primary
had come when they were committed. That position travels in ``Context.causal`` (see :mod:`tenfold._core.causal`), so
that whoever is to see the write asks a copy that has it, or the primary.

What it promises, besides what the backend does: a read with ``consistency="own"`` sees every write that was
acknowledged in its context before, or in one that its context follows from (an earlier request of the client, the
caller, the sender of the event or job). A copy that does not answer costs a read some time, never an error: it is
repeated on another node, as long as nothing of its result was handed out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from tenfold._core.causal import BEYOND, ORIGIN, Position, position_of, raised
from tenfold._core.context import _current as context_var
from tenfold._core.tasks import end_tasks
from tenfold.db import routing
from tenfold.db._replica_node import Node, NodeLost
from tenfold.db._replica_read import Routed
from tenfold.errors import (
    ConfigError,
    DatabaseError,
    DatabaseUnavailable,
    PoolExhausted,
    SerializationFailure,
    StatementError,
)

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import DatabaseSettings
    from tenfold.db.contract import DatabaseBackend
    from tenfold.db.watch import Look

HISTORY_S: Final = 300.0
"""A copy that is further behind serves nobody, whatever age a read allows."""

WHERE: Final = "database.replicas"


class Replicas:
    """The copies of one database. A part: ``await start()`` after the primary's backend, ``await stop()`` before.

    ``make(url)`` is the backend of a copy; it connects to nothing yet.
    """

    def __init__(
        self,
        primary: DatabaseBackend,
        settings: DatabaseSettings,
        clock: Clock,
        make: Callable[[str], DatabaseBackend],
    ) -> None:
        if not primary.capabilities.replicas:
            raise ConfigError(
                f"a database at {primary.url.partition(':')[0]}: has no replicas.", where=WHERE,
                remedy="Take the setting away, or move to PostgreSQL.",
            )  # fmt: skip
        self.primary = primary
        self.cluster = ""
        self.floor: Position = ORIGIN
        """Every read needs it: where the primary was at the start, and what was written outside of any context."""
        self.repeated = 0
        """Reads that began on a copy and were answered by another node."""
        self.on_primary = 0
        """Reads that no copy was fit for."""
        self._settings = settings
        self._clock = clock
        self._make = make
        self._started_at: Position = ORIGIN
        self._floor_lost_at = float("inf")
        self._paused = 0
        self._history = routing.History(HISTORY_S)
        self._primary_seen_at = routing.NEVER
        self._watched = Node("the primary", primary, clock, self._primary_seen, started=True)
        self.nodes: list[Node] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._news: asyncio.Future[None] | None = None
        self.own = Routed(self, None)

    # ── life ──

    async def start(self) -> None:
        """Look at every node. Raises ConfigError for one that is no copy of this primary; one that does not answer is
        waited for in the background."""
        self.primary.track_positions = True
        self.nodes = [self._node(index, url) for index, url in enumerate(self._settings.replicas)]
        began = self._clock.monotonic()
        look = await self._watched.look()
        self.cluster = look.cluster
        self.floor = self._started_at = look.position
        self._primary_seen(self._watched, look, began)
        try:
            for index, node in enumerate(self.nodes):
                await self._open(f"{WHERE}[{index}]", node)
        except BaseException:
            await self.stop()
            raise
        self._tasks = [asyncio.create_task(n.keep_looking()) for n in (self._watched, *self.nodes)]

    async def stop(self) -> None:
        """Disconnect from the copies."""
        await end_tasks(*self._tasks)
        self._tasks.clear()
        self.primary.track_positions = False
        await self._watched.stop()
        for node in self.nodes:
            await node.stop()

    def _node(self, index: int, url: str) -> Node:
        try:
            backend = self._make(url)
        except ConfigError as error:
            raise ConfigError(error.what, where=f"{WHERE}[{index}]", remedy=error.remedy) from error
        if type(backend) is not type(self.primary):
            raise ConfigError(
                f"a database at {backend.url.partition(':')[0]}: is no replica of one at "
                f"{self.primary.url.partition(':')[0]}:.",
                where=f"{WHERE}[{index}]", remedy="Name standbys of the server at database.url.",
            )  # fmt: skip
        backend.copy = True
        name = f"replica {index} ({backend.address})"
        return Node(name, backend, self._clock, self._replica_seen)

    async def _open(self, where: str, node: Node) -> None:
        try:
            began = self._clock.monotonic()
            look = await node.look()
        except DatabaseUnavailable as error:
            node.down(str(error))
            return
        except ConfigError as error:
            raise ConfigError(error.what, where=where, remedy=error.remedy) from error
        if wrong := self._wrong(node, look):
            raise ConfigError(wrong[0], where=where, remedy=wrong[1])
        self._replica_seen(node, look, began)

    def _wrong(self, node: Node, look: Look) -> tuple[str, str] | None:
        """Why a node can be no copy of the primary, and what to do about it."""
        at = node.backend.address
        if look.cluster != self.cluster:
            return f"{at} is a copy of another database than database.url.", "Name a standby of that primary."
        if not look.copy and not _hosts(node.backend) <= _hosts(self.primary, several=True):
            return (
                f"{at} is a primary, not a replica.",
                "Name a standby of the primary at database.url. Where nodes change roles, name all of them in "
                "database.url as well (postgresql://a:5432,b:5432/name): each is used as what it is.",
            )
        return None

    # ── what the looks find ──

    def _primary_seen(self, node: Node, look: Look, began: float) -> None:
        if look.copy or look.cluster != self.cluster:
            return  # a demoted one, or a restored one: writes will say so
        if began > self._floor_lost_at:
            self.floor, self._floor_lost_at = look.position, float("inf")
        self._primary_seen_at = began
        self._history.note(began, look.position)

    def _replica_seen(self, node: Node, look: Look, began: float) -> None:
        if look.cluster != self.cluster:
            node.down("it is a copy of another database than database.url.")
        elif not look.copy:
            node.down("it is a primary now.")
        else:
            node.good(look.position, self._history.as_of(look.position))
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        if self._news is not None:
            self._news.set_result(None)
            self._news = None

    # ── choosing ──

    def aged(self, age_s: float) -> Routed:
        """Where reads go that are content with data of that age."""
        return Routed(self, age_s)

    async def choose(self, age_s: float | None, tried: Collection[Node] = ()) -> Node | None:
        """A copy that a read of the current context may go to; None: the primary."""
        if self._paused:
            return None
        position = self._started_at if age_s is not None else self._needed()
        if position == BEYOND:
            return None
        node = self._choose(position, age_s, tried)
        if node is None and not tried:
            node = await self._wait_for(position, age_s)
        if node is None:
            self.on_primary += 1
        return node

    def _needed(self) -> Position:
        context = context_var.get()
        if context is None or not context.causal:
            return self.floor
        return max(self.floor, position_of(context.causal, self.cluster))

    def _choose(self, position: Position, age_s: float | None, tried: Collection[Node]) -> Node | None:
        now = self._clock.monotonic()
        if age_s is None:
            as_of = routing.oldest_allowed(now, self._primary_seen_at, self._settings.lag_max_s)
        else:
            as_of = now - age_s
        return routing.choose(self.nodes, position, as_of, now, self._clock.random, tried)

    async def _wait_for(self, position: Position, age_s: float | None) -> Node | None:
        """Have the next looks come soon; and wait for one that helps, where that is configured."""
        self._want_news()
        if not self._settings.replica_wait_s or not any(node.up for node in self.nodes):
            return None
        try:
            async with asyncio.timeout(self._settings.replica_wait_s):
                while True:
                    if self._news is None:
                        self._news = asyncio.get_running_loop().create_future()
                    await asyncio.shield(self._news)
                    if (found := self._choose(position, age_s, ())) is not None:
                        return found
                    self._want_news()
        except TimeoutError:
            return None

    def _want_news(self) -> None:
        for node in (self._watched, *self.nodes):
            node.want_news()

    def blamed(self, node: Node, error: DatabaseError) -> Sequence[Node]:
        """The nodes that a read which failed on ``node`` is not to be tried on again. Raises the error when it would
        be the same anywhere."""
        if isinstance(error, PoolExhausted):
            raise error  # the copies are busy: sending their reads to the primary would only take that down as well
        if isinstance(error, DatabaseUnavailable):
            self.repeated += 1
            if not isinstance(error, NodeLost):  # which the looks have found out, and will find the end of
                node.failed()
            return (node,)
        if isinstance(error, SerializationFailure | StatementError):
            # The copy had to remove rows that the statement was to see, does not know a new table yet, or may not run
            # a function that writes: all of which the primary can do.
            self.repeated += 1
            return self.nodes
        raise error

    # ── writes ──

    def committed(self, position: Position | None) -> None:
        """A transaction has committed; None: it has changed nothing."""
        if position is None:
            return
        context = context_var.get()
        if context is None or not (context.operation or context.request_id):
            # Nobody's work that another could follow from: everything in this process does.
            self._raise_floor(position)
        else:
            context.causal = raised(context.causal, self.cluster, position)

    def _raise_floor(self, position: Position) -> None:
        if position == BEYOND:  # until the next look at the primary tells where that can be at most
            self._floor_lost_at = self._clock.monotonic()
        self.floor = max(self.floor, position)

    async def catch_up(self) -> None:
        """Let what the current context reads from now on contain everything that is committed now."""
        try:
            look = await self._watched.look()
        except (DatabaseError, ConfigError):
            self.committed(BEYOND)
        else:
            self.committed(look.position)

    def pause(self) -> Callable[[], None]:
        """Read from the primary only, until the function that is returned is called."""
        self._paused += 1

        def go_on() -> None:
            self._paused -= 1

        return go_on

    # ── numbers ──

    def stats(self) -> Mapping[str, int | float]:
        """Counters since the start."""
        return {"repeated_total": self.repeated, "on_primary_total": self.on_primary}

    def stats_of(self, node: Node) -> Mapping[str, int | float]:
        """Counters and gauges of one copy. ``lag_s``: how old what it shows is, at most."""
        lag_s = self._clock.monotonic() - node.as_of if node.up else HISTORY_S
        return {
            "up": int(node.up), "lag_s": min(lag_s, HISTORY_S), "in_flight": node.in_flight,
            "reads_total": node.reads, "failures_total": node.failures,
        }  # fmt: skip


def _hosts(backend: DatabaseBackend, *, several: bool = False) -> set[str]:
    """The hosts of a backend's address; with ``several`` none when it names only one."""
    hosts = set(backend.address.partition("/")[0].split(","))
    return set() if several and len(hosts) == 1 else hosts
