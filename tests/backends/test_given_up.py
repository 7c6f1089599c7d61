"""An event that was given up has no place in the order of its key until somebody brings it back, on every database."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from support.queues import Rig, add_effect, rig
from tenfold.db import Tx
from tenfold.events import Subscription, Topic
from tenfold.jobs import Retry
from tenfold.queue.testing import run_pending

pytestmark = pytest.mark.anyio


class Placed(msgspec.Struct):
    order: int


placed = Topic("orders", "placed", Placed)


@pytest.fixture(params=["sqlite", "postgres_url", "mariadb_url"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = "sqlite:///app.db" if request.param == "sqlite" else request.getfixturevalue(request.param)
    return found


async def deliver_again(r: Rig) -> None:
    """Everything that is pending, in order: as an intake does that stood still before it could acknowledge."""
    async with r.db.tx() as tx:
        await tx.execute(
            sa.text(
                "INSERT INTO tenfold_message (kind, handler, state, queue, lane, priority, run_at, created_at, payload,"
                " event_id, order_key) SELECT kind, handler, CASE WHEN order_key IS NULL THEN 'ready' ELSE 'waiting' END,"
                " queue, lane, 0, 0, 0, payload, event_id, order_key FROM tenfold_message ORDER BY id"
            )
        )


@pytest.mark.parametrize("ending", ["dead", "cancelled"])
async def test_what_was_given_up_takes_no_effect_behind_what_follows_it(
    tmp_path: Path, url: str, ending: str
) -> None:
    """Another delivery of it waits in its line; only who retries it has it handled, and once."""
    sound = ending == "cancelled"

    async def fragile(event: Placed, tx: Tx) -> None:
        if event.order == 1 and not sound:
            raise ValueError
        await tx.execute(add_effect, what=f"{event.order}")

    subscription = Subscription("fragile", placed, fragile, retry=Retry(attempts=1))
    async with rig(tmp_path, subscription, database=url) as r:
        for n in (1, 2):
            async with r.db.tx() as tx:
                await placed.publish(tx, Placed(n), key="customer 1")
        await deliver_again(r)
        first = min(await r.states())
        if ending == "cancelled":
            await r.admin.cancel(first)
        await run_pending(r.worker())
        assert await r.did() == ["2"]
        assert [state for _, state in sorted((await r.states()).items())] == [ending, "done", "done", "done"]
        sound = True
        await r.admin.retry(first)
        await deliver_again(r)
        await run_pending(r.worker())
        assert await r.did() == ["2", "1"]


async def test_an_event_that_another_delivery_has_handled_stays_handled(tmp_path: Path, url: str) -> None:
    """Also when its first delivery is cancelled after that, and retried."""

    async def reserve(event: Placed, tx: Tx) -> None:
        await tx.execute(add_effect, what=f"{event.order}")

    async with rig(tmp_path, Subscription("reserve", placed, reserve), database=url) as r:
        async with r.db.tx() as tx:
            await placed.publish(tx, Placed(1))
        first = min(await r.states())
        await deliver_again(r)
        async with r.db.tx() as tx:
            late = "UPDATE tenfold_message SET state = 'delayed', run_at = 9e9 WHERE id = :id"
            await tx.execute(sa.text(late), id=first)
        await run_pending(r.worker())
        await r.admin.cancel(first)
        await r.admin.retry(first)
        await run_pending(r.worker())
        assert await r.did() == ["1"]
