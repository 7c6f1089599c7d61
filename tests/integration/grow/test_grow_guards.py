"""What the guards had begun when the database was held ends on the database that it moved to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.moving import Move
from support.orders_db import opened
from tenfold._core.context import Context, use
from tenfold.guard.backends._sql_idempotency import SqlIdempotencyStore
from tenfold.guard.backends._sql_idempotency import table as keys
from tenfold.guard.backends._sql_leases import SqlLeases
from tenfold.guard.backends._sql_leases import table as leases
from tenfold.guard.backends._sql_limits import SqlLimits
from tenfold.guard.backends._sql_limits import table as limits
from tenfold.guard.keys import KeyRecord, StoredReply

pytestmark = pytest.mark.anyio

RECORD = KeyRecord("same", "mine", 15.0, 60.0)
CELL = ("cell", 1_000, 10_000)


@pytest.fixture(params=["to a server", "back"])
async def move(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str, anyio_backend: str
) -> AsyncGenerator[Move]:
    metadata = sa.MetaData()
    for table in (keys, leases, limits):
        table.to_metadata(metadata)
    async with AsyncExitStack() as stack:
        small = await stack.enter_async_context(opened(tmp_path, metadata=metadata))
        large = await stack.enter_async_context(opened(tmp_path, url=postgres_url, metadata=metadata))
        yield Move(small, large) if request.param == "to a server" else Move(large, small)


async def test_a_key_is_claimed_where_the_database_is_then(move: Move) -> None:
    """It was looked for before the hold, and is claimed after it: a request in between must not fail."""
    store = SqlIdempotencyStore(move.db)
    assert await store.find("s", "k") is None
    assert await move.during(store.claim("s", "k", RECORD)) is True
    found = await store.find("s", "k")
    assert found is not None
    assert found.claim == "mine"


KEYED: dict[str, Callable[[SqlIdempotencyStore], Awaitable[object]]] = {
    "find": lambda store: store.find("s", "k"),
    "renew": lambda store: store.renew([("s", "k", "mine")], 15.0),
    "prune": lambda store: store.prune(10),
}
LEASED: dict[str, Callable[[SqlLeases], Awaitable[object]]] = {
    "acquire": lambda store: store.acquire("l", 15.0),
    "renew": lambda store: store.renew("l", 1, 15.0),
    "release": lambda store: store.release("l", 1),
    "holder": lambda store: store.holder("l"),
}
LIMITED: dict[str, Callable[[SqlLimits], Awaitable[object]]] = {
    "take": lambda store: store.take([CELL]),
    "take two": lambda store: store.take([CELL, ("other", 1_000, 10_000)]),
    "prune": lambda store: store.prune(10),
}


@pytest.mark.parametrize("name", KEYED)
async def test_keys_are_kept_on_the_database_that_is_bound_then(move: Move, name: str) -> None:
    await move.during(KEYED[name](SqlIdempotencyStore(move.db)))


@pytest.mark.parametrize("name", LEASED)
async def test_leases_are_kept_on_the_database_that_is_bound_then(move: Move, name: str) -> None:
    await move.during(LEASED[name](SqlLeases(move.db)))


@pytest.mark.parametrize("name", LIMITED)
async def test_limits_are_counted_on_the_database_that_is_bound_then(move: Move, name: str) -> None:
    await move.during(LIMITED[name](SqlLimits(move.db)))


async def test_a_reply_without_an_effect_is_kept_where_the_database_is_then(move: Move) -> None:
    store = SqlIdempotencyStore(move.db)
    with use(Context()):
        attempt = store.attempt("s", "k", "mine")
        kept = await move.during(attempt.complete(StoredReply(422, (), b"no"), 60.0, effect=False))
    assert kept is False, "this database has not been told of the claim, and says so"
