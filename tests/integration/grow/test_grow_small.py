"""A small app with a table of every kind moves by the command; what is in the way is a sentence."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tomllib
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.grow_app import awkward, child_table, parent_table, types_table
from support.growing import Commands, Done, Growing, Writer, grow_commands, growing
from support.servers import Postgres
from tenfold._core.clock import SystemClock
from tenfold._core.resolve import backend_class
from tenfold._core.sections import DatabaseSettings
from tenfold.db.database import Database

__all__ = ["grow_commands", "growing"]  # fixtures


@pytest.fixture(scope="module")
def filled(grow_commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that an app has worked in."""
    made = Growing(tmp_path_factory.mktemp("filled"), grow_commands)
    made.start()
    with Writer(made.url) as writer:
        writer.wait_for_more(6)
    made.stop()
    return made.data


@pytest.fixture
def stopped(growing: Growing, filled: Path) -> Growing:
    """With a file that has rows, and no process."""
    shutil.copytree(filled, growing.data)
    return growing


def execute(growing: Growing, *statements: str) -> list[Any]:
    """The rows of the last statement."""
    connection = sqlite3.connect(growing.data / "app.db", isolation_level=None)
    try:
        return [connection.execute(statement).fetchall() for statement in statements][-1]
    finally:
        connection.close()


def found(url: str, statement: Any) -> list[Any]:
    """What a statement finds in the new database."""

    async def ask() -> list[Any]:
        backend = backend_class("db", url, where="url").from_url(
            url, settings=DatabaseSettings(url=url), data_dir=Path(), clock=SystemClock()
        )
        await backend.start()
        database = Database("test", sa.MetaData())
        database.bind(backend)
        try:
            return await database.read().all(statement, tuple)
        finally:
            await backend.stop()

    return asyncio.run(ask())


def refused(done: Done, *words: str) -> None:
    """An error in sentences with these words; no traceback, nothing begun."""
    assert done.returncode in (1, 2), done
    assert done.stderr.startswith("error: "), done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def moves(stopped: Growing, url: str) -> None:
    """To a server of any kind: values equal, numbers go on, the app runs there, the file refuses."""
    (last,) = execute(
        stopped,
        "DELETE FROM tenfold_message_archive",
        "SELECT seq FROM sqlite_sequence WHERE name = 'tenfold_message'",
    )[0]
    dry = stopped.grow("--to", url, "--dry-run")
    assert (dry.returncode, "Nothing was changed" in dry.stdout) == (0, True), dry
    done = stopped.grow("--to", url)
    assert done.returncode == 0, done
    assert "keyless has no primary key" in done.stdout
    first, nulls = found(url, sa.select(types_table).order_by(types_table.c.id))
    assert dict(zip(types_table.columns.keys(), first, strict=True)) == awkward()
    assert set(nulls[1:]) == {None}
    (kept,) = execute(stopped, "SELECT count(*) FROM keyless")
    assert found(url, sa.text("SELECT count(*) FROM keyless")) == [kept]
    stopped.start(database=url)
    with Writer(stopped.url) as writer:
        writer.wait_for_more(8)
    assert writer.failed == []
    stopped.stop()
    assert found(url, sa.text("SELECT min(id) FROM tenfold_message_archive"))[0][0] > last
    refused(stopped.grow("--to", url, "--dry-run", "--resume"), "exclude each other")


@pytest.mark.timeout(60)
def test_every_kind_of_table_moves_to_postgresql(stopped: Growing, postgres_url: str) -> None:
    """And the settings file gets the line when asked."""
    moves(stopped, postgres_url)


@pytest.mark.timeout(60)
def test_every_kind_of_table_moves_to_mariadb(stopped: Growing, mariadb_url: str) -> None:
    moves(stopped, mariadb_url)


