"""A process that moves money on a database and says what is done, and who judges it by what the database holds."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import sqlalchemy as sa

from support.forked import Forked
from support.orders_db import opened

transfers = sa.text("SELECT transfer, count(*), sum(amount) FROM entries GROUP BY transfer")


class Child:
    """One process that transfers money; ``acknowledged`` is what it said it had done."""

    def __init__(self, folder: Path, url: str, name: str, *, mode: str = "sound", points: str = "") -> None:
        self.acknowledged: list[str] = []
        self._process = Forked("faults.sqlite_child", str(folder), name, mode, url, failpoints=points)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            if line.endswith("\n"):
                self.acknowledged.append(line.strip())

    def until(self, count: int, seconds: float = 30.0) -> None:
        """Wait for so many acknowledgements."""
        end = time.monotonic() + seconds
        while len(self.acknowledged) <= count:  # the first line says that it is ready
            assert time.monotonic() < end, self.end()
            assert self._process.poll() is None, self.end()
            time.sleep(0.002)

    def end(self) -> str:
        """SIGKILL; what it wrote to stderr."""
        self._process.kill()
        return self.wait()

    def wait(self) -> str:
        """After it was killed by a failpoint."""
        self._process.wait(30)
        self._reader.join()
        if "ready" in self.acknowledged:
            self.acknowledged.remove("ready")
        return self._process.errors()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        return self._process.returncode


async def found_in(folder: Path, url: str) -> list[tuple[str, int, int]]:
    """Every transfer, with the number and the sum of its entries."""
    async with opened(folder, url=url, metadata=sa.MetaData(), connect_timeout_s=10.0) as db:
        return await db.read().all(transfers, tuple)


def judge(folder: Path, url: str, acknowledged: list[str]) -> tuple[list[str], list[str]]:
    """Transfers that are lost, and those of which only a half is there."""
    found = asyncio.run(found_in(folder, url))
    whole = {transfer for transfer, count, total in found if (count, total) == (2, 0)}
    torn = [transfer for transfer, *_ in found if transfer not in whole]
    return [t for t in acknowledged if t not in whole and t not in torn], torn
