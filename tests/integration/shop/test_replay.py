"""A real ledger is sold through a real server to the penny, also when the server is killed meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.books import Books, needs_books, write_books
from support.orphans import die_with_parent
from support.shop_server import EXAMPLES, Shop

INVOICES = 80
"""Of the ledger's 236, in the ordinary run."""

REPLAY = [sys.executable, "-m", "shop.replay"]

Done = subprocess.CompletedProcess[str]


def run(*arguments: str | Path) -> Done:
    return subprocess.run(
        [*REPLAY, *map(str, arguments)],
        check=False,
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=110,
    )


def last_line(out: str) -> str:
    return out.splitlines()[-1] if out else ""


def check_books(shop: Shop, ledger: Books) -> None:
    """What the replay says is so: exactly the ledger's goods were delivered, so none are left."""
    receipts = shop.mails("@ledger.example")
    assert len(receipts) == ledger.invoices
    assert len({mail.split("Order ")[1].split()[0] for mail in receipts}) == ledger.invoices
    with shop.admin() as admin:
        products = admin.get("/products", params={"category": "Ledger"}).json()
        assert products["total"] == ledger.products
        for product in products["items"]:
            assert admin.get(f"/stock/{product['sku']}").json()["available"] == 0


@needs_books
@pytest.mark.soak
def test_the_ledger_is_sold_to_the_penny_and_again_changes_nothing(
    new_shop: Callable[[Path], Shop], tmp_path: Path
) -> None:
    ledger = write_books(tmp_path)
    assert ledger.agreed == (
        "replay: orders=236 lines=4688 receipts=236 revenue=93029.47 ledger=93029.47 difference=0.00"
    )
    shop = new_shop(tmp_path / "data")
    shop.start()
    for _ in range(2):
        done = run(ledger.path, "--url", shop.url)
        assert (last_line(done.stdout), done.returncode) == (ledger.agreed, 0), done.stderr
    check_books(shop, ledger)
    assert shop.stop() == 0


@needs_books
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("database", "invoices", "kills"),
    [
        ("embedded", INVOICES, 2),
        pytest.param("embedded", None, 3, marks=pytest.mark.soak),
        pytest.param("postgresql", None, 3, marks=pytest.mark.soak),
    ],
)
def test_the_ledger_agrees_although_the_server_is_killed(
    new_shop: Callable[..., Shop],
    tmp_path: Path,
    database: str,
    invoices: int | None,
    kills: int,
    request: pytest.FixtureRequest,
) -> None:
    """SIGKILL while orders are placed; each time the server starts again and the replay goes on. Selling it all once more
    changes nothing."""
    ledger = write_books(tmp_path, invoices)
    url = "" if database == "embedded" else request.getfixturevalue("postgres_url")
    shop = new_shop(tmp_path / "data", database=url, worker_lease_s="3")
    shop.start()
    with (
        (tmp_path / "errors").open("w") as errors,
        subprocess.Popen(
            [*REPLAY, str(ledger.path), "--url", shop.url, "--concurrency", "8"],
            cwd=EXAMPLES,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=die_with_parent,
        ) as running,
    ):
        killed = 0
        for part in range(1, kills + 1):
            if await_orders(tmp_path / "errors", running, ledger.invoices * part // (kills + 2)):
                shop.kill()
                killed += 1
                shop.start()
        out, _ = running.communicate(timeout=120)
    assert killed == kills, "the replay was over before the server could be killed"
    assert (last_line(out), running.returncode) == (ledger.agreed, 0), (tmp_path / "errors").read_text()
    again = run(ledger.path, "--url", shop.url)
    assert (last_line(again.stdout), again.returncode) == (ledger.agreed, 0), again.stderr
    check_books(shop, ledger)
    assert shop.stop() == 0


def await_orders(errors: Path, running: subprocess.Popen[str], count: int) -> bool:
    """Wait until so many orders are placed; False when the replay has ended."""
    until = time.monotonic() + 60
    while running.poll() is None and time.monotonic() < until:
        if any(placed >= count for placed in orders_placed(errors.read_text())):
            return True
        time.sleep(0.005)
    return False


def orders_placed(text: str) -> list[int]:
    lines = [line for line in text.splitlines() if line.startswith("orders: ") and " of " in line]
    return [int(line.removeprefix("orders: ").split(" of ")[0].replace(",", "")) for line in lines]


def test_broken_lines_are_named_and_the_rest_is_sold(shop: Shop, tmp_path: Path) -> None:
    header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
    good = "X1,XA,THING,{},1/2/2009 10:00,1.10,,France\n"
    ledger = tmp_path / "ledger.csv"
    ledger.write_text(header + good.format(3) + good.format(-1) + "X1,XA\n" + good.format(4))
    done = run(ledger, "--url", shop.url)
    assert done.returncode == 0, done.stderr
    assert (
        last_line(done.stdout)
        == "replay: orders=1 lines=2 receipts=1 revenue=7.70 ledger=7.70 difference=0.00"
    )
    assert "line 3: Quantity -1 is not above zero" in done.stderr
    assert "line 4: it has 2 cells instead of 8." in done.stderr


def test_a_difference_is_an_error(shop: Shop, tmp_path: Path) -> None:
    """The check can fail: an order that the ledger does not have, on its day."""
    with shop.admin() as admin:
        admin.put("/products", json=[{"sku": "XB", "name": "B", "category": "Tests", "price": 1}])
        admin.post("/deliveries", json={"note": "difference", "items": [{"sku": "XB", "quantity": 5}]})
        order = {"lines": [{"sku": "XB", "quantity": 1}], "ordered_at": "2008-01-02T00:00:00Z"}
        assert admin.post("/orders", json=order, headers={"idempotency-key": "difference"}).status_code == 201
    ledger = tmp_path / "ledger.csv"
    ledger.write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "X2,XB,B,2,1/2/2008 10:00,0.01,,France\n"
    )
    done = run(ledger, "--url", shop.url, "--patience", "3")
    assert done.returncode == 1
    assert last_line(done.stdout).endswith("revenue=0.03 ledger=0.02 difference=0.01")
    assert "The shop has 2 orders, the ledger 1 invoices." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.csv"], "cannot be read"),
        (["none.csv", "--url", "ftp://x"], "is not an address"),
        (["none.csv", "--concurrency", "0"], "is not a number from 1 to 256"),
        ([], "LEDGER.csv"),
    ],
)
def test_a_wrong_call_is_explained(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_shop_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.csv"
    ledger.write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "X3,XC,C,2,1/2/2008 10:00,0.01,,France\n"
    )
    arguments = [str(ledger), "--url", "http://127.0.0.1:9", "--patience", "0.5"]
    done = run(*arguments)
    assert done.returncode == 1
    assert "POST /accounts/login failed for 0.5 s" in done.stderr
