"""What one user leaves in a session is not the next one's."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tenfold.db import Database

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "sql",
    ["SET SESSION time_zone = '+09:00'", "SELECT GET_LOCK('mine', 0)", "SELECT @mine := 7", "SET @mine = 7"],
)
async def test_what_one_user_sets_in_a_session_no_other_finds(db: Database, sql: str) -> None:
    state = sa.text("SELECT CONCAT(@@time_zone, COALESCE(@mine, ''), COALESCE(IS_USED_LOCK('mine'), ''))")
    before = await db.read().scalar(state)
    for _ in range(2):
        async with db.tx() as tx:
            await tx.execute(sa.text(sql))
    assert {await db.read().scalar(state) for _ in range(4)} == {before}
