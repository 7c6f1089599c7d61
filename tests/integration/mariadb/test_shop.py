"""The example shop on MariaDB: not one line of it differs."""

from __future__ import annotations

import socket
import subprocess
import sys
import uuid
from pathlib import Path

from support.shop_server import EXAMPLES, Shop


def free_ports() -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


def tenfold(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tenfold", *arguments], cwd=EXAMPLES, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(EXAMPLES), "TENFOLD_DATABASE_URL": url, "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        timeout=60,
    )  # fmt: skip


def test_the_shop_sells_also_after_it_was_killed_and_the_commands_know_its_database(
    tmp_path: Path, mariadb_url: str
) -> None:
    done = tenfold(mariadb_url, "migrate", "shop.app:app")
    assert done.returncode == 0, done.stderr
    shop = Shop(tmp_path, *free_ports(), database=mariadb_url)
    try:
        shop.start()
        with shop.admin() as admin:
            tea = {"sku": "tea", "name": "Tea", "category": "drinks", "price": 350}
            assert admin.put("/products", json=[tea]).status_code == 200
            delivery = {"note": "n1", "items": [{"sku": "tea", "quantity": 5}]}
            delivered = admin.post("/deliveries", json=delivery)
            assert delivered.status_code == 201, delivered.text
        order = {"lines": [{"sku": "tea", "quantity": 1}]}
        key = {"idempotency-key": str(uuid.uuid4())}
        with shop.customer() as customer:
            placed = customer.post("/orders", json=order, headers=key)
            assert placed.status_code == 201, placed.text
        shop.kill()
        shop.start()
        with shop.customer() as customer:
            again = customer.post("/orders", json=order, headers=key)
            assert again.json() == placed.json()
    finally:
        shop.kill()
    listed = tenfold(mariadb_url, "jobs", "list", "--app", "shop.app:app")
    assert listed.returncode == 0, listed.stderr
    checked = tenfold(mariadb_url, "check", "shop.app:app")
    assert "Traceback" not in checked.stderr
