"""Where to connect, and what every connection is told first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from asyncmy.connection import Connection
from asyncmy.constants.CLIENT import FOUND_ROWS, MULTI_STATEMENTS

from tenfold.db.backends._mysql_dialect import COLLATION, SQL_MODE

LIMIT_SLACK_S = 5.0
"""The server stops by itself what runs for so long past its time."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how to connect."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    ssl: Any = None
    statement_timeout_s: float = 30.0
    lock_timeout_s: float = 10.0
    connect_timeout_s: float = 5.0

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def session(self, *, mariadb: bool, access: str = "READ ONLY") -> tuple[str, ...]:
        """What every connection is told first. Reading is the default, so that no reader can write."""
        return (
            f"SET NAMES utf8mb4 COLLATE {COLLATION[mariadb]}",
            self.limit(self.statement_timeout_s, mariadb=mariadb),
            f"SET SESSION sql_mode = '{SQL_MODE}', time_zone = '+00:00', autocommit = 1, "
            f"innodb_lock_wait_timeout = {max(1, round(self.lock_timeout_s))}, "
            f"lock_wait_timeout = {max(1, round(self.lock_timeout_s))}, wait_timeout = 28800",
            f"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, {access}",
        )

    @staticmethod
    def limit(seconds: float, *, mariadb: bool) -> str:
        """Let the server itself stop what runs for longer, in case that we are not there any more to do so. MySQL
        limits reading only."""
        if mariadb:
            return f"SET SESSION max_statement_time = {seconds + LIMIT_SLACK_S:.3f}"
        return f"SET SESSION max_execution_time = {round((seconds + LIMIT_SLACK_S) * 1000)}"


async def connect(target: Target) -> Any:
    """The driver's connection, its session prepared. Raises the driver's errors, OSError or TimeoutError."""
    made: Any = Connection  # its types are not all there
    conn = made(
        host=target.host, port=target.port, user=target.user, password=target.password,
        database=target.database or None, charset="utf8mb4", client_flag=FOUND_ROWS, autocommit=None,
        connect_timeout=target.connect_timeout_s, ssl=target.ssl, program_name="tenfold",
    )  # fmt: skip
    conn._client_flag &= ~MULTI_STATEMENTS  # the driver always asks for what we never want
    try:
        async with asyncio.timeout(target.connect_timeout_s):
            await conn.connect()
            _, mariadb = version_of(conn.get_server_info())
            for statement in target.session(mariadb=mariadb):
                await conn.query(statement)
    except BaseException:
        conn.close()
        raise
    return conn


def version_of(said: str) -> tuple[tuple[int, ...], bool]:
    """``5.5.5-10.11.6-MariaDB-…`` → ``(10, 11, 6), True``; ``8.0.36`` → ``(8, 0, 36), False``."""
    mariadb = "mariadb" in said.lower()
    said = said.removeprefix("5.5.5-") if mariadb else said
    numbers = said.partition("-")[0].split(".")
    return tuple(int(part) for part in numbers if part.isdigit()), mariadb
