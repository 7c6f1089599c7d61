"""Schemathesis, against a running server: the sample API does what its document says."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from sample_api import make_app

# Where JSON Schema has no words for what the endpoints do: "1" and "0" are true and false in a form.
CONFIG = """
[generation]
allow-x00 = false   # NUL in text is refused everywhere, and the document does not repeat it for every string

[[operations]]
include-path = "/sign-in"
checks.negative_data_rejection.enabled = false
"""


@pytest.fixture
def address() -> Iterator[str]:
    app, _ = make_app()
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    # Accepts connections before the server does; and without the protocol's name asyncio leaves small packets to wait.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),))
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("phase", "seconds"), [("coverage", 100), pytest.param("fuzzing", 1_800, marks=pytest.mark.soak)]
)
def test_schemathesis_finds_no_difference_between_the_api_and_its_document(
    address: str, tmp_path: Path, phase: str, seconds: int
) -> None:
    """The bounds of every parameter in the ordinary run (some 500 requests), and what comes to its mind in the long one."""
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"),
            *("--phases", phase, "-n", "200", "--seed", "1"),
            *(
                "--header",
                "Authorization: Bearer let-me-in",
                "--exclude-path",
                "/orders/events",
                "--no-color",
            ),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-6_000:] + run.stderr[-2_000:]
    assert "Tested: 12" in run.stdout
