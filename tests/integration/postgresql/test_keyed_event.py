"""An event with a key, published alone, is written before its transaction commits, not after."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from tenfold import App, Service
from tenfold.db.backends._postgresql_tx import PgTx


class Placed(msgspec.Struct):
    number: int


@pytest.mark.anyio
@pytest.mark.parametrize("count", [1, 3])
async def test_an_event_with_a_key_is_written_before_the_commit(
    postgres_url: str, tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Holding the key is the first statement, and must not be announced as the last: it would take the commit along."""
    announced: list[PgTx] = []
    commit_with_next = PgTx.commit_with_next
    monkeypatch.setattr(PgTx, "commit_with_next", lambda tx: (announced.append(tx), commit_with_next(tx)))
    monkeypatch.setenv("TENFOLD_DATABASE_URL", postgres_url)
    monkeypatch.setenv("TENFOLD_EVENTS_URL", "memory:keyed")
    monkeypatch.setenv("TENFOLD_APP_DATA_DIR", str(tmp_path))
    service = Service("one")
    db = service.database(sa.MetaData())
    placed = service.topic("placed", Placed)
    app = App("one", [service])
    await app.start(worker=False)
    try:
        announced.clear()
        async with db.tx() as tx:
            for number in range(count):
                await placed.publish(tx, Placed(number), key="k")
        assert not announced
        rows = await db.read().all(sa.text("SELECT event_key FROM tenfold_outbox"), str)
        assert rows == ["k"] * count
    finally:
        await app.stop()
