"""An event with a key, published alone, is written in the transaction that publishes it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from tenfold import App, Service


class Placed(msgspec.Struct):
    number: int


@pytest.mark.anyio
@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("count", [1, 3])
async def test_an_event_is_written_before_the_commit(
    postgres_url: str, tmp_path: Path, key: str | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Holding the key is the first statement, and must not be taken for the last: it would take the commit along."""
    monkeypatch.setenv("TENFOLD_DATABASE_URL", postgres_url)
    monkeypatch.setenv("TENFOLD_EVENTS_URL", "memory:keyed")
    monkeypatch.setenv("TENFOLD_APP_DATA_DIR", str(tmp_path))
    service = Service("one")
    db = service.database(sa.MetaData())
    placed = service.topic("placed", Placed)
    app = App("one", [service])
    await app.start(worker=False)
    try:
        async with db.tx() as tx:
            for number in range(count):
                await placed.publish(tx, Placed(number), key=key)
        with pytest.raises(RuntimeError, match="rolled back"):
            async with db.tx() as tx:
                await placed.publish(tx, Placed(99), key=key)
                raise RuntimeError("rolled back")
        rows = await db.read().all(sa.text("SELECT event_key FROM tenfold_outbox"), str)
        assert len(rows) == count
    finally:
        await app.stop()
