"""An import is killed in the middle, again and again: it goes on where it was, and each line counts once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from support.servers import free_port
from support.shop_server import Shop

ROWS = 24_000


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("database", "kills"), [
        ("sqlite", 1),
        pytest.param("sqlite", 5, marks=pytest.mark.soak), pytest.param("postgres", 5, marks=pytest.mark.soak),
    ])  # fmt: skip
def test_each_line_counts_once_however_often_the_shop_is_killed(
    database: str, kills: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    lines = ["sku,name,category,price"]
    for n in range(ROWS):
        # Every hundredth line is wrong; every SKU of the second half was in the first: the last price counts.
        lines.append(f"!{n},x,x,1" if n % 100 == 50 else f"B-{n % (ROWS // 2)},Name {n},Bulk,{n / 100:.2f}")
    url = "" if database == "sqlite" else request.getfixturevalue(f"{database}_url")
    shop = Shop(tmp_path, free_port(), free_port(), database=url, worker_lease_s="2")
    try:
        shop.start()
        with shop.admin() as admin:
            started = admin.post("/imports", files={"products": ("b.csv", "\n".join(lines).encode())})
            assert started.status_code == 202, started.text
            id_ = started.json()["id"]
        killed = 0
        for part in range(1, kills + 1):
            if wait_until(shop, id_, ROWS * part // (kills + 2)):
                shop.kill()
                killed += 1
                shop.start()
        assert killed == kills, "the import was over before the shop could be killed"
        wait_until(shop, id_, ROWS + 2)
        with shop.admin() as admin:
            found = admin.get(f"/imports/{id_}").json()
            wrong = ROWS // 100
            assert found["state"] == "done"
            assert (found["lines"], found["products"], found["errors"]) == (ROWS + 1, ROWS - wrong, wrong)
            report = admin.get(f"/imports/{id_}/errors.csv").text.splitlines()[1:]
            assert [int(row.split(",")[0]) for row in report] == [n + 2 for n in range(ROWS) if n % 100 == 50]
            listed = admin.get("/products", params={"category": "Bulk", "per_page": 1}).json()
            assert listed["total"] == ROWS // 2 - wrong // 2
            assert admin.get("/products/B-7").json()["price"] == ROWS // 2 + 7
    finally:
        shop.kill()


def wait_until(shop: Shop, id_: str, lines: int) -> bool:
    """Whether so many lines were done while it was still running; False when it has ended."""
    until = time.monotonic() + 60
    with shop.admin() as admin:
        while time.monotonic() < until:
            found = admin.get(f"/imports/{id_}").json()
            if found["state"] != "running":
                return False
            if found["lines"] >= lines:
                return True
            time.sleep(0.01)
    raise AssertionError(f"the import did not get on: {found}\n{shop.output[-3000:]}")
