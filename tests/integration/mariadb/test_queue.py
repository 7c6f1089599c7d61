"""The queue on MariaDB: claims stay cheap, keys stay in order, and MySQL's way without RETURNING answers the same."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.queues import Rig, rig
from tenfold._core.clock import SystemClock
from tenfold.db import Tx
from tenfold.queue.backends import _mysql_sql as sql
from tenfold.queue.contract import Keep
from tenfold.queue.message import Claim, NewMessage, Settlement

pytestmark = pytest.mark.anyio

KEEP = Keep(1000.0, 1000.0)
HANDLER_READS = sa.text(
    "SELECT sum(variable_value) FROM information_schema.session_status WHERE variable_name LIKE 'Handler_read%'"
)
FILL = sa.text("""
INSERT INTO tenfold_message
  (kind, handler, payload, queue, lane, priority, run_at, created_at, state, lease_until, order_key)
SELECT 'job', :handler, '{}', 'default', '', 0, 1e12 + seq, 1, :state, if(:state = 'running', 1e12, NULL),
       if(:state = 'waiting', concat('k', seq % 50), NULL)
FROM seq_1_to_5000
""")
FILL_ARCHIVE = sa.text("""
INSERT INTO tenfold_message_archive
  (id, kind, handler, state, queue, lane, priority, created_at, finished_at, payload, fence, failures, crashes,
   expires_at)
