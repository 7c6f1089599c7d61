"""What the backend asks of a connection, whichever driver makes it."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple

from tenfold.db.backends._link import Link
from tenfold.db.backends._waiting import Outlasting
from tenfold.db.contract import Args, Rows
from tenfold.db.plan import Plan
from tenfold.errors import DatabaseError


class Ahead(NamedTuple):
    """A statement that answers no rows, and is sent together with the one behind it."""

    plan: Plan
    args: Args


Part = str | Ahead
Prefix = Sequence[Part]
"""What is to be run in front of a statement: texts without parameters, result or way to fail; behind them, others."""


class Manner(NamedTuple):
    """How transactions are begun: on sessions of our own, or on whichever one a pooler has."""

    pooled: bool
    lock_timeout_s: float

    def begin(self, sql: str) -> list[Part]:
        """The statements of a beginning; ``sql`` is the first."""
        if not self.pooled:
            return [sql]
        return [sql, f"SET LOCAL lock_timeout = {int(self.lock_timeout_s * 1000)}"]


class PgLink(Link):
    """One connection. Its methods raise the driver's exceptions, which :meth:`failed` translates; ``timeout_s`` is
    above 0, and past it the statement is cancelled in the server and TimeoutError raised."""

    connection: Any
    """The driver's."""
    outlasting: type[Outlasting[Any]] = Outlasting
    """How what ends a transaction is awaited: through cancellations."""

    @abstractmethod
    def fetch(
        self, plan: Plan, args: Args, limit: int, timeout_s: float, prefix: Prefix = ()
    ) -> Awaitable[Rows]:
        """All rows, or the first ``limit``."""

    async def fetch_each(
        self, plan: Plan, many: Sequence[Args], limit: int, timeout_s: float, prefix: Prefix = ()
    ) -> list[Rows]:
        """As :meth:`fetch` for each of ``many``, which have the time together. A driver that can send them at once
        saves round trips."""
        until, found = until_in(timeout_s), list[Rows]()
        for args in many:
            found.append(await self.fetch(plan, args, limit, left_until(until), prefix))
            prefix = ()
        return found

    @property
    def takes_behind(self) -> bool:
        """Whether :meth:`fetch_last` can take a query along now."""
        return False

    async def fetch_last(
        self, plan: Plan, args: Args, limit: int, timeout_s: float, prefix: Prefix = (), behind: bytes = b""
    ) -> tuple[Rows, str]:
        """As :meth:`fetch`, and commit; the tag of the COMMIT. A driver that can send both together saves a round
        trip. ``behind`` is a query, as it travels, for after the commit, whose outcome is nobody's."""
        rows = await self.fetch(plan, args, limit, timeout_s, prefix)
        return rows, await self.command("COMMIT", timeout_s)

    @abstractmethod
    async def run(self, plan: Plan, args: Args, timeout_s: float, prefix: Prefix = ()) -> int:
        """The number of rows changed."""

    @abstractmethod
    async def result(
        self, plan: Plan, args: Args, timeout_s: float, prefix: Prefix = ()
    ) -> tuple[Rows, int, Sequence[str]]:
        """Rows, number of rows changed, names of the columns."""

    @abstractmethod
    async def run_many(self, plan: Plan, many: Sequence[Args], timeout_s: float, prefix: Prefix = ()) -> int:
        """All executions in one go; the number of rows changed in all. ``plan`` returns one row for each of them,
        or inserts exactly one row each."""

    @abstractmethod
    async def load(
        self, plan: Plan, columns: Sequence[str], many: Sequence[Args], timeout_s: float, prefix: Prefix = ()
    ) -> int:
        """``COPY … FROM STDIN`` into the plan's table; the number of rows."""

    @abstractmethod
    async def command(self, sql: str, timeout_s: float) -> str:
        """Statements without parameters in one round trip; the tag of the last of them."""

    async def run_ahead(self, prefix: Prefix, timeout_s: float) -> float:
        """What stands in front of a statement, by itself; answers how many of the seconds are left for that. Raises
        TimeoutError when none are."""
        until = until_in(timeout_s)
        if texts := [text for text in prefix if isinstance(text, str)]:
            await self.command("; ".join(texts), timeout_s)
        for first in prefix:
            if not isinstance(first, str):
                await self.run(first.plan, first.args, left_until(until))
        return left_until(until)

    @abstractmethod
    async def open_portal(
        self, name: str, plan: Plan, args: Args, timeout_s: float, prefix: Prefix = ()
    ) -> Any:
        """A cursor in the open transaction."""

    @abstractmethod
    async def piece(self, name: str, portal: Any, count: int, timeout_s: float) -> Rows:
        """The next rows of a portal."""

    @abstractmethod
    async def close_portal(self, name: str, timeout_s: float) -> None:
        """Forget a portal."""

    @abstractmethod
    def failed(self, error: Exception, plan: Plan | None, *, read_only: bool = False) -> DatabaseError:
        """``error`` in Tenfold's words; leaves the connection in doubt where it is."""

    @property
    @abstractmethod
    def reported_name(self) -> str:
        """``application_name`` as the server has it."""

    @property
    @abstractmethod
    def in_transaction(self) -> bool:
        """What the server said last."""


def until_in(seconds: float) -> float:
    """The moment of the loop's clock in so many seconds."""
    return asyncio.get_running_loop().time() + seconds


def left_until(moment: float) -> float:
    """Seconds until a moment of the loop's clock. Raises TimeoutError when it has come: several statements that stand
    for one have the time of one."""
    left_s = moment - asyncio.get_running_loop().time()
    if left_s <= 0:
        raise TimeoutError
    return left_s
