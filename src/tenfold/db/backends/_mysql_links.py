"""The connections of one backend: made to a server that takes writes, begun, committed, given back.

:class:`Links` has a pool of them. :class:`OneLink` stands in for it inside a sandbox: every transaction is a savepoint
of one that is rolled back at the end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tenfold._core.failpoints import failpoints
from tenfold._core.fairness import WeightOf
from tenfold.db.backends._mysql_errors import VendorError, refused_at_start
from tenfold.db.backends._mysql_killer import Killer
from tenfold.db.backends._mysql_link import Link
from tenfold.db.backends._mysql_target import Target
from tenfold.db.backends._pool import Pool
from tenfold.errors import (
    ConfigError,
    DatabaseError,
    DatabaseUnavailable,
    OutcomeUnknown,
    SerializationFailure,
    StatementTimeout,
)

if TYPE_CHECKING:
    from tenfold._core.sections import DatabaseSettings
    from tenfold.db.backends._time import Time

log = logging.getLogger("tenfold.db")

R = TypeVar("R")

MARIADB_MIN = (10, 6)
MYSQL_MIN = (8, 0, 17)
_WRITABLE = "SELECT @@global.read_only"


@dataclass
class Counters:
    """What a backend counts."""

    transactions: int = 0
    rolled_back: int = 0
    statements_retried: int = 0
    failovers: int = 0


class TxLinks(Protocol):
    """What a transaction needs to know of the connections."""

    time: Time

    async def begun(self, *before: str) -> Link:
        """A connection with a transaction that was begun by the statements ``before``."""
        ...

    async def commit(self, link: Link) -> None: ...

    async def roll_back(self, link: Link) -> None: ...

    def give(self, link: Link) -> None:
        """The transaction is over."""
        ...


class Links:
    """See the module's docstring."""

    def __init__(
        self,
        targets: Sequence[Target],
        settings: DatabaseSettings,
        time: Time,
        weight_of: WeightOf | None = None,
    ) -> None:
        self.time = time
        self.counters = Counters()
        self.killer = Killer()
        self._targets = list(targets)
        self.pool: Pool[Link] = Pool(
            self.connect,
            size=settings.pool_max,
            wait_s=settings.pool_wait_s,
            time=time,
            weight_of=weight_of,
        )

    @property
    def target(self) -> Target:
        """Where the database was found last."""
        return self._targets[0]

    async def connect(self) -> Link:
        """A connection to the first host that takes writes; to one that only reads when there is no other.

        Raises ConfigError for what is wrong with the URL or the server, DatabaseUnavailable when none answers.
        """
        errors: list[ConfigError | DatabaseUnavailable] = []
        readable: Link | None = None
        for target in list(self._targets):
            try:
                link = await self._open(target)
            except (ConfigError, DatabaseUnavailable) as error:
                errors.append(error)
                continue
            if len(self._targets) == 1 or await _takes_writes(link):
                if readable is not None:
                    await readable.close()
                self._prefer(target)
                return link
            if readable is None:
                readable = link
            else:
                await link.close()
        if readable is not None:
            return readable
        raise next((e for e in errors if isinstance(e, ConfigError)), errors[-1])

    async def _open(self, target: Target) -> Link:
        try:
            link = await Link.open(target, self.killer)
        except (VendorError, OSError, TimeoutError) as error:
            raise _named(refused_at_start(error), target) from error
        try:
            _check_version(link)
        except ConfigError:
            await link.close()
            raise
        return link

    def _prefer(self, target: Target) -> None:
        """Ask the host first that answered last."""
        if self._targets[0] is not target:
            self._targets.remove(target)
            self._targets.insert(0, target)
            self.counters.failovers += 1
            log.warning("the database is at %s now", target.address)

    # ── for readers ──

    async def read(self, work: Callable[[Link], Awaitable[R]]) -> R:
        """``work(link)``; again on another connection when the server had closed the one that was idle."""
        while True:
            link = await self.pool.take()
            stale = link.used
            try:
                return await work(link)
            except DatabaseUnavailable:
                if not (stale and link.doubtful):
                    raise
                self.counters.statements_retried += 1
            finally:
                self.give(link)

    # ── for transactions ──

    async def begun(self, *before: str) -> Link:
        while True:
            link = await self.pool.take()
            stale = link.used
            try:
                for statement in before:
                    await link.command(statement, self.time.statement_s())
                return link
            except BaseException as error:
                link.doubtful = True
                self.give(link)
                if not (stale and isinstance(error, DatabaseUnavailable)):
                    raise
                self.counters.statements_retried += 1

    async def commit(self, link: Link) -> None:
        try:
            if failpoints.on:
                failpoints.visit("db.commit.before")
            # As long as a statement without a deadline: to give up here is not to know.
            await link.command("COMMIT", self.time.statement_timeout_s)
            if failpoints.on:
                failpoints.visit("db.commit.after")
        except SerializationFailure:
            raise
        except (DatabaseUnavailable, StatementTimeout) as error:
            link.doubtful = True
            raise OutcomeUnknown(
                f"the connection broke at COMMIT ({error}): the transaction may or may not have happened."
            ) from error
        except BaseException:
            link.doubtful = True
            raise
        self.counters.transactions += 1

    async def roll_back(self, link: Link) -> None:
        self.counters.rolled_back += 1
        await link.command("ROLLBACK", self.time.statement_timeout_s)

    def give(self, link: Link) -> None:
        """Take a connection back. When its server takes no writes any more, all of them are replaced."""
        if link.read_only:
            link.doubtful = True
            if len(self._targets) > 1:
                self._targets.append(self._targets.pop(0))
            self.pool.flush()
        self.pool.give(link)

    async def close(self) -> None:
        """Let work end, then disconnect."""
        await self.pool.close()
        await self.killer.close()


