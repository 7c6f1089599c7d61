"""From an event to a receiver on loopback, through a real worker on every database."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest
from standardwebhooks import Webhook

from support.webhooks import Placed, Receiver, Rig
from tenfold.webhooks.policy import Patience

pytestmark = pytest.mark.anyio

EVENTS = 60
NO = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
YES = b"HTTP/1.1 204 Yes\r\n\r\n"


@pytest.fixture(params=["sqlite", "postgres", pytest.param("mariadb", marks=pytest.mark.soak)])
def url(request: pytest.FixtureRequest) -> str:
    """Of a database; empty for the embedded one."""
    name: str = request.param
    return "" if name == "sqlite" else str(request.getfixturevalue(f"{name}_url"))


async def test_a_flaky_receiver_gets_every_event_that_was_committed_and_no_other(
    url: str, tmp_path: Path
) -> None:
    """Every third attempt fails, another third of the connections break off; half of the transactions roll back."""
    rig = Rig(Patience(schedule_s=(0.02,) * 30, disable_after_failures=1000))
    settings = {"database__url": url} if url else {}
    rig.app.configure(
        None, environ={}, app__data_dir=str(tmp_path), webhooks__allow=["127.0.0.0/8"], **settings
    )
    chance = random.Random(3)
    answers = [chance.choice([NO, b"", YES]) for _ in range(EVENTS * 2)]
    async with Receiver([*answers, YES]).running() as receiver, rig.app.lifespan():
        async with rig.db.tx() as tx:
            made = await rig.hooks.add(tx, f"http://127.0.0.1:{receiver.port}/", concurrency=3)
        for n in range(EVENTS):
            await rig.place(f"good-{n}")
            with pytest.raises(RuntimeError):
                await roll_back(rig, f"phantom-{n}")
        async with asyncio.timeout(30):
            while not await all_delivered(rig, made.endpoint.id):  # noqa: ASYNC110 - of a database
                await asyncio.sleep(0.05)
        log = await rig.hooks.log(made.endpoint.id, limit=500)
    assert [one.state for one in log] == ["delivered"] * EVENTS
    assert max(one.attempts for one in log) > 1
    got: dict[str, set[str]] = {}
    for head, body in (request.split(b"\r\n\r\n", 1) for request in receiver.requests):
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        Webhook(made.secret).verify(body, headers)
        got.setdefault(msgspec.json.decode(body)["data"]["order"], set()).add(headers["webhook-id"])
    assert set(got) == {f"good-{n}" for n in range(EVENTS)}
    assert all(len(ids) == 1 for ids in got.values()), "an event came under two ids"


async def roll_back(rig: Rig, order: str) -> None:
    async with rig.db.tx() as tx:
        await rig.placed.publish(tx, Placed(order))
        raise RuntimeError


async def all_delivered(rig: Rig, endpoint_id: str) -> bool:
    log = await rig.hooks.log(endpoint_id, limit=500)
    return len(log) == EVENTS and all(one.state == "delivered" for one in log)
