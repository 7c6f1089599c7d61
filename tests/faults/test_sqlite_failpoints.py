"""An exception at any point of begin, commit or acknowledgement is told to its callers, and the next one works."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import Path

import pytest

from support.orders_db import Order, add_order, opened, orders_in
from tenfold import errors
from tenfold._core.failpoints import KNOWN, FailpointError, failpoints
from tenfold.db import Database

pytestmark = pytest.mark.anyio
POINTS = [point for point in KNOWN if point.startswith("db.")]
TOLD_AND_WRITTEN = {
    "db.begin.after": (1, 7),  # only the one that began is hit
    "db.commit.before": (8, 0),
    "db.commit.after": (8, 8),  # the outcome is unknown to who was told
    "db.acknowledge.before": (8, 8),
}


@pytest.fixture(autouse=True)
def off_afterwards() -> Generator[None]:
    yield
    failpoints.configure("")


async def place(db: Database) -> None:
    async with db.tx() as tx:
        await tx.one(add_order, Order, customer="c")


@pytest.mark.parametrize("point", POINTS)
async def test_an_exception_there_is_told_and_the_writer_goes_on(tmp_path: Path, point: str) -> None:
    async with opened(tmp_path) as db, asyncio.timeout(10):
        for _ in range(5):
            await place(db)
        failpoints.configure(f"{point}=error@1")
        outcomes = await asyncio.gather(*(place(db) for _ in range(8)), return_exceptions=True)
        told = [o for o in outcomes if o is not None]
        assert all(isinstance(o, FailpointError | errors.OutcomeUnknown) for o in told)
        kept = await orders_in(db) - 5
        assert (len(told), kept) == TOLD_AND_WRITTEN[point]
        await place(db)
        assert await orders_in(db) == 5 + kept + 1


def test_every_point_has_an_expectation() -> None:
    assert list(TOLD_AND_WRITTEN) == POINTS
