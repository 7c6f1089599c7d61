"""The file of the store: the only module here that knows apsw.

A statement that yields or takes many rows gives the interpreter's lock away and asks for it again with each of them,
and beside a busy event loop every asking takes up to five milliseconds. So there is one step per question: a batch goes
in as one JSON text that SQLite takes apart (``json_each``), and an answer comes out as one (``json_group_array``). For
that time SQLite works in parallel to the loop.

The file is in WAL mode with ``synchronous=NORMAL``: a power cut may cost the last seconds, never the file. A file
that is damaged, or of an older version, is put aside and a new one begun. One of a newer version is left alone: while
instances are replaced, it is the others'.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from tenfold.telemetry.store import schema

NAME: Final = "telemetry.sqlite"
BUSY_MS: Final = 1500
"""How long a batch waits for another instance's."""
WAL_MAX_BYTES: Final = 8 << 20
CACHE_KIB: Final = 4096
ASIDE: Final = ".damaged"


class StoreTrouble(Exception):
    """The file cannot be used just now. ``reason`` is a word for the counter; the message a sentence."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class Damaged(StoreTrouble):
    """The file is not one of ours any more."""


class StoreFile:
    """One connection. Used by one thread at a time; opened by the first use."""

    def __init__(self, path: Path, *, writes: bool = False) -> None:
        self.path = path
        self._writes = writes
        self._db: apsw.Connection | None = None
        self._inode = 0

    def run(self, sql: str, *args: Any) -> None:
        """Execute a statement that yields nothing."""
        with self._told():
            self._open().execute(sql, args)

    def value(self, sql: str, *args: Any) -> Any:
        """The first column of the first row, or None."""
        with self._told():
            return self._open().execute(sql, args).get

    def rows(self, sql: str, *args: Any, columns: int, json: tuple[int, ...] = ()) -> list[Any]:
        """All rows as lists, by one step. ``sql`` names its columns c0, c1, …, so many as ``columns`` says; those in
        ``json`` are JSON themselves."""
        names = ", ".join(f"json(c{number})" if number in json else f"c{number}" for number in range(columns))
        found = self.value(f"SELECT json_group_array(json_array({names})) FROM ({sql})", *args)  # noqa: S608
        return msgspec.json.decode(found) if found else []

    def changed(self) -> int:
        """How many rows the last statement changed."""
        return 0 if self._db is None else self._db.changes()

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Everything in the block, or nothing of it."""
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            self._give_up()
            raise

    def size_bytes(self) -> int:
        """What the file holds, without the pages that are free for reuse, and its log."""
        pages = self.value(
            "SELECT (SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count)"
        )
        page = self.value("PRAGMA page_size")
        try:
            wal = os.stat(f"{self.path}-wal").st_size
        except OSError:
            wal = 0
        return int(pages) * int(page) + wal

    def begin_anew(self) -> Path:
        """Put the file aside and make another one; answers where the old one lies. Where another instance has done it
        already, its new one is the one to use."""
        opened, aside = self._inode, Path(f"{self.path}{ASIDE}")
        self.close()
        if opened and opened != self._present():
            return aside
        for end in ("", "-wal", "-shm"):
            one = Path(f"{self.path}{end}")
            if one.exists():
                one.replace(f"{aside}{end}")
        return aside

    def close(self) -> None:
        """Disconnect. The next use opens it again."""
        db, self._db = self._db, None
        if db is not None:
            db.close(True)

    def _give_up(self) -> None:
        try:
            if self._db is not None and self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except apsw.Error:
            self.close()  # which rolls back

    def renew(self) -> bool:
        """Notice that the file was put aside, or removed, by somebody else: the next use opens the new one. Answers
        whether it was."""
        if self._db is None or self._inode == self._present():
            return False
        self.close()
        return True

    def _present(self) -> int:
        try:
            return os.stat(self.path).st_ino
        except OSError:
            return 0

    def _open(self) -> apsw.Connection:
        if self._db is None:
            self._inode = self._present()  # also of one that turns out to be damaged
            self._db = self._connected()
            self._inode = self._present()
        return self._db

    def _connected(self) -> apsw.Connection:
        if not self._writes and not self.path.exists():
            raise StoreTrouble("absent", f"{self.path} has not been made yet.")
        # Readers of a file in WAL mode write, too: into the index of its log.
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if self._writes else 0)
        db = apsw.Connection(str(self.path), flags=flags)
        try:
            db.set_busy_timeout(BUSY_MS)
            db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            if self._writes:
                _prepare(db)
            else:
                db.execute("PRAGMA query_only = ON")
        except BaseException:
            db.close(True)
            raise
        return db

    @contextmanager
    def _told(self) -> Generator[None]:
        """Errors of SQLite as sentences."""
        try:
            yield
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise Damaged("damaged", f"{self.path} is damaged ({error}).") from error
        except apsw.FullError as error:
            raise StoreTrouble("disk", f"the disk with {self.path} is full.") from error
        except (apsw.BusyError, apsw.LockedError) as error:
            raise StoreTrouble("busy", f"another process holds {self.path}.") from error
        except apsw.ReadOnlyError as error:
            raise StoreTrouble("disk", f"{self.path} cannot be written: {error}.") from error
        except apsw.Error as error:
            raise StoreTrouble("disk", f"{self.path} cannot be used: {error}.") from error


def _prepare(db: apsw.Connection) -> None:
    """Make the tables, once, whoever comes first."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(f"PRAGMA journal_size_limit = {WAL_MAX_BYTES}")
    if db.execute("PRAGMA user_version").get == schema.VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        version = db.execute("PRAGMA user_version").get
        if version == 0 and not db.execute("SELECT count(*) FROM sqlite_schema").get:
            db.execute(schema.TABLES)
            db.execute(f"PRAGMA user_version = {schema.VERSION}")
        else:
            _refuse_other(db.filename, version)
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _refuse_other(path: str, version: int) -> None:
    """Raises for a file whose tables are not those of this code. A newer one is left alone: it belongs to somebody."""
    if version > schema.VERSION:
        raise StoreTrouble(
            "version",
            f"{path} is of version {version}, made by a newer Tenfold than this one, which reads "
            f"{schema.VERSION}. If no newer one runs any more, remove it.",
        )
    if version != schema.VERSION:
        raise Damaged("version", f"{path} is of version {version}, and this code reads {schema.VERSION}.")
