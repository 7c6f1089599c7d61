"""Keys and certificates of a fleet: made in development, asked for in production, and renewed while it runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tenfold.app import App
from tenfold.errors import ConfigError
from tenfold.runtime.up.fleet import Fleet
from tenfold.runtime.up.reading import give_ports, urls_of
from tenfold.runtime.up.roles import wanted_of
from tenfold.runtime.up.trust import Renewals, Trust, trust_of
from tenfold.security.identity import certificates, issuing
from tenfold.security.identity.names import ServiceName, service_name
from tenfold.service import Service

PRODUCTION: dict[str, Any] = {
    "app__env": "production",
    "app__secret_key": "x" * 40,
    "identity__folder": "keys",
    "identity__tls": True,
}


def trust(tmp_path: Path, *services: str, split: tuple[str, ...] = ("orders",), **said: Any) -> Trust:
    app = App("shop", [Service(name) for name in services])
    said = {"identity__tls": True, **said}
    app.configure(environ={}, app__data_dir=str(tmp_path), up__services=dict.fromkeys(split, 1), **said)
    fleet = Fleet()
    fleet.want(wanted_of(app.settings.up, services), balanced=True)
    give_ports(fleet)
    assert all(url.startswith("https:") for name, url in urls_of(fleet, tls=True).items() if "URL" in name)
    return trust_of(app, fleet, lambda _: None)


def test_development_makes_certificates_for_all_that_show_one(tmp_path: Path) -> None:
    found = trust(tmp_path, "orders", "users", up__gateway=1)
    assert {path.parent.name for path in tmp_path.rglob("certificate.pem")} == {
        "orders", "users", "balancer", "gateway",
    }  # fmt: skip
    assert (found.tls_name("web"), found.tls_name("gateway")) == ("users.shop.internal", "")
    assert found.inner is not None
    assert Path(found.inner.key).stat().st_mode & 0o077 == 0


def issued(folder: Path, service: str) -> None:
    issuing.issue(folder, service, time.time())
    certificates.issue(folder, service_name("shop", service), time.time())


def test_production_says_what_lacks_and_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    steps: list[tuple[Callable[[], object], str]] = [
        (lambda: None, "Make one by: tenfold identity issue orders$"),
        (lambda: issuing.issue(folder, "orders", time.time()), "tenfold identity issue orders --tls$"),
        (lambda: issued(folder, "orders"), "tenfold identity issue balancer --tls$"),
        (lambda: certificates.issue(folder, service_name("shop", "balancer"), time.time() - 31 * 86_400.0),
         "certificate of spiffe://shop/service/balancer expired 24.0 hours ago"),
    ]  # fmt: skip
    for do, said in steps:
        do()
        with pytest.raises(ConfigError, match=said):
            trust(tmp_path, "orders", **PRODUCTION)
    issued(folder, "balancer")
    assert trust(tmp_path, "orders", **PRODUCTION).env == {}


def test_a_certificate_of_another_authority_needs_the_name_that_balancers_look_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ServiceName, "host", "other.example")  # as it was issued
    for service in ("orders", "balancer"):
        issued(tmp_path / "keys", service)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"not valid for orders\.shop\.internal, by which the balancer"):
        trust(tmp_path, "orders", **PRODUCTION)


def test_a_process_of_two_services_has_no_one_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`web` would serve mail and users.*\[up\.services\] mail = 1"):
        trust(tmp_path, "orders", "mail", "users")


def test_changed_files_are_noticed_once_they_stay_as_they_are(tmp_path: Path) -> None:
    one, other = tmp_path / "certificate.pem", tmp_path / "certificate.key"
    paths = [str(one), str(other)]
    for path in (one, other):
        path.write_text("a")
    renewals = Renewals()
    renewals.shown(paths)
    assert not renewals.due(paths)
    other.write_text("bb")
    assert not renewals.due(paths), "the other one may still be to come"
    one.write_text("bb")
    assert not renewals.due(paths)
    (tmp_path / "beside").write_text("what is no certificate of ours")
    assert renewals.due(paths)
    renewals.shown(paths)
    assert not renewals.due(paths)
    os.utime(one)
    assert [renewals.due(paths) for _ in range(2)] == [False, True]
