"""A flow gets the event it waits for, whatever carries it and however long its key is."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from msgspec import Struct

from tenfold import App, Flow, Service
from tenfold._core.container import injected

pytestmark = pytest.mark.anyio

LONG = "s" * 40
"""As the names of service and topic, and with a key of 400 characters, more than the queue's column holds."""


class Shipped(Struct):
    parcel: int


@pytest.fixture(params=["embedded", "memory", "redis"])
def broker(request: pytest.FixtureRequest, prefix: str) -> str:
    if request.param == "redis":
        url: str = request.getfixturevalue("redis_url")
        return url
    return "" if request.param == "embedded" else f"memory:{prefix}"


@pytest.mark.parametrize("name", ["s", LONG])
@pytest.mark.parametrize("key", ["7", "k" * 400])
async def test_a_flow_gets_the_event_of_its_key(
    tmp_path: Path, broker: str, prefix: str, name: str, key: str
) -> None:
    service = Service(name)
    db = service.database(sa.MetaData())
    shipped = service.topic(name, Shipped)

    @service.job(result_ttl=60, events=[shipped])
    async def fulfil(key: str, flow: Flow = injected()) -> int:
        return (await flow.event(shipped, key=key, timeout=5.0)).parcel

    app = App("flows", [service])
    async with app.test(events__url=broker, events__prefix=prefix, app__data_dir=str(tmp_path)) as t:
        handle = await fulfil.enqueue(db, key=key)
        await t.run_jobs()
        assert (await handle.status()).state == "delayed"
        async with db.tx() as tx:
            await shipped.publish(tx, Shipped(1), key=key + "y" if len(key) < 400 else "z" * 400)
            await shipped.publish(tx, Shipped(2), key=key)
        await t.run_jobs()
        assert await handle.result() == 2
