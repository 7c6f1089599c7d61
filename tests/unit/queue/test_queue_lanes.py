"""Services that share a database and not a process: each worker claims what it can run, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.queues import Rig, add_effect, rig
from tenfold.db import Tx
from tenfold.jobs import Job
from tenfold.queue.lanes import WHOLE, Lanes
from tenfold.queue.options import LIMITED
from tenfold.queue.policy import Lane
from tenfold.queue.testing import run_pending

pytestmark = pytest.mark.anyio


async def write(what: str, tx: Tx) -> None:
    await tx.execute(add_effect, what=what)


def test_an_app_that_runs_whole_has_no_lanes_of_services() -> None:
    assert [WHOLE.of("orders.send"), WHOLE.of("orders.send", LIMITED)] == ["", LIMITED]
    assert all(WHOLE.here(Lane("q", name)) for name in ("", LIMITED, "@orders", "orders.send"))


def test_a_service_has_a_lane_of_its_own_and_what_belongs_to_none_is_everybodys() -> None:
    lanes = Lanes(["orders", "mail"], ["mail"])
    assert [lanes.of(name) for name in ("orders.place", "mail.send", "tenfold.work")] == [
        "@orders",
        "@mail",
        "",
    ]
    assert [lanes.of("mail.send", LIMITED), lanes.of("mail.send", "mail.send")] == ["*@mail", "mail.send"]
    mine = ["", LIMITED, "!", "@orders", "!@orders", "*@orders", "orders.place"]
    theirs = ["@mail", "!@mail", "*@mail", "mail.send", "!mail.send"]
    assert [name for name in (*mine, *theirs) if lanes.here(Lane("q", name))] == mine


def serving(r: Rig, *services: str) -> Any:
    """A worker of a process that serves these of the services ``orders`` and ``mail``, and puts in as such."""
    r.queue.lanes = Lanes(["orders", "mail"], {"orders", "mail"} - {*services})
    return r.worker(handlers={n: h for n, h in r.handlers.items() if h.service in {*services, "tenfold"}})


async def test_a_worker_leaves_what_is_of_other_services_where_it_stands(tmp_path: Path) -> None:
    place, send = Job[Any, None]("orders", write, name="place"), Job[Any, None]("mail", write, name="send")
    async with rig(tmp_path, place, send) as r:
        orders = serving(r, "orders")
        await place.enqueue(r.db, "placed")
        await send.enqueue(r.db, "sent")
        assert await run_pending(orders) == 1
        assert await r.did() == ["placed"]
        assert orders.stats()["claimed"] == 1, "what is of others is not even claimed"
        assert await run_pending(serving(r, "mail")) == 1
        assert await r.did() == ["placed", "sent"]


async def test_what_was_put_in_before_a_service_moved_out_finds_its_way(tmp_path: Path) -> None:
    place, send = Job[Any, None]("orders", write, name="place"), Job[Any, None]("mail", write, name="send")
    async with rig(tmp_path, place, send) as r:
        handle = await send.enqueue(r.db, "sent")  # by a process that serves everything
        orders = serving(r, "orders")
        await run_pending(orders)
        assert (await handle.status()).state == "ready", "it is set over, and not parked for half a minute"
        await run_pending(serving(r, "mail"))
        assert await r.did() == ["sent"]


async def test_a_worker_of_everything_takes_what_processes_of_one_service_put_in(tmp_path: Path) -> None:
    send = Job[Any, None]("mail", write, name="send")
    async with rig(tmp_path, send) as r:
        serving(r, "orders")
        await send.enqueue(r.db, "sent")
        r.queue.lanes = WHOLE
        await run_pending(r.worker())
        assert await r.did() == ["sent"]
