"""G5 and part of G19: a keyed request whose instance is killed under it is sent to another one, and happens once.

Two processes serve one database. The first one dies by SIGKILL in mid-request, before the commit or between the commit
and the reply; its client asks the second one, as often as that says 409, until there is a reply.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from support.keyed_app import app
from support.process import Process
from support.servers import free_port
from support.trials import Trials, soak
from tenfold.testing.client import Client

PATIENCE_S = 30.0


@contextmanager
def instances(
    folder: Path, url: str, count: int = 2, *, broken: str = "", dies: str = "1"
) -> Generator[list[str]]:
    """So many processes on one database; their addresses. The first one is mortal."""
    addresses: list[str] = []
    with ExitStack() as stack:
        for n in range(count):
            port, ops = free_port(), free_port()
            given = {
                "TENFOLD_DATABASE_URL": url, "TENFOLD_APP_ENV": "test", "TENFOLD_WORKER_ENABLED": "false",
                "TENFOLD_LOG_ACCESS": "false", "PYTHONPATH": str(Path(__file__).parents[1]),
                "KEYED_DIES": dies if n == 0 else "", "KEYED_BROKEN": broken,
            }  # fmt: skip
            command = [
                "run",
                "support.keyed_app:app",
                "--port",
                str(port),
                "--ops-port",
                str(ops),
                "--data",
                str(folder),
            ]
            argv = [sys.executable, "-m", "tenfold", *command]
            process = Process(argv, cwd=folder, env=given, ready=f"http://127.0.0.1:{ops}/health/ready")
            stack.callback(process.kill)
            process.wait_ready()
            addresses.append(f"http://127.0.0.1:{port}")
        yield addresses


def place(client: httpx2.Client, url: str, key: str, die: str = "") -> httpx2.Response:
    return client.post(
        f"{url}/orders", json={"name": key, "die": die}, headers={"Idempotency-Key": key}, timeout=PATIENCE_S
    )


def died() -> pytest.RaisesExc[httpx2.TransportError]:
    """Inside, the instance that is asked ends before it has answered."""
    return pytest.raises(httpx2.TransportError)


def retried(client: httpx2.Client, url: str, key: str, die: str) -> httpx2.Response:
    """What a client does that got no answer: ask again, and wait when it is told to."""
    until = time.monotonic() + PATIENCE_S
    while True:
        answer = place(client, url, key, die)
        if answer.status_code != 409:
            return answer
        assert time.monotonic() < until, "the key was never given up"
        time.sleep(int(answer.headers["retry-after"]))


def one_killed_request(folder: Path, url: str, moment: str, broken: str = "") -> None:
    """Raises AssertionError when the effect is not there exactly once, or the reply is another one."""
    key = f"{moment}-{time.monotonic_ns()}"
    with instances(folder, url, broken=broken) as (mortal, other), httpx2.Client() as client:
        with died():
            place(client, mortal, key, moment)
        first = retried(client, other, key, moment)
        again = place(client, other, key, moment)
        assert (first.status_code, first.json()["copies"]) == (201, 1)
        assert client.get(f"{other}/orders/{key}/copies").json() == 1
        assert ("idempotency-replayed" in first.headers) is (moment == "after")
        assert (again.content, again.headers["location"]) == (first.content, first.headers["location"])
        assert again.headers["idempotency-replayed"] == "true"


@pytest.mark.anyio
async def test_killed_between_commit_and_reply_the_other_instance_has_the_reply(
    tmp_path: Path, trials: Trials
) -> None:
    """The other instance is this process."""
    url = f"sqlite:///{tmp_path / 'app.db'}"
    with instances(tmp_path, url, 1) as (mortal,), httpx2.Client() as sender, died():
        place(sender, mortal, "k", "after")
    app.configure(
        None,
        environ={},
        app__env="test",
        app__data_dir=str(tmp_path),
        database__url=url,
        worker__enabled=False,
    )
    await app.start(worker=False)
    try:
        client = Client(app)
        order, key = {"name": "k", "die": "after"}, {"Idempotency-Key": "k"}
        first, again = [await client.post("/orders", json=order, headers=key) for _ in range(2)]
        assert (first.status, first.json()["copies"], first.content) == (201, 1, again.content)
        assert first.json()["process"] != os.getpid()
        assert first.headers["idempotency-replayed"] == "true"
        assert (await client.get("/orders/k/copies")).json() == 1
    finally:
        await app.stop()
    trials("G5", 1, url)
    trials("G19", 1, url)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_killed_in_mid_request_on_every_database(
    tmp_path: Path, trials: Trials, request: pytest.FixtureRequest, kind: str, moment: str
) -> None:
    fixtures = {"postgresql": "postgres_url", "mariadb": "mariadb_url"}
    url = request.getfixturevalue(fixtures[kind]) if kind in fixtures else f"sqlite:///{tmp_path / 'app.db'}"
    for _ in range(n := soak(20)):
        one_killed_request(tmp_path, url, moment)
    trials("G5", n, url)
    trials("G19", n, url)


@pytest.mark.soak
def test_a_build_that_does_not_look_at_keys_is_convicted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'app.db'}"
    with pytest.raises(AssertionError):
        one_killed_request(tmp_path, url, "after", broken="key")


# ── many keys, many duplicates ──


async def storm(urls: list[str], keys: int, copies: int, at_once: int) -> tuple[Counter[int], int]:
    """Every key ``copies`` times at the same time, spread over the instances: how the answers' statuses were, and how
    many keys had more than one body, or another effect than one."""
    statuses: Counter[int] = Counter()
    wrong = 0
    limits = httpx2.Limits(max_connections=at_once)
    async with httpx2.AsyncClient(limits=limits, timeout=PATIENCE_S) as client:

        async def ask(n: int, key: str) -> bytes:
            while True:
                answer = await client.post(
                    f"{urls[n % len(urls)]}/orders", json={"name": key}, headers={"Idempotency-Key": key}
                )
                statuses[answer.status_code] += 1
                if answer.status_code not in (409, 503):
                    return answer.content
                await asyncio.sleep(0.05)

        for first in range(0, keys, max(1, at_once // copies)):
            names = [f"key-{n}" for n in range(first, min(keys, first + max(1, at_once // copies)))]
            bodies = await asyncio.gather(*(ask(n, name) for name in names for n in range(copies)))
            for at, name in enumerate(names):
                same = set(bodies[at * copies : (at + 1) * copies])
                made = (await client.get(f"{urls[0]}/orders/{name}/copies")).json()
                wrong += len(same) != 1 or made != 1
    return statuses, wrong


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_of_many_keys_every_one_has_one_effect_and_one_reply(
    tmp_path: Path, trials: Trials, request: pytest.FixtureRequest, kind: str
) -> None:
    """10,000 keys with 4 duplicates each, and 20 keys with 200, on two instances."""
    fixtures = {"postgresql": "postgres_url", "mariadb": "mariadb_url"}
    url = request.getfixturevalue(fixtures[kind]) if kind in fixtures else f"sqlite:///{tmp_path / 'app.db'}"
    with instances(tmp_path, url, dies="") as urls:
        for keys, copies in ((n := soak(10_000), 4), (soak(20), 200)):
            statuses, wrong = asyncio.run(storm(urls, keys, copies, 200))
            assert wrong == 0
            assert set(statuses) <= {201, 409, 503}
            assert statuses[201] == keys * copies
    trials("G5", n, url)


@pytest.mark.soak
def test_in_a_storm_a_build_without_keys_is_convicted(tmp_path: Path) -> None:
    with instances(tmp_path, f"sqlite:///{tmp_path / 'app.db'}", broken="key", dies="") as urls:
        _, wrong = asyncio.run(storm(urls, 5, 4, 20))
    assert wrong == 5
