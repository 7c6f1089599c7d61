"""The app of ``support.pages_app`` as a process of its own, with its dashboard behind tokens."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import httpx2

from support.process import Process

ROOT = Path(__file__).parents[2]
TOKEN, READER = "0perators-token-of-tests", "re4ders-token-of-tests"
PATH = os.pathsep.join(str(ROOT / each) for each in ("tests", "src"))


class Demo:
    """The running app: its API and its dashboard."""

    def __init__(self, data: Path, port: int, ops_port: int) -> None:
        self.url, self.ops = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ops_port}"
        self.pages = httpx2.Client(
            base_url=self.ops, timeout=20, headers={"accept": "text/html", "authorization": f"Bearer {TOKEN}"}
        )
        command = ["run", "support.pages_app:app", "--port", str(port), "--ops-port", str(ops_port)]
        self.process = Process(
            [sys.executable, "-m", "tenfold", *command, "--data", str(data)],
            cwd=ROOT / "tests",
            env={
                "PYTHONPATH": PATH,
                "TENFOLD_OPS_TOKEN": TOKEN,
                "TENFOLD_OPS_READ_TOKEN": READER,
                "TENFOLD_LOG_LEVEL": "info",
                "TENFOLD_ALERTS_EVERY_S": "1",  # so that nobody waits for an alert
                "TENFOLD_EVENTS_URL": "memory:",
                "TENFOLD_TELEMETRY_TRACES_PER_S": "1000",  # none of what tests look for is left out
            },
            ready=f"{self.ops}/health/ready",
            timeout_s=90.0,
        )

    def traffic(self) -> None:
        """What gives the pages something to show: some that is well, some that is slow, some that fails."""
        with httpx2.Client(base_url=self.url, timeout=20) as client:
            for n in range(12):
                client.get("/weights", params={"shelf": f"A-{n}"})
            for n in range(40):
                client.get(f"/shelves/A-{n % 3 if n % 4 else n}")
            client.get("/fail")

    def failed(self) -> bool:
        """Whether the store has what the traffic was."""
        return "RuntimeError" in self.pages.get("/").text
