"""Reading in pieces, from a cursor that the server keeps.

Unlike an unbuffered result it leaves the connection free for other statements between two pieces, and the consumer
may take its time. The driver has no interface for it, so two of its packets are made and read here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tenfold.db.backends._mysql_values import check
from tenfold.db.contract import Args, Rows
from tenfold.db.plan import Plan

if TYPE_CHECKING:
    from tenfold.db.backends._mysql_link import Link

_COM_STMT_FETCH = 0x1C
_CURSOR_READ_ONLY = 1
_CURSOR_EXISTS = 0x40
_LAST_ROW_SENT = 0x80
_END = 0xFE


class Pieces:
    """The rows of one statement, fetched as they are asked for."""

    def __init__(self, link: Link, plan: Plan, args: Args, chunk: int, budget_s: Callable[[], float]) -> None:
        self._link, self._plan, self._args, self._chunk = link, plan, args, chunk
        self._budget_s = budget_s
        self._statement: Any = None
        self._ready: list[Any] = []
        """Rows that came at once, because the statement has no cursor."""
        self._more = False

    async def open(self) -> None:
        """Execute. The statement is prepared anew: it can have one cursor only."""
        conn = self._link.conn
        check(self._args)
        statement = self._statement = await conn.prepare(self._plan.sql)
        statement._execute_header = struct.pack("<IBI", statement._statement_id, _CURSOR_READ_ONLY, 1)
        result = await statement.execute(self._args)
        if self._plan.columns is None:
            self._plan.learn_columns([column[0] for column in result.description or ()])
        self._ready = list(result.rows or ())
        self._more = bool(result.server_status & _CURSOR_EXISTS)

    async def next(self) -> Rows:
        """The next rows; empty at the end."""
        if self._ready:
            rows, self._ready = self._ready[: self._chunk], self._ready[self._chunk :]
            return rows
        if not self._more:
            return []
        return await self._link.guarded(self._fetch(), self._budget_s(), self._plan)

    async def _fetch(self) -> Rows:
        conn, statement = self._link.conn, self._statement
        await conn._execute_command(_COM_STMT_FETCH, struct.pack("<II", statement._statement_id, self._chunk))
        specs = statement._meta[4]
        rows: Rows = []
        while True:
            packet = await conn.read_packet()
            data: bytes = packet.get_all_data()
            if data[0] == _END:
                self._more = not _status(data, short=not conn._deprecate_eof) & _LAST_ROW_SENT
                return rows
            rows.append(packet.read_binary_row(specs))

    async def close(self) -> None:
        """Let the server forget the rows that were not fetched."""
        self._more = False
        if self._statement is not None and not self._link.doubtful:
            await self._statement.close()


def _status(data: bytes, *, short: bool) -> int:
    """The status flags of the packet that ends the rows: an EOF packet, or an OK packet in newer protocols."""
    if short:
        return int.from_bytes(data[3:5], "little")
    position = 1
    for _ in range(2):  # affected rows and last id, each of a length that its first byte tells
        position += {0xFC: 3, 0xFD: 4, 0xFE: 9}.get(data[position], 1)
    return int.from_bytes(data[position : position + 2], "little")