@pytest.mark.timeout(60)
def test_a_running_app_moves_to_mariadb(growing: Growing, mariadb_url: str) -> None:
    """Under writes: every acknowledged item is there, and its job ran once."""
    growing.start()
    with Writer(growing.url) as writer:
        writer.wait_for_more(5)
        done = growing.grow("--to", mariadb_url, "--live", growing.ops_url)
        assert done.returncode == 0, done
        writer.wait_for_more(5)
    growing.stop()
    assert writer.failed == []
    assert writer.slowest_s < 2.5
    parents = dict(found(mariadb_url, sa.select(parent_table.c.key, parent_table.c.id)))
    assert {key: parents.get(key) for key in writer.made} == writer.made
    waiting = found(mariadb_url, sa.text("SELECT count(*) FROM tenfold_message"))[0][0]
    ran = found(mariadb_url, sa.select(child_table.c.ran, sa.func.count()).group_by(child_table.c.ran))
    assert dict(ran) == {1: len(parents) - waiting} | ({0: waiting} if waiting else {})


@pytest.mark.timeout(60)
def test_the_line_is_written_and_going_back_is_refused_until_it_is_insisted_on(
    stopped: Growing, postgres_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "tenfold.toml"
    config.write_text('[database]\nreaders = 2\nurl = "sqlite:///app.db" # here\n')
    done = stopped.grow("--to", postgres_url, "--config", str(config), "--write")
    assert done.returncode == 0, done
    assert tomllib.loads(config.read_text()) == {"database": {"readers": 2, "url": postgres_url}}
    refused(stopped.grow("--to", postgres_url), "has moved to postgresql://", "--discard-changes")
    refused(stopped.grow("--to", postgres_url, "--rollback"), "only there", "--discard-changes")
    back = stopped.grow("--rollback", "--discard-changes")
    assert back.returncode == 0, back
    stopped.start()
    with Writer(stopped.url) as writer:
        writer.wait_for_more()
    assert writer.failed == []


@pytest.mark.timeout(100)
def test_whatever_is_in_the_way_is_a_sentence_and_nothing_has_begun(
    stopped: Growing, postgres: Postgres, postgres_url: str
) -> None:
    nobody = postgres_url.replace("tenfold:tenfold@", "tenfold:wrong@")
    refused(stopped.grow(), "--to says where to")
    refused(stopped.grow("--to", nobody), "password")
    refused(stopped.grow("--to", "postgresql://tenfold:secret@127.0.0.1:1/db"), "127.0.0.1:1")
    refused(stopped.grow("--to", "oracle://db"), "no db backend speaks 'oracle'")
    refused(stopped.grow("--to", "sqlite:///other.db"), "cannot be moved to sqlite")
    refused(stopped.grow("--to", postgres_url, "--live", "http://127.0.0.1:1"), "does not answer")
    refused(stopped.grow("--to", postgres_url, "--rollback"), "is not being moved")

    execute(stopped, "CREATE TABLE own (a)", "INSERT INTO own VALUES (1)")
    refused(stopped.grow("--to", postgres_url), "no service declares own (1 row)")
    execute(stopped, "DROP TABLE own", "UPDATE parent SET key = printf('%.*c', 70, 'x') WHERE id = 1")
    refused(stopped.grow("--to", postgres_url), "parent.key is longer than 64 in 1 row", "[1]")
    execute(
        stopped, "UPDATE parent SET key = 'x' WHERE id = 1", "UPDATE parent SET before = 999 WHERE id = 2"
    )
    refused(stopped.grow("--to", postgres_url), "rows refer to missing ones", "parent")
    execute(stopped, "UPDATE parent SET before = NULL WHERE id = 2")

    database = postgres_url.rpartition("/")[2]
    postgres.sql("CREATE TABLE precious (a int)", database=database)
    refused(stopped.grow("--to", postgres_url), "is not empty: it has precious")
    postgres.sql("DROP TABLE precious", database=database)
    postgres.sql("CREATE ROLE guest LOGIN PASSWORD 'guest'", database=database)
    guest = postgres_url.replace("tenfold:tenfold@", "guest:guest@")
    refused(stopped.grow("--to", guest), "permission denied")
    assert execute(stopped, "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'") == [(0,)]


@pytest.mark.timeout(60)
def test_a_process_that_has_the_file_open_is_not_passed_over(growing: Growing, postgres_url: str) -> None:
    """A process whose operations listener is elsewhere would go on writing to the old file."""
    process = growing.start()
    growing.hide_ops()
    refused(growing.grow("--to", postgres_url), f"open in process {process.pid}", "--live")
