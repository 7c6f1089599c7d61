"""Two instances behave as one, and lose nothing when what they stand on goes away. The guide's own steps, from one
process on SQLite, are run by tests/docs."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest

from support.fleet import Fleet, Instance
from support.orphans import die_with_parent
from support.shop_server import EXAMPLES

INVOICES = 60
MUG = {"lines": [{"sku": "MUG-001", "quantity": 1}]}


@pytest.mark.timeout(120)
def test_two_instances_sell_a_ledger_to_the_penny_while_redis_and_one_of_them_are_killed(
    fleet: Fleet,
) -> None:
    says_where_its_data_is(fleet.a)
    reads_what_it_wrote_from_a_replica_that_is_behind(fleet)
    ledger = write_ledger(fleet.folder / "ledger.csv")
    with replay(ledger, fleet.b) as selling:
        with Buyer(fleet) as buyer:
            buyer.wait_for(orders=5)
            fleet.redis.kill()
            buyer.wait_for(refused=3, listings=20)
            fleet.redis.start()
            buyer.wait_for(orders=5)
        fleet.a.process.kill()
        out, errors = selling.communicate(timeout=90)
    assert "difference=0.00" in out, errors
    assert f"orders={INVOICES} " in out
    assert f"receipts={INVOICES} " in out
    assert not buyer.wrong
    with fleet.b.client() as client:
        orders = client.get("/orders", params={"size": 100}).json()
    assert orders["total"] == len(buyer.placed) + 1, "one for each key, however often it was sent"
    assert {order["id"] for order in orders["items"]} >= set(buyer.placed)


def says_where_its_data_is(instance: Instance) -> None:
    assert re.search(
        r"Database +postgresql://tenfold:••••••@.*\n.*Replicas +1\n.*Cache +redis:.*\n.*Guards +redis:",
        instance.process.output,
    )
    health = httpx2.get(f"{instance.ops_url}/health/ready", timeout=10.0).json()
    assert health["checks"][0]["sentence"] == "The database answers; replicas in use: 1 of 1."


def reads_what_it_wrote_from_a_replica_that_is_behind(fleet: Fleet) -> None:
    """B reads from the replica, which has not got the order; only its buyer's token sends the read elsewhere."""
    with fleet.a.client() as buyer, fleet.b.client() as stranger:
        fleet.standby.catch_up()
        fleet.standby.pause()
        placed = order(buyer, fleet.a, str(uuid.uuid4()))
        assert placed.status_code == 201, placed.text
        path = f"{fleet.b.url}/orders/{placed.json()['id']}"
        assert buyer.get(path).json() == placed.json()
        assert stranger.get(path).status_code == 404
        fleet.standby.resume()
        fleet.standby.catch_up()
        assert stranger.get(path).json() == placed.json()
    assert fleet.b.metric("tenfold_db_replica_reads_total") > 0
    assert fleet.b.metric("tenfold_db_reads_on_primary_total") > 0


def order(client: httpx2.Client, at: Instance, key: str) -> httpx2.Response:
    return client.post(f"{at.url}/orders", json=MUG, headers={"idempotency-key": key})


class Buyer:
    """Orders at A, repeats what is refused with its key, and reads at B at once: from ``__enter__`` to ``__exit__``."""

    def __init__(self, fleet: Fleet) -> None:
        self.placed: list[str] = []
        self.wrong: list[str] = []
        """Answers that nobody may get."""
        self._fleet = fleet
        self._counts = {"orders": 0, "refused": 0, "listings": 0}
        self._more = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def wait_for(self, **more: int) -> None:
        """Until so many more of each were counted."""
        with self._more:
            wanted = {name: self._counts[name] + count for name, count in more.items()}
            reached = self._more.wait_for(
                lambda: all(self._counts[name] >= count for name, count in wanted.items()), 30
            )
            assert reached, (self._counts, self.wrong[:3])

    def _run(self) -> None:
        try:
            with self._fleet.a.client() as client:
                while not self._stop.is_set():
                    self._buy(client)
        except Exception as error:  # shown by the test that waits
            self.wrong.append(repr(error))

    def _buy(self, client: httpx2.Client) -> None:
        key = str(uuid.uuid4())
        while (answer := order(client, self._fleet.a, key)).status_code != 201:
            self._expect(answer.status_code == 503 and int(answer.headers["retry-after"]) > 0, answer)
            self._count("refused")
            self._list(client)
            if self._stop.wait(0.02):
                return
        self.placed.append(answer.json()["id"])
        found = client.get(f"{self._fleet.b.url}/orders/{answer.json()['id']}")
        self._expect(found.status_code == 200 and found.json() == answer.json(), found)
        self._count("orders")
        self._list(client)

    def _list(self, client: httpx2.Client) -> None:
        listing = client.get(f"{self._fleet.b.url}/products")
        self._expect(listing.status_code == 200, listing)
        self._count("listings")

    def _expect(self, right: bool, answer: httpx2.Response) -> None:
        if not right:
            self.wrong.append(f"{answer.status_code} {answer.request.url} {answer.text}")

    def _count(self, what: str) -> None:
        with self._more:
            self._counts[what] += 1
            self._more.notify_all()


@contextmanager
def replay(ledger: Path, at: Instance) -> Generator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "shop.replay", str(ledger), "--url", at.url, "--concurrency", "4"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=EXAMPLES, **pipes, preexec_fn=die_with_parent) as process:
        try:
            yield process
        finally:
            process.kill()


def write_ledger(path: Path) -> Path:
    """Invoices of three lines, all of one day long ago."""
    lines = ["InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"]
    lines += [
        f"{9000 + n},L{(n + k) % 40},LAMP {(n + k) % 40},{1 + n % 7},12/1/2010 10:{n % 60:02},{k + 1}.{n % 100:02},{n % 9},France"
        for n in range(INVOICES)
        for k in range(3)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path