class OneLink:
    """One connection whose transaction is never committed. Transactions on it run one after another."""

    def __init__(self, link: Link, time: Time) -> None:
        self.time = time
        self.link = link
        self._turn = asyncio.Lock()

    async def begun(self, *before: str) -> Link:
        try:
            async with asyncio.timeout(self.time.lock_s()):
                await self._turn.acquire()
        except TimeoutError:
            raise DatabaseUnavailable(
                "in a sandbox transactions run one after another, and the one before did not end in time."
            ) from None
        try:
            await self.link.command("SAVEPOINT sandbox", self.time.statement_s())
        except BaseException:
            self._turn.release()
            raise
        return self.link

    async def commit(self, link: Link) -> None:
        await link.command("RELEASE SAVEPOINT sandbox", self.time.statement_timeout_s)

    async def roll_back(self, link: Link) -> None:
        await link.command("ROLLBACK TO SAVEPOINT sandbox", self.time.statement_timeout_s)
        await link.command("RELEASE SAVEPOINT sandbox", self.time.statement_timeout_s)

    def give(self, link: Link) -> None:
        self._turn.release()


async def _takes_writes(link: Link) -> bool:
    try:
        result: Any = await link.perform(_WRITABLE, (), link.target.connect_timeout_s)
    except DatabaseError:
        return False
    return str(result.rows[0][0]) in ("0", "OFF")


def _check_version(link: Link) -> None:
    least = MARIADB_MIN if link.mariadb else MYSQL_MIN
    if link.version < least:
        name = "MariaDB" if link.mariadb else "MySQL"
        raise ConfigError(
            f"{link.target.address} is {name} {_dotted(link.version)}, which is too old.", where="database.url",
            remedy=f"Use {name} {_dotted(least)} or newer (MariaDB is at least 10.6, MySQL at least 8.0.17).",
        )  # fmt: skip


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _named(error: ConfigError | DatabaseUnavailable, target: Target) -> ConfigError | DatabaseUnavailable:
    """The same with the host said, of which there may be several."""
    if isinstance(error, ConfigError):
        return ConfigError(f"{target.address}: {error.what}", where=error.where, remedy=error.remedy)
    return DatabaseUnavailable(f"{target.address}: {error}")
