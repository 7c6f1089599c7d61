"""A move that is killed at any point goes on, or is given up: nothing is lost, nothing happens twice."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

import pytest
import sqlalchemy as sa

from support.growing import Growing, Writer, grow_commands, growing
from support.servers import Postgres, running
from tenfold._core.failpoints import KNOWN

__all__ = ["grow_commands", "growing"]  # fixtures
POINTS = [name for name in KNOWN if name.startswith("grow.")]


def query(url: str, sql: str) -> list[Any]:
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(sa.text(sql))]
    engine.dispose()
    return rows


def tables(url: str) -> list[str]:
    return [name for (name,) in query(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]


def in_file(growing: Growing, sql: str) -> list[Any]:
    connection = sqlite3.connect(growing.data / "app.db")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def judge(writer: Writer, url: str) -> None:
    """Every acknowledged item is there once, with one run of its job."""
    until = time.monotonic() + 30
    while query(url, "SELECT 1 FROM tenfold_message LIMIT 1") and time.monotonic() < until:
        time.sleep(0.05)
    parents = dict(query(url, "SELECT key, id FROM parent"))
    assert {key: parents.get(key) for key in writer.made} == writer.made
    assert query(url, "SELECT parent_id, ran FROM child WHERE ran <> 1") == []
    assert query(url, "SELECT count(*) FROM child") == [(len(parents),)]
    assert query(url, "SELECT at FROM keyless ORDER BY at") == [
        (n,) for n in sorted(parents.values()) if n % 5 == 0
    ]
    assert query(url, "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated") == [(2,)]


@pytest.mark.timeout(240)
def test_a_command_killed_at_every_point_resumes_while_the_app_goes_on(growing: Growing) -> None:
    """The same move is killed at one point after the other; the server of the new database too."""
    with running(Postgres()) as server, server.database() as url:
        growing.start()
        to = ("--to", url, "--live", growing.ops_url)
        with Writer(growing.url) as writer:
            for point in POINTS:
                writer.wait_for_more()
                done = growing.grow(*to, *(("--resume",) if point != POINTS[0] else ()), failpoint=point)
                assert done.returncode == -9, f"{point}: {done.stdout}{done.stderr}"
                if point == "grow.copied":
                    server.kill()
                    away = growing.grow(*to, "--resume")
                    assert (away.returncode, away.stderr.count("\n")) == (1, 1), away.stdout + away.stderr
                    server.start()
            writer.wait_for_more()
            done = growing.grow(*to, "--resume")
            assert done.returncode == 0, done.stdout + done.stderr
            writer.wait_for_more()
        assert writer.failed == []
        judge(writer, url)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("point", ["switch.held", "switch.moving"])
def test_an_app_killed_during_the_cut_over_loses_nothing(
    growing: Growing, postgres_url: str, point: str
) -> None:
    """Held, but not moved: it starts again on the file. Moved, but not bound: the file says where to."""
    growing.start(failpoints=f"{point}=kill")
    to = ("--to", postgres_url, "--live", growing.ops_url)
    with Writer(growing.url) as writer:
        writer.wait_for_more()
        done = growing.grow(*to)
    growing.kill()
    if point == "switch.held":
        assert done.returncode == 1, done.stdout + done.stderr
        growing.start()
        done = growing.grow(*to, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    growing.kill()
    with pytest.raises(AssertionError, match="this database has moved to postgresql://tenfold:••••••@"):
        growing.start()
    growing.start(database=postgres_url)
    judge(writer, postgres_url)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "point",
    [
        pytest.param("grow.made", marks=pytest.mark.soak),
        pytest.param("grow.applied", marks=pytest.mark.soak),
        "grow.drained",
    ],
)
def test_a_move_that_was_killed_can_be_given_up_and_begun_anew(
    growing: Growing, postgres_url: str, point: str
) -> None:
    growing.start()
    to = ("--to", postgres_url, "--live", growing.ops_url)
    with Writer(growing.url) as writer:
        writer.wait_for_more()
        assert growing.grow(*to, failpoint=point).returncode == -9
        again = growing.grow(*to)
        assert (again.returncode, "begun already" in again.stderr) == (2, True), again.stderr
        writer.wait_for_more()
        done = growing.grow(*to, "--rollback")
        assert done.returncode == 0, done.stderr
        assert tables(postgres_url) == []
        assert in_file(growing, "SELECT name FROM sqlite_master WHERE name LIKE 'tenfold_grow%'") == []
        writer.wait_for_more()
        done = growing.grow(*to)
        assert done.returncode == 0, done.stdout + done.stderr
    assert writer.failed == []
    judge(writer, postgres_url)
