"""Companions are real servers: started, taken over, used, ended, nothing left behind. (Redis: in the unit tests.)"""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import psutil
import pytest

from support.servers import program
from tenfold._core import settings as loading
from tenfold.runtime.up.companions import Companions

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]

QUESTIONS = {
    "postgresql": (
        ("postgres", "usr/lib/postgresql/*/bin"),
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        (b"N", b"S"),
    ),
    "rabbitmq": (("rabbitmq-server",), b"AMQP\x00\x00\x09\x01", (b"\x01",)),
}
"""Programs, what a client begins with (whether TLS is spoken; AMQP 0-9-1), and how the answer begins."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that the servers' own users reach."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_companion_is_started_taken_over_and_ended(name: str, folder: Path) -> None:
    needs, question, answers = QUESTIONS[name]
    program(*needs)
    found = loading.load(environ={}, overrides={f"companions.{name}": True}).settings
    said: list[str] = []
    first = Companions(found, folder, said.append)
    try:
        first.start()
        heir = Companions(found, folder, said.append)
        heir.start()
        assert "runs on at port" in said[-1]
        (url,) = heir.env.values()
        at = (str(urlparse(url).hostname), int(urlparse(url).port or 0))
        with socket.create_connection(at, 5) as link:
            link.sendall(question)
            assert link.recv(1) in answers
    finally:
        first.stop()
    with pytest.raises(OSError):
        socket.create_connection(at, 5)
    assert not [
        each
        for each in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(each.info["cmdline"] or [])
    ]
