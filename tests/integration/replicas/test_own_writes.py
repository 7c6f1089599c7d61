"""G12: nobody reads behind their own write on replicas that lag unevenly, whatever way the write's news took.

A register counts its writes. Each pair is a write and a later read by whoever is to know of it: the same request, a
later request of the same client, the caller of a call between services, the job and the event that the write has put
in. A read that gives a lower number is stale. Every way is also broken once, which has to show.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support import registers
from support.cluster import Cluster, client, eventually, serving, uneven
from support.registers import WAYS, judge, pairs, stale
from support.trials import Trials, soak
from tenfold.db.replicas import Replicas
from tenfold.testing.client import Client

pytestmark = pytest.mark.anyio

CLIENTS = 20


def copies() -> Replicas:
    found = registers.db.replicas
    assert found is not None
    return found


async def write_and_read(own: Client, way: str, key: int, pause_s: float) -> None:
    written = (await own.post(f"/{way}/{key}")).expect(200).json()
    await asyncio.sleep(pause_s)
    judge("HTTP", written, (await own.get(f"/registers/{key}")).expect(200).json())


async def visits(app: Any, number: int, seconds: float) -> None:
    """One client: writes in every way, and reads after a while in which the replicas may have changed."""
    rng, own, loop = random.Random(number), client(app), asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        way, key = rng.choice(["registers", "called", "later"]), number * 10 + rng.randrange(10)
        await write_and_read(own, way, key, rng.choice([0, 0, 0.05, rng.uniform(0, 0.5)]))


async def crowd(app: Any, seconds: float) -> None:
    """Many clients at once; returns when their jobs and events were handled too."""
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(visits(app, number, seconds))
    await eventually(lambda: pairs["job"] == pairs["event"] == pairs["sent"])


async def test_no_read_goes_back_behind_its_callers_write(
    cluster: Cluster, database: str, tmp_path: Path, trials: Trials
) -> None:
    app = registers.app(cluster.primary.url(database), *cluster.urls(database), data_dir=tmp_path)
    async with serving(app), uneven(cluster.standbys, 1.0):
        await crowd(app, 4.0)
        assert not +stale, f"of {dict(pairs)}"
        assert all(pairs[way] > 20 for way in WAYS), pairs
        assert all(node.reads > 20 for node in copies().nodes), "a replica answered no reads"
        assert copies().on_primary > 20, "no replica ever lagged"
        trials("G12", sum(pairs[way] for way in WAYS), "postgresql")


@pytest.mark.soak
async def test_no_read_goes_back_in_a_hundred_thousand_pairs(
    cluster: Cluster, database: str, tmp_path: Path, trials: Trials
) -> None:
    app = registers.app(cluster.primary.url(database), *cluster.urls(database), data_dir=tmp_path)
    async with serving(app), uneven(cluster.standbys, 10.0):
        while sum(pairs[way] for way in WAYS) < soak(100_000):
            await crowd(app, 20.0)
        assert not +stale, f"of {dict(pairs)}"
        assert all(node.reads for node in copies().nodes), "a replica answered no reads"
        trials("G12", sum(pairs[way] for way in WAYS), "postgresql")


# ── each way by itself, and broken ────────────────────────────────────────────────────────────────


@asynccontextmanager
async def frozen(cluster: Cluster, database: str, folder: Path) -> AsyncGenerator[Client]:
    """A client of the app while no replica applies anything, which nobody has noticed yet."""
    app = registers.app(cluster.primary.url(database), *cluster.urls(database), data_dir=folder)
    async with serving(app):
        await eventually(lambda: all(node.position >= copies().floor for node in copies().nodes))
        await cluster.pause()
        try:
            yield client(app)
        finally:
            await cluster.resume()


async def once_in_every_way(own: Client) -> None:
    for key, way in enumerate(("registers", "called", "later")):
        own.cookies.clear()  # or else the token of one way would make up for another's
        await write_and_read(own, way, key, 0.0)
    await eventually(lambda: pairs["job"] == pairs["event"] == 1)


async def test_every_way_carries_the_token(cluster: Cluster, database: str, tmp_path: Path) -> None:
    async with frozen(cluster, database, tmp_path) as own:
        await once_in_every_way(own)
    assert set(pairs) >= set(WAYS)
    assert not +stale


@pytest.mark.parametrize(
    ("where", "broken", "ways"),
    [
        ("tenfold.db.replicas.Replicas.committed", lambda *_: None, set(WAYS)),
        ("tenfold.http.causal.token_in", lambda _: "", {"HTTP"}),
        ("tenfold.rpc.local.merged", lambda token, _: token, {"call", "HTTP"}),
        ("tenfold.queue.runner.merged", lambda *_: "", {"job", "event"}),
    ],
    ids=["writes", "HTTP", "calls", "messages"],
)
async def test_a_token_that_is_dropped_on_the_way_shows(
    where: str, broken: Any, ways: set[str], cluster: Cluster, database: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(where, broken)
    async with frozen(cluster, database, tmp_path) as own:
        await once_in_every_way(own)
    assert set(+stale) == ways


# ── what the token looks like from outside ────────────────────────────────────────────────────────


async def test_only_replies_to_requests_that_wrote_carry_a_token(
    cluster: Cluster, database: str, tmp_path: Path
) -> None:
    async with frozen(cluster, database, tmp_path) as own:
        for path in ("/registers/1", "/quiet/1"):
            headers = (await own.get(path)).headers
            assert "tenfold-causal" not in headers
            assert "set-cookie" not in headers
        wrote = (await own.post("/registers/1")).headers
        assert wrote["tenfold-causal"] in wrote["set-cookie"]
        assert "Max-Age=300" in wrote["set-cookie"]
        assert "set-cookie" not in (await own.get("/registers/1")).headers


async def test_a_client_without_cookies_sends_the_header_and_gets_no_cookie(
    cluster: Cluster, database: str, tmp_path: Path
) -> None:
    async with frozen(cluster, database, tmp_path) as own:
        token = (await own.post("/registers/1")).headers["tenfold-causal"]
        own.cookies.clear()
        own.headers["tenfold-causal"] = token
        assert (await own.get("/registers/1")).json() == 1
        second = (await own.post("/registers/1")).headers
        assert "set-cookie" not in second
        assert second["tenfold-causal"] != token


async def test_a_repeated_request_gets_a_token_for_the_effect_that_it_repeats(
    cluster: Cluster, database: str, tmp_path: Path
) -> None:
    """The first reply may never have arrived, and its token neither."""
    key = {"idempotency-key": "5c1d9a0e"}
    async with frozen(cluster, database, tmp_path) as own:
        (await own.post("/keyed/1", headers=key)).expect(200)
        own.cookies.clear()
        again = (await own.post("/keyed/1", headers=key)).expect(200)
        assert again.headers["idempotency-replayed"] == "true"
        assert (await own.get("/registers/1")).json() == again.json() == 1


async def test_a_forged_token_harms_nobody(cluster: Cluster, database: str, tmp_path: Path) -> None:
    async with frozen(cluster, database, tmp_path) as own:
        for key, token in enumerate(("nonsense", "1.0-ffffffff-ffffffffffffffff", "*", "x" * 4000)):
            path, forged = f"/registers/{key}", {"tenfold-causal": token}
            assert (await own.get(path, headers=forged)).expect(200).json() == 0
            (await own.post(path, headers=forged)).expect(200)
            assert (await own.get(path)).expect(200).json() in (0, 1)
