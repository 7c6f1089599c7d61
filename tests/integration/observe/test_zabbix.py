"""Debian's Zabbix agent answers for the items, asked as a Zabbix server asks it."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from support.servers import Server, free_port, program
from tenfold.observe.reading import read
from tenfold.observe.zabbix import ITEMS, user_parameters

from .conftest import SOURCE, Watched

pytestmark = pytest.mark.xdist_group("watched")


class Agent(Server):
    user = ""

    def __init__(self, *urls: str) -> None:
        super().__init__(_port())
        self.urls = urls

    def prepare(self) -> None:
        tenfold = f"/usr/bin/env PYTHONPATH={SOURCE} {sys.executable} -m tenfold"
        (self.folder / "tenfold.conf").write_text(user_parameters(self.urls[0], tenfold))
        (self.folder / "agent.conf").write_text(f"""
LogType=console
PidFile={self.folder}/agent.pid
Server=127.0.0.1
ListenIP=127.0.0.1
ListenPort={self.port}
StartAgents=1
AllowRoot=1
Timeout=30
Include={self.folder}/tenfold.conf
""")

    def command(self) -> list[str]:
        return [program("zabbix_agentd", "/usr/sbin"), "--foreground", "-c", str(self.folder / "agent.conf")]

    def ask(self, key: str) -> str:
        """A passive check: header, length, key; and back."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as link:
            link.sendall(b"ZBXD\x01" + struct.pack("<II", len(key), 0) + key.encode())
            answer = b"".join(iter(lambda: link.recv(65_536), b""))
        assert answer[:5] == b"ZBXD\x01"
        return answer[13:].decode()


def _port() -> int:
    """A free one below 32,768: the agent takes no other."""
    for port in range(21_000 + os.getpid() % 1_000, 32_767):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@pytest.fixture
def agent(fleet: list[Watched]) -> Iterator[Agent]:
    running = Agent(fleet[0].ops)
    running.start()
    yield running
    running.stop()


def test_the_agent_answers_states_and_the_page_of_metrics(agent: Agent, fleet: list[Watched]) -> None:
    fleet[0].get("/ping")
    assert agent.ask("tenfold.state.ready") == "0"
    page = read(agent.ask("tenfold.metrics"), 0.0)
    found = {key for key, (_, pattern, _, _) in ITEMS.items() if page.of(pattern.partition("{")[0])}
    # The app has neither queue nor calls out nor events, whose items then have the value of nothing.
    assert found >= {
        "http.requests",
        "http.in_flight",
        "http.shed",
        "slo.requests",
        "slo.bad",
        "memory",
        "cpu",
    }
    assert agent.ask("tenfold.absent").startswith("ZBX_NOTSUPPORTED")


def test_an_instance_that_is_gone_is_critical() -> None:
    agent = Agent(f"http://127.0.0.1:{free_port()}")
    agent.start()
    try:
        assert agent.ask("tenfold.state.ready") == "2"
    finally:
        agent.stop()
