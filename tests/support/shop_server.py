"""The shop as a process of its own, to be talked to, killed and started again."""

from __future__ import annotations

import email
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from email.policy import default
from pathlib import Path
from typing import Any

import httpx2

from shop.demo import ADMIN, ADMIN_PASSWORD, CUSTOMER, CUSTOMER_PASSWORD
from support.process import Process

HOME = {"TENFOLD_WEBHOOKS_ALLOW": '["127.0.0.0/8"]'}
"""Where tests have receivers of webhooks."""
EXAMPLES = Path(__file__).parents[2] / "examples"
PATH = os.pathsep.join(map(str, (EXAMPLES, EXAMPLES.parent / "src", EXAMPLES.parent / "tests")))
"""Where children find the shop, and this checkout rather than one that is installed."""


class Shop:
    """One data directory and two ports; at most one process at a time. ``settings``: ``worker_lease_s="2"``."""

    def __init__(
        self, data: Path, port: int, ops_port: int, database: str = "", events: str = "", **settings: str
    ) -> None:
        self.data = data
        urls = {"TENFOLD_DATABASE_URL": database, "TENFOLD_EVENTS_URL": events}
        given = {f"TENFOLD_{name.upper()}": value for name, value in settings.items()}
        self.pictures = 0
        """How many it draws when it is new."""
        self._settings = HOME | given | {name: url for name, url in urls.items() if url}
        self.url = f"http://127.0.0.1:{port}"
        self.ops_url = f"http://127.0.0.1:{ops_port}"
        self._ports = (port, ops_port)
        self._process: Process | None = None

    def start(self) -> None:
        """Returns when the shop is ready. Raises ProcessFailed with its output when it does not get there."""
        port, ops_port = map(str, self._ports)
        command = ["run", "shop.app:app", "--port", port, "--ops-port", ops_port, "--data", str(self.data)]
        # How many pictures are drawn is asked when the shop is imported.
        here = not self.pictures
        self._process = Process(
            command if here else [sys.executable, "-m", "tenfold", *command],
            forked="shop.app" if here else "",
            cwd=EXAMPLES,
            env={
                "PYTHONPATH": PATH,
                "TENFOLD_LOG_FORMAT": "json",
                "SHOP_PICTURES": str(self.pictures),
                **self._settings,
            },
            ready=f"{self.ops_url}/health/ready",
            timeout_s=90.0,
        )
        self._process.wait_ready()

    @property
    def output(self) -> str:
        """What the running process has said."""
        return self._process.output if self._process else ""

    def kill(self) -> None:
        """SIGKILL: no clean-up of any kind."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        process, self._process = self._process, None
        assert process is not None
        with process:
            return process.stop()

    def client(self, user: str = "", password: str = "") -> httpx2.Client:
        """Signed in as ``user``, or nobody."""
        headers = {}
        if user:
            form = {"email": user, "password": password}
            answer = httpx2.post(f"{self.url}/accounts/login", json=form, timeout=20.0)
            assert answer.status_code == 200, answer.text
            headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        return httpx2.Client(base_url=self.url, timeout=20.0, headers=headers)

    def admin(self) -> httpx2.Client:
        return self.client(ADMIN, ADMIN_PASSWORD)

    def customer(self) -> httpx2.Client:
        return self.client(CUSTOMER, CUSTOMER_PASSWORD)

    def mails(self, words: str = "") -> list[str]:
        """Headers and text of every mail that was sent and has ``words`` in it."""
        found = []
        for path in (self.data / "mailbox").glob("*.eml"):
            mail = email.message_from_bytes(path.read_bytes(), policy=default)
            body = mail.get_body(("plain",))
            text = f"{mail['to']}\n{mail['subject']}\n{body.get_content() if body else ''}"
            if words in text:
                found.append(text)
        return found

    def concurrently(self, requests: list[tuple[str, str, Any, str]], client: httpx2.Client) -> list[int]:
        """The statuses of requests (method, path, body, idempotency key) sent at the same time."""

        def send(request: tuple[str, str, Any, str]) -> int:
            method, path, body, key = request
            return client.request(method, path, json=body, headers={"idempotency-key": key}).status_code

        with ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(send, requests))
