"""Three services in two processes in front of slow databases, with a log of when each of them began what, and until when.

``front`` runs in the test: its operation calls ``desk`` inside the process, which calls ``store`` by HTTP. ``back`` is a
process of its own: ``store`` calls ``rows`` inside it, and that runs a slow statement. All times are of the machine's
monotonic clock, which its processes share. ``DEADLINE_BROKEN`` makes builds that a test has to find out.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import msgspec
import sqlalchemy as sa

from tenfold import App, Database, Service, current, public
from tenfold._core.clock import SystemClock
from tenfold._core.context import Context, use
from tenfold._core.resolve import backend_class
from tenfold._core.sections import DatabaseSettings
from tenfold.db.contract import DatabaseBackend
from tenfold.errors import DatabaseError
from tenfold.rpc.local import LocalCall

BROKEN = os.environ.get("DEADLINE_BROKEN", "")
SLOW_S = 5.0
MARK = "slow trial"
_COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
SLOW = {
    "sqlite": f"{_COUNT} WHERE i <> :trial /* {MARK} */",
    "postgresql": f"SELECT pg_sleep({SLOW_S}) /* {MARK} {{trial}} */",
    "mariadb": f"SELECT sleep({SLOW_S}) /* {MARK} {{trial}} */",
}


class Entry(msgspec.Struct, frozen=True):
    """Something that a hop did."""

    hop: str
    trial: int
    at: float
    deadline: float
    """That which the hop knew; infinite without one."""


log: list[Entry] = []


def note(hop: str, trial: int) -> None:
    deadline = current().deadline
    log.append(Entry(hop, trial, time.monotonic(), 1e18 if deadline is None else deadline))


# ── the process behind ──

store, rows = Service("store"), Service("rows")
databases: dict[str, Database] = {}


@store.on_start
async def open_databases() -> None:
    for name in SLOW:
        url = os.environ.get(f"DEADLINE_{name.upper()}", "")
        if url:
            made: type[DatabaseBackend] = backend_class("db", url, where="database.url")
            settings = DatabaseSettings(pool_max=16, readers=16)
            backend = made.from_url(
                url, settings=settings, data_dir=Path(os.environ["DEADLINE_DATA"]), clock=SystemClock()
            )
            await backend.start()
            databases[name] = Database(name, sa.MetaData())
            databases[name].bind(backend)


@store.on_stop
async def close_databases() -> None:
    for database in databases.values():
        await database.backend.stop()


@store.get("/slow/{database}/{trial}", auth=public)
async def slow(database: str, trial: int) -> None:
    note("store", trial)
    await ask(database, trial)


@rows.get("/ask/{database}/{trial}", auth=public)
async def ask(database: str, trial: int) -> None:
    note("rows", trial)
    statement = sa.text(SLOW[database].format(trial=trial))
    params = {"trial": -trial} if database == "sqlite" else {}
    try:
        if BROKEN == "statement":
            with use(Context()):  # the database is told of no deadline, nor of a cancellation
                await asyncio.shield(
                    asyncio.create_task(databases[database].read().all(statement, tuple, **params))
                )
        else:
            await databases[database].read().all(statement, tuple, **params)
    except (DatabaseError, asyncio.CancelledError):
        note("ended", trial)
        raise


@store.get("/log", auth=public)
async def read_log() -> list[Entry]:
    return log


back = App("deadline-back", services=[store, rows])

# ── the process in front ──

front_service, desk = Service("front"), Service("desk")
behind = desk.http("behind", "http://127.0.0.1", attempts=1, breaker=False, ours=True)


@front_service.get("/order/{database}/{trial}", auth=public)
async def order(database: str, trial: int) -> None:
    note("front", trial)
    await check(database, trial)


@desk.get("/check/{database}/{trial}", auth=public)
async def check(database: str, trial: int) -> None:
    note("desk", trial)
    note("sent", trial)
    await behind.get("/slow/{database}/{trial}", database=database, trial=trial)


front = App("deadline-front", services=[front_service, desk])

if BROKEN == "hop":

    def forgetful(call: LocalCall, caller: Context, now: float) -> Context:
        return caller.child(deadline=now + 30.0)

    LocalCall._child = forgetful  # type: ignore[method-assign, assignment]
