"""A PostgreSQL standby for tests: follows another server, as far behind it as the test says.

Its methods block; async tests call them through ``asyncio.to_thread``.
"""

from __future__ import annotations

import asyncio
from typing import Any

from support.servers import Postgres


class Standby(Postgres):
    """A physical copy of ``primary``, made by pg_basebackup when it is first started."""

    def __init__(self, primary: Postgres, *options: str, port: int | None = None) -> None:
        super().__init__(*options, port=port)
        self.primary = primary

    def prepare(self) -> None:
        self.run(
            self.tool("pg_basebackup"), "-D", str(self.data), "-d", _conninfo(self.primary), "-R", "-X", "stream",
            "--checkpoint=fast", "--no-sync",
        )  # fmt: skip
        (self.folder / "created").touch()  # it has the databases of its primary, and takes no writes

    def pause(self) -> None:
        """Apply nothing more until :meth:`resume`; what the primary sends is kept."""
        self.sql("SELECT pg_wal_replay_pause()")
        assert self.eventually("SELECT pg_get_wal_replay_pause_state() = 'paused'")

    def resume(self) -> None:
        self.sql("SELECT pg_wal_replay_resume()")

    def delay(self, seconds: float) -> None:
        """Apply every commit so much later than it happened."""
        self.sql(
            f"ALTER SYSTEM SET recovery_min_apply_delay = '{int(seconds * 1000)}ms'",
            "SELECT pg_reload_conf()",
        )

    def promote(self) -> None:
        """Be a primary from now on."""
        self.sql("SELECT pg_promote()")

    def follow(self, primary: Postgres) -> None:
        """Take changes from another server from now on."""
        self.primary = primary
        self.sql(f"ALTER SYSTEM SET primary_conninfo = '{_conninfo(primary)}'", "SELECT pg_reload_conf()")

    def catch_up(self) -> None:
        """Return when everything that the primary has now is applied here."""
        at = ask(self.primary, "SELECT pg_current_wal_flush_lsn()::text")
        assert self.eventually(f"SELECT pg_last_wal_replay_lsn() >= '{at}'::pg_lsn")

    def eventually(self, query: str, seconds: float = 10.0) -> bool:
        """Whether the query answers true within ``seconds``."""
        return bool(asyncio.run(_until(self.url("postgres"), query, seconds)))


def ask(server: Postgres, query: str) -> Any:
    """The value that a query has on a server."""
    return asyncio.run(_ask(server.url("postgres"), query))


async def _ask(url: str, query: str) -> Any:
    import asyncpg

    connection = await asyncpg.connect(url, timeout=10)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close(timeout=5)


async def _until(url: str, query: str, seconds: float) -> bool:
    import asyncpg

    connection = await asyncpg.connect(url, timeout=10)
    try:
        async with asyncio.timeout(seconds):
            while not await connection.fetchval(query):  # noqa: ASYNC110 - a server tells nobody
                await asyncio.sleep(0.005)
            return True
    except TimeoutError:
        return False
    finally:
        await connection.close(timeout=5)


def _conninfo(server: Postgres) -> str:
    return f"host=127.0.0.1 port={server.port} user=tenfold password=tenfold"
