"""On PostgreSQL a claim reads the same number of pages however much else there is, whatever the plans know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest
import sqlalchemy as sa

from support.queues import rig
from support.trials import soak
from tenfold.jobs import Job
from tenfold.queue.backends import _postgresql_sql as statements
from tenfold.queue.tables import archive, message

pytestmark = pytest.mark.anyio

CLAIMED = 50
SHARED = "kind, handler, state, queue, lane, priority, created_at, payload"


async def noop() -> None: ...


def numbered(statement: sa.TextClause) -> str:
    """As the driver gets it."""
    from tenfold.db.backends._postgresql_dialect import Dialect

    return str(statement.compile(dialect=Dialect()))


async def pages(connection: Any, sql: str, *args: Any) -> int:
    """Pages that a statement touches; it is undone."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *args)
    finally:
        await transaction.rollback()
    import json

    plan = json.loads(rows[0][0])[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def cost(connection: Any) -> dict[str, int]:
    claim = numbered(statements.CLAIM)
    names = ["worker", "lease_until", "now", "queue", "lane", "count"]
    values = {"worker": "w", "lease_until": 2.0, "now": 1.0, "queue": "default", "lane": "", "count": CLAIMED}
    return {
        "claim": await pages(connection, claim, *(values[name] for name in names)),
        "look": await pages(connection, numbered(statements.LOOK)),
    }


async def fill(connection: Any, rows: int) -> None:
    """Rows in every state that a claim passes by, and finished ones. What runs has been claimed earlier, so its leases
    end one by one before those of a claim that is made now."""
    kinds = {
        "'delayed', 'default', '', 0": ", 9e9, NULL, NULL",
        "'parked', 'default', '', 0": ", 0, NULL, NULL",
        "'waiting', 'default', '', -5": ", 0, 'k', NULL",
        "'running', 'default', '', 0": ", 0, NULL, 1 + i * 1e-8",
        "'ready', 'other', '', -9": ", 0, NULL, NULL",
    }
    for where, rest in kinds.items():
        await connection.execute(
            f"INSERT INTO {message.name} ({SHARED}, run_at, order_key, lease_until) "
            f"SELECT 'job', 's.x', {where}, 0, '{{}}'{rest} FROM generate_series(1, {rows // 10}) AS i"
        )
    await fill_archive(connection, rows)


async def fill_archive(connection: Any, rows: int) -> None:
    await connection.execute(
        f"INSERT INTO {archive.name} (id, {SHARED}, finished_at, fence, failures, crashes, expires_at) "
        f"SELECT 1000000 + i, 'job', 's.x', 'done', 'default', '', 0, 0, '{{}}', 0, 1, 0, 0, 9e9 "
        f"FROM generate_series(1, {rows}) AS i"
    )


async def compare(folder: Path, url: str, rows: int) -> tuple[dict[str, int], dict[str, int]]:
    job = Job[Any, None]("s", noop)
    async with rig(folder, job, database=url) as r:
        await job.enqueue_many(r.db, [{}] * 200)
        connection = await asyncpg.connect(url)
        try:
            await cost(connection)  # hint bits are set
            bare = await cost(connection)
            await fill(connection, rows)
            await cost(connection)
            return bare, await cost(connection)
        finally:
            await connection.close()


def flat(bare: dict[str, int], full: dict[str, int]) -> bool:
    """The indexes grow by a level or two, not by the rows."""
    return full["claim"] <= bare["claim"] * 1.2 + 20 and full["look"] <= bare["look"] + 20


async def test_a_claim_reads_as_many_pages_beside_many_other_rows(postgres_url: str, tmp_path: Path) -> None:
    bare, full = await compare(tmp_path, postgres_url, 100_000)
    assert flat(bare, full), (bare, full)


@pytest.mark.soak
async def test_a_claim_reads_as_many_pages_beside_ten_million_rows(postgres_url: str, tmp_path: Path) -> None:
    bare, full = await compare(tmp_path, postgres_url, soak(10_000_000))
    assert flat(bare, full), (bare, full)


@pytest.mark.parametrize("rows", [100_000, pytest.param(10_000_000, marks=pytest.mark.soak)])
async def test_archived_rows_cost_a_claim_nothing(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """They are in a table of their own: what varies is where the claim's own pages lie."""
    monkeypatch.setitem(globals(), "fill", fill_archive)
    bare, full = await compare(tmp_path, postgres_url, rows)
    assert full["claim"] <= bare["claim"] * 1.05, (bare, full)
    assert full["look"] == bare["look"], (bare, full)


async def test_a_look_goes_to_each_lane_once(postgres_url: str, tmp_path: Path) -> None:
    """One seek tells of a lane that there is one, and whether tenants share it: four pages, with the row."""
    async with rig(tmp_path, database=postgres_url):
        connection = await asyncpg.connect(postgres_url)
        try:
            found = []
            for upto in (100, 200):
                await connection.execute(
                    f"INSERT INTO {message.name} ({SHARED}, run_at) SELECT 'job', 's.x', 'ready', 'default', "
                    f"'lane ' || i, 0, 0, '{{}}', 0 FROM generate_series({upto - 99}, {upto}) AS i"
                )
                await cost(connection)
                found.append((await cost(connection))["look"])
        finally:
            await connection.close()
    assert found[1] - found[0] <= 100 * 5


async def test_without_its_index_a_claim_is_found_out(
    postgres_url: str, tmp_path: Path, monkeypatch: Any
) -> None:
    real = fill

    async def fill_and_drop(connection: Any, rows: int) -> None:
        await real(connection, rows)
        await connection.execute("DROP INDEX tenfold_message_ready")

    monkeypatch.setitem(globals(), "fill", fill_and_drop)
    bare, full = await compare(tmp_path, postgres_url, 10_000)
    assert not flat(bare, full)


@pytest.mark.parametrize("analyzed", [False, True])
async def test_a_plan_made_for_an_empty_table_does_not_read_a_full_one(
    postgres_url: str, tmp_path: Path, analyzed: bool
) -> None:
    """Connections keep their plans; those that are made when there is nothing yet have to be good for ever."""
    async with rig(tmp_path, database=postgres_url):
        connection = await asyncpg.connect(postgres_url)
        try:
            if analyzed:
                await connection.execute("VACUUM ANALYZE")
            await connection.execute("SET plan_cache_mode = force_generic_plan")
            scans = [scan for name in STATEMENTS for scan in await scans_of(connection, name)]
        finally:
            await connection.close()
    assert len(scans) > len(STATEMENTS) / 2
    assert [scan for scan in scans if not by_index(scan)] == []


STATEMENTS = sorted(name for name, value in vars(statements).items() if isinstance(value, sa.TextClause))


async def scans_of(connection: Any, name: str) -> list[dict[str, Any]]:
    """How one statement finds its messages."""
    import json

    prepared = await connection.prepare(numbered(getattr(statements, name)))
    types = [parameter.name for parameter in prepared.get_parameters()]
    of = f"({', '.join(types)})" if types else ""
    await connection.execute(f"PREPARE p{of} AS {numbered(getattr(statements, name))}")
    nulls = f"({', '.join('NULL' for _ in types)})" if types else ""
    rows = await connection.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE p{nulls}")
    await connection.execute("DEALLOCATE p")
    found: list[dict[str, Any]] = []

    def walk(node: dict[str, Any]) -> None:
        if node.get("Relation Name") == message.name and "Scan" in node["Node Type"]:
            found.append({"statement": name, **node})
        for child in node.get("Plans", ()):
            walk(child)

    walk(json.loads(rows[0][0])[0]["Plan"])
    return found


def by_index(scan: dict[str, Any]) -> bool:
    """By the place that a subselect has found, by a condition that an index answers, or along a partial index."""
    if scan["Node Type"] in ("Tid Scan", "Bitmap Heap Scan"):
        return True
    return "Index Cond" in scan or scan.get("Index Name", "").removeprefix("tenfold_message_") in PARTIAL


PARTIAL = {index.name.removeprefix("tenfold_message_") for index in message.indexes if index.name}
