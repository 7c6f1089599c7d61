"""Settings that are read again while a fleet runs: what is followed, what makes instances be replaced, what is refused."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from support.certificates import Authority
from support.servers import free_port
from tenfold._core.clock import SystemClock
from tenfold.app import App
from tenfold.errors import ConfigError
from tenfold.runtime.up.edge import Edge
from tenfold.runtime.up.fleet import Fleet
from tenfold.runtime.up.reading import Reading, give_ports, paths_of
from tenfold.runtime.up.roles import wanted_of
from tenfold.runtime.up.sizes import Sizes
from tenfold.runtime.up.supervisor import Reread
from tenfold.service import Service


class Running:
    """A fleet as far as settings make it, without processes."""

    def __init__(self, folder: Path, **said: Any) -> None:
        self.folder = folder
        self.app = App("shop", [Service("orders"), Service("users")])
        self.said = {"app__data_dir": str(folder), "balancer__port": free_port()} | said
        settings = self._read(self.said)
        self.fleet = Fleet()
        self.fleet.want(
            wanted_of(settings.up, ["orders", "users"]), balanced=settings.balancer.kind != "none"
        )
        give_ports(self.fleet)
        edge = Edge.of(settings, self.fleet, paths_of(self.app))
        sizes = Sizes(settings.scale, SystemClock())
        self.reading = Reading(self.app, "shop:app", None, self.fleet, edge, sizes, env={"A": "1"})
        sizes.close()

    def again(self, **said: Any) -> Reread:
        """What follows from settings that differ so much."""
        return self.reading.again(self._read(self.said | said), {"COMPANION": "url"})

    def _read(self, said: dict[str, Any]) -> Any:
        return self.app.configure(environ={}, **said).settings


def test_counts_and_times_are_followed_while_everything_runs(tmp_path: Path) -> None:
    running = Running(tmp_path)
    read = running.again(up__web="2..4", up__ready_timeout_s=7.0)
    assert not read.replace
    assert read.rules.ready_timeout_s == 7.0
    assert (running.fleet.groups["web"].low, running.fleet.groups["web"].high) == (2, 4)
    assert read.sentence == "The settings are read again: what differs is up.ready_timeout_s, up.web."
    assert running.again(up__web="2..4", up__ready_timeout_s=7.0).sentence.endswith("nothing differs.")


def test_counts_that_were_asked_for_since_stay_when_another_one_changes(tmp_path: Path) -> None:
    running = Running(tmp_path, up__web=2, up__worker=1)
    running.fleet.scale("web", 5, 5)
    running.again(up__web=2, up__worker=3)
    assert {name: group.count for name, group in running.fleet.groups.items()} == {"web": 5, "worker": 3}


@pytest.mark.parametrize(
    ("said", "replaced"),
    [
        ({"log__level": "debug"}, True),
        ({"http__port": 9000}, True),
        ({"up__worker": 1}, True),  # those of web no longer work beside
        ({"scale__cpu": 0.5}, False),
        ({"up__memory_max": "1GiB"}, False),
    ],
)
def test_instances_are_replaced_where_they_were_started_with_something_else(
    tmp_path: Path, said: dict[str, Any], replaced: bool
) -> None:
    running = Running(tmp_path)
    assert running.again(**said).replace is replaced
    assert running.again(**said).replace is False


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ({"app__data_dir": "/elsewhere"}, r"app\.data_dir: it cannot change"),
        ({"balancer__kind": "haproxy"}, r"balancer\.kind: it cannot change"),
        ({"companions__redis": True}, r"companions\.redis: it cannot change"),
        ({"up__services": {"orders": 1}}, r"up: who answers requests cannot change .*: orders\."),
        ({"up__web": "many"}, r"up\.web: 'many' is no count"),
        ({"balancer__tls_key": "/no.key"}, r"balancer\.tls_certificate"),
    ],
)
def test_what_cannot_change_is_refused_and_nothing_is_followed(
    tmp_path: Path, said: dict[str, Any], where: str
) -> None:
    running = Running(tmp_path, balancer__kind="nginx", up__web=2)
    with pytest.raises(ConfigError, match=where):
        running.again(**{"up__web": 3, **said})
    assert running.fleet.groups["web"].count == 2


def test_a_certificate_that_expired_is_refused_at_start_and_when_it_is_read_again(tmp_path: Path) -> None:
    expired = Authority(tmp_path, time.time() - 90 * 86_400).issue("shop.example", days=30)
    tls = {"balancer__tls_certificate": expired.certificate, "balancer__tls_key": expired.key}
    with pytest.raises(ConfigError, match=r"balancer\.tls_certificate: .* expired on .*Renew it"):
        Running(tmp_path, balancer__kind="haproxy", **tls)
    running = Running(tmp_path, balancer__kind="haproxy")
    with pytest.raises(ConfigError, match=r"balancer\.tls_certificate: .* expired on .*Renew it"):
        running.again(**tls)


def test_a_port_that_somebody_has_is_refused_at_start_and_when_it_is_read_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ConfigError, match=rf"balancer\.port: port {port} on 127\.0\.0\.1 is taken by another"
        ):
            Running(tmp_path, balancer__kind="nginx", balancer__port=port)
        running = Running(tmp_path, balancer__kind="nginx")
        with pytest.raises(
            ConfigError, match=rf"balancer\.port: port {port} on 127\.0\.0\.1 is taken by another"
        ):
            running.again(balancer__port=port)
    running.again(balancer__port=port)


def test_a_redirect_needs_something_to_lead_to(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"balancer\.redirect_port: it leads to HTTPS, which is not spoken"):
        Running(tmp_path, balancer__kind="nginx", balancer__redirect_port=free_port())


def test_instances_behind_a_balancer_believe_it_who_asks(tmp_path: Path) -> None:
    name = "TENFOLD_HTTP_TRUSTED_PROXIES"
    alone, behind = Running(tmp_path), Running(tmp_path, balancer__kind="nginx")
    assert name not in alone.reading.launch(alone.app.settings).env
    assert json.loads(behind.reading.launch(behind.app.settings).env[name]) == ["127.0.0.1"]
    more = Running(tmp_path, balancer__kind="nginx", http__trusted_proxies=["10.0.0.0/8"])
    assert json.loads(more.reading.launch(more.app.settings).env[name]) == ["10.0.0.0/8", "127.0.0.1"]