SELECT 1000000 + seq, 'job', 'h', 'done', 'default', '', 0, 1, 1, '{}', 1, 0, 0, 1e12 FROM seq_1_to_20000
""")


def message(n: int = 0, **changes: Any) -> NewMessage:
    values: dict[str, Any] = {
        "kind": "job", "handler": "h", "payload": json.dumps({"n": n, "text": "ż\\\"\n"}), "context": None,
        "queue": "default", "lane": "", "priority": 0, "run_at": 1.0, "created_at": 1.0,
    }  # fmt: skip
    return NewMessage(**{**values, **changes})


async def reads_of_one_round(r: Rig) -> int:
    """Rows and index entries that the server reads to look, claim, prolong and settle ten messages."""
    backend = r.queue.backend
    async with r.db.tx() as tx:
        await backend.insert(tx, [message(n) for n in range(10)])
    async with r.db.tx() as tx:
        before = await tx.scalar(HANDLER_READS)
        await backend.look(tx)
        claimed = await backend.claim(tx, Claim("default", "", 10), "w", 2.0, 100.0)
        await backend.extend(tx, [(m.id, m.fence) for m in claimed], 200.0, {})
        done = [Settlement(m.id, m.fence, "done") for m in claimed]
        assert await backend.settle(tx, done, 3.0, KEEP) == set()
        assert len(claimed) == 10
        return int(await tx.scalar(HANDLER_READS) - before)


async def test_a_look_reads_one_entry_per_lane_however_many_messages_are_ready(
    tmp_path: Path, mariadb_url: str
) -> None:
    async with rig(tmp_path, database=mariadb_url) as r, r.db.tx() as tx:
        await tx.execute(FILL, state="ready", handler="other")
        await tx.execute(sa.text("UPDATE tenfold_message SET lane = concat('l', id % 7)"))
        before = await tx.scalar(HANDLER_READS)
        look = await r.queue.backend.look(tx)
        assert len(look.lanes) == 7
        assert await tx.scalar(HANDLER_READS) - before < 60


async def test_a_round_reads_the_same_beside_many_other_messages(tmp_path: Path, mariadb_url: str) -> None:
    async with rig(tmp_path, database=mariadb_url) as r:
        empty = await reads_of_one_round(r)
        async with r.db.tx() as tx:
            for state in ("delayed", "running", "parked", "waiting"):
                await tx.execute(FILL, state=state, handler="other")
            await tx.execute(FILL_ARCHIVE)
        full = await reads_of_one_round(r)
    assert full < empty + 30  # a few seeks more, and not thousands
    assert empty < 400


STATEMENTS = {
    name: statement
    for name in dir(sql)
    if isinstance(statement := getattr(sql, name), sa.TextClause)
    and not name.startswith(("_", "INSERT_ONE", "LAST"))
}
ARGUMENTS = {
    "ids": "[1, 2]", "items": '[[1, 1, "done", null, null, null, null, null, null, 1.0]]', "keys": '["k"]',
    "handlers": '["h"]', "lanes": '[["h", "l"]]', "buckets": "[1, 2]", "now": 1.0, "limit": 10, "count": 10,
    "queue": "default", "lane": "", "worker": "w", "lease_until": 2.0, "until": 2.0, "subscription": "s", "event_id": "e",
    "expires_at": 1.0, "after": "", "share": "", "rows": '[["job", "h", "{}", null, "q", "", 0, 1, 1, "k", null, null, "ready", ""]]',
}  # fmt: skip


async def test_no_statement_scans_the_message_table(tmp_path: Path, mariadb_url: str) -> None:
    async with rig(tmp_path, database=mariadb_url) as r, r.db.tx() as tx:
        for state in ("ready", "delayed", "waiting"):
            await tx.execute(FILL, state=state, handler="other")
        scanning = {name: plan for name in STATEMENTS if scans(plan := await planned(tx, STATEMENTS[name]))}
    assert len(STATEMENTS) > 20
    assert scanning == {}


async def planned(tx: Tx, statement: sa.TextClause) -> list[dict[str, Any]]:
    """What the server says it would do."""
    text = statement.text.strip().partition("RETURNING")[0]
    arguments = {key: ARGUMENTS[key] for key in statement._bindparams}
    return await tx.all(sa.text(f"EXPLAIN {text}"), dict, **arguments)


def scans(plan: list[dict[str, Any]]) -> bool:
    tables = [row for row in plan if row["table"] in ("m", "h", "w", "l", "tenfold_message")]
    found = [row for row in tables if row["type"] in ("ALL", "index") and row["select_type"] != "INSERT"]
    return any(row["key"] is None or row["type"] == "ALL" for row in found)


async def test_messages_of_a_key_put_in_side_by_side_are_one_line(tmp_path: Path, mariadb_url: str) -> None:
    async with rig(tmp_path, database=mariadb_url, clock=SystemClock()) as r:
        backend = r.queue.backend

        async def put(n: int) -> None:
            async with r.db.tx() as tx:
                await backend.insert(tx, [message(n, order_key=f"k{n % 2}")])

        await asyncio.gather(*(put(n) for n in range(40)))
        done: dict[str, list[int]] = {}
        for _ in range(40):
            async with r.db.tx() as tx:
                claimed = await backend.claim(tx, Claim("default", "", 10), "w", 2.0, 1e12)
                assert len({m.order_key for m in claimed}) == len(claimed)  # one of a key at a time
                for m in claimed:
                    done.setdefault(str(m.order_key), []).append(m.id)
                await backend.settle(tx, [Settlement(m.id, m.fence, "done") for m in claimed], 3.0, KEEP)
    assert sorted(map(len, done.values())) == [20, 20]
    assert all(ids == sorted(ids) for ids in done.values())


@pytest.mark.parametrize("returning", [True, False], ids=["MariaDB", "MySQL"])
async def test_messages_are_stored_and_matched_with_and_without_returning(
    tmp_path: Path, mariadb_url: str, returning: bool
) -> None:
    async with rig(tmp_path, database=mariadb_url) as r:
        dialect: Any = r.db.backend.dialect
        dialect.insert_returning = returning
        backend = r.queue.backend
        async with r.db.tx() as tx:
            plain = await backend.insert(tx, [message(n) for n in range(5)])
            first = await backend.insert(
                tx, [message(1, unique_key="u"), message(2), message(3, unique_key="v")]
            )
            again = await backend.insert(
                tx, [message(4), message(5, unique_key="v"), message(6, unique_key="U")]
            )
            assert len({stored.id for stored in plain}) == 5
            assert [stored.existed for stored in first] == [False, False, False]
            assert [stored.existed for stored in again] == [False, True, False]
            assert again[1].id == first[2].id
            claimed = await backend.claim(tx, Claim("default", "", 100), "w", 2.0, 100.0)
        assert [m.id for m in claimed] == sorted(m.id for m in claimed)
        assert json.loads(claimed[0].payload) == {"n": 0, "text": 'ż\\"\n'}
        assert len(claimed) == 10
