"""SQLite, embedded and durable: WAL, ``synchronous=FULL``, one writer with group commit, many readers.

Needs no server; the library comes with apsw, and is one without the WAL-reset bug that was fixed in 3.51.3.

* ``sqlite:///app.db`` is below ``app.data_dir``, ``sqlite:////var/lib/app.db`` is absolute.
* ``sqlite:///:memory:`` is a temporary file that is deleted at stop. It does not survive a crash.

Weakens nothing of the contract. An acknowledged commit survives SIGKILL and power loss. Writes of all processes
on one file run one after another. The file must be on a local disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import apsw

from tenfold._core.context import current
from tenfold.db.ambient import holding
from tenfold.db.backends._apsw_dbapi import ApswDialect, Lent, SessionDialect, sync_engine
from tenfold.db.backends._session_dbapi import Reading, Statements, engine_of, lent
from tenfold.db.backends._sqlite_errors import translate
from tenfold.db.backends._sqlite_line import Line
from tenfold.db.backends._sqlite_link import Counters, Link
from tenfold.db.backends._sqlite_readers import (
    INLINE_STEPS,
    THREAD_STEPS,
    AutoChannel,
    Readers,
    snapshot,
)
from tenfold.db.backends._sqlite_tx import SqliteTx
from tenfold.db.backends._sqlite_writer import Writer
from tenfold.db.backends._time import Time
from tenfold.db.contract import (
    Args,
    Capabilities,
    Channel,
    DatabaseBackend,
    HasChannel,
    Isolation,
    Rows,
    TxChannel,
)
from tenfold.db.moved import GROWTH, READ_MARK, sentence
from tenfold.db.plan import Plan, PlanCache
from tenfold.errors import ConfigError, DatabaseUnavailable, NotBound

if TYPE_CHECKING:
    import sqlalchemy as sa

    from tenfold._core.clock import Clock
    from tenfold._core.sections import DatabaseSettings

SQLITE_MIN = (3, 51, 3)
WAL_PAGES = 4_000
"""A checkpoint moves the log into the file when it is this long (16 MiB)."""
WAL_BYTES_KEPT = 64 * 1024 * 1024


class Backend(DatabaseBackend):
    """One SQLite file."""

    def __init__(self, url: str, path: Path | None, settings: DatabaseSettings, clock: Clock) -> None:
        self.url = url
        self.clock = clock
        self.path = path or Path()
        self.dialect = ApswDialect()
        self._session_engine = engine_of(SessionDialect())
        self._session_statements = Statements()
        self.plans = PlanCache(self.dialect)
        self.open_by_task: dict[asyncio.Task[Any], HasChannel] = {}
        self.capabilities = Capabilities(
            isolation="serializable", parallel_writers=False, skip_locked=False, listen=False,
            durable=path is not None, replicas=False,
        )  # fmt: skip
        self._temporary = path is None
        self._folder: str | None = None
        self._settings = settings
        self._counters = Counters()
        self._time = Time(clock, settings.statement_timeout_s, settings.lock_timeout_s)
        self._writer: Writer | None = None
        self._readers: Readers | None = None
        self._auto: AutoChannel | None = None

    @classmethod
    def from_url(cls, url: str, *, settings: DatabaseSettings, data_dir: Path, clock: Clock) -> Self:
        scheme, _, rest = url.partition("://")
        if scheme != "sqlite" or (rest and not rest.startswith("/")) or "?" in rest:
            raise ConfigError(
                f"{url!r} is not the URL of an SQLite file.", where="database.url",
                remedy="Write sqlite:///app.db (below app.data_dir), sqlite:////an/absolute/path.db or "
                "sqlite:///:memory:, without a query.",
            )  # fmt: skip
        name = rest[1:]
        path = None if name in ("", ":memory:") else (data_dir / name).absolute()
        return cls(url, path, settings, clock)

    # ── life ──

    async def start(self) -> None:
        _check_version()
        if self._temporary:
            self._folder = tempfile.mkdtemp(prefix="tenfold-")
            self.path = Path(self._folder) / "memory.db"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(self._prepare)
            self._connect()
        except OSError as error:
            raise DatabaseUnavailable(f"the folder of the database file cannot be used: {error}.") from error
        except apsw.Error as error:
            raise translate(error) from error

    def _prepare(self) -> None:
        """Make the file a WAL file, and recover it if the last process was killed. May wait for another process."""
        with contextlib.closing(apsw.Connection(str(self.path))) as conn:
            conn.set_busy_timeout(int(self._settings.lock_timeout_s * 1000))
            mode = conn.execute("PRAGMA journal_mode=WAL").fetchall()
            if mode != [("wal",)]:
                raise ConfigError(
                    f"{self.path} cannot be used with a write-ahead log (it stays in mode {mode!r}).",
                    where="database.url", remedy="Put it on a local disk.",
                )  # fmt: skip
            self._refuse_if_moved(conn)

    def _refuse_if_moved(self, conn: apsw.Connection) -> None:
        if not conn.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (GROWTH,)).fetchall():
            return
        for _, target, moved_at in conn.execute(READ_MARK):
            if moved_at is not None:
                raise ConfigError(
                    sentence(str(target)), where="database.url",
                    remedy=f"Set database.url to the new place instead of {self.url}.",
                )  # fmt: skip

    def _connect(self) -> None:
        link = self._link("writer", writer=True)
        link.do(f"PRAGMA synchronous={'OFF' if self._temporary else 'FULL'}")
        link.do(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
        link.do(f"PRAGMA journal_size_limit={WAL_BYTES_KEPT}")
        self._writer = Writer(link, Line(self.path), self._time, self._counters, self.weight_of)
        self._readers = Readers(
            self._link, self._settings.readers, self._time, self._counters, self.weight_of
        )
        self._auto = AutoChannel(self._readers)

    def _link(self, name: str, *, writer: bool = False) -> Link:
        steps = INLINE_STEPS if name == "inline" else THREAD_STEPS
        link = Link(self.path, self.clock, writer=writer, steps=steps, name=f"tenfold-db-{name}")
        if not writer:
            # Reading waits only while another process recovers the log; never on the event loop.
            link.conn.set_busy_timeout(0 if name == "inline" else int(self._settings.lock_timeout_s * 1000))
        return link

    async def stop(self) -> None:
        writer, readers = self._writer, self._readers
        if writer is None or readers is None:
            return
        await writer.drain()
        self._writer = self._readers = self._auto = None
        await asyncio.to_thread(self._disconnect, writer, readers)

    def _disconnect(self, writer: Writer, readers: Readers) -> None:
        readers.close()
        if not self._temporary:
            with contextlib.suppress(
                apsw.BusyError
            ):  # another process reads: the next checkpoint moves the rest
                writer.link.conn.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        writer.link.close()
        writer.line.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def health(self) -> None:
        if self._readers is None:
            raise DatabaseUnavailable("the database is not connected.")
        async with self._readers.link() as link:
            try:
                await link.call(link.do, "SELECT count(*) FROM sqlite_master")
            except apsw.Error as error:
                raise translate(error) from error

    def stats(self) -> Mapping[str, int | float]:
        waiting = sum(line.waiting for line in (self._writer, self._readers) if line is not None)
        return {**self._counters.as_dict(), "waiting": waiting}

    # ── channels ──

    def reader(self) -> Channel:
        if self._auto is None:
            raise _not_started()
        return self._auto

    def snapshot(self) -> AbstractAsyncContextManager[Channel]:
        if self._readers is None or self._auto is None:
            raise _not_started()
        return _reuse(self._auto) if self._auto.detour is not None else snapshot(self._readers)

    def transaction(self, *, isolation: Isolation = "default") -> SqliteTx:
        if self._writer is None:
            raise _not_started()
        return SqliteTx(self._writer)

    @asynccontextmanager
    async def sandbox(self) -> AsyncGenerator[None]:
        if self._writer is None or self._auto is None:
            raise _not_started()
        await self._writer.enter_sandbox()
        self._auto.detour = self._read_on_writer
        try:
            yield
        finally:
            self._auto.detour = None
            await self._writer.leave_sandbox()

    async def _read_on_writer(self, plan: Plan, args: Args, limit: int) -> Rows:
        """In a sandbox: what was said to be committed is to be found on the writer's connection only."""
        task = asyncio.current_task()
        if (
            task is not None and task in self.open_by_task
        ):  # its own transaction holds the writer, and would wait for itself
            return await self.open_by_task[task].channel.fetch(plan, args, limit)
        ambient = holding(current(), self)  # likewise that of its operation, or its caller's
        if ambient is not None:
            return await ambient.tx.channel.fetch(plan, args, limit)
        tx = self.transaction()
        try:
            rows = await tx.fetch(plan, args, limit)
        except BaseException:
            await tx.rollback()
            raise
        await tx.commit()
        return rows

    def session_connection(self, channel: Channel) -> sa.Connection:
        return lent(
            self._session_engine,
            Lent(channel) if isinstance(channel, TxChannel) else Reading(channel, self._session_statements),
        )

    def sync_engine(self, *, write: bool = True) -> sa.Engine:
        return sync_engine(self.path, self._time, write=write)


@asynccontextmanager
async def _reuse(channel: Channel) -> AsyncGenerator[Channel]:
    yield channel


def _check_version() -> None:
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < SQLITE_MIN:
        raise ConfigError(
            f"SQLite {apsw.sqlite_lib_version()} can lose committed data when its log is reset.",
            where="database.url", remedy="Run: pip install --upgrade apsw",
        )  # fmt: skip


def _not_started() -> NotBound:
    return NotBound("the database backend was used before it was started, or after it was stopped.")
