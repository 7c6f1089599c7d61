"""An event with a key, published alone, is written before its transaction commits, not after."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from tenfold import App, Service

KEY_MUST_BE_HELD = (
    """CREATE FUNCTION must_hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted) THEN
        RAISE EXCEPTION 'the key is not held any more'; END IF; RETURN NEW; END $$""",
    "CREATE TRIGGER must_hold BEFORE INSERT ON tenfold_outbox FOR EACH ROW EXECUTE FUNCTION must_hold()",
)
"""Has the server itself refuse events that are written after their key was let go, with the commit."""


class Placed(msgspec.Struct):
    number: int


@pytest.mark.anyio
@pytest.mark.parametrize("count", [1, 3])
async def test_an_event_with_a_key_is_written_before_the_commit(
    postgres_url: str, tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Holding the key is the first statement, and must not be announced as the last: it would take the commit along."""
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
            for statement in KEY_MUST_BE_HELD:
                await tx.execute(sa.text(statement))
        async with db.tx() as tx:
            for number in range(count):
                await placed.publish(tx, Placed(number), key="k")
        rows = await db.read().all(sa.text("SELECT event_key FROM tenfold_outbox"), str)
        assert rows == ["k"] * count
    finally:
        await app.stop()
