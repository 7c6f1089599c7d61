"""A fleet put together from settings: what is refused before anything starts, and what is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tenfold.app import App
from tenfold.errors import ConfigError
from tenfold.runtime.up.fleet import Fleet
from tenfold.runtime.up.reading import give_ports, urls_of
from tenfold.runtime.up.roles import wanted_of
from tenfold.runtime.up.starting import prepare
from tenfold.runtime.up.state import State
from tenfold.runtime.up.trust import trust_of
from tenfold.service import Service


def split_app(tmp_path: Path, **said: Any) -> App:
    app = App("shop", [Service("orders"), Service("users")])
    app.configure(environ={}, app__data_dir=str(tmp_path), up__services={"orders": 1, "users": 1}, **said)
    return app


def split_fleet(app: App) -> Fleet:
    fleet = Fleet()
    fleet.want(wanted_of(app.settings.up, ["orders", "users"]), balanced=True)
    give_ports(fleet)
    return fleet


def test_services_find_each_other_at_ports_that_stay(tmp_path: Path) -> None:
    fleet = split_fleet(split_app(tmp_path))
    urls = dict(urls_of(fleet))
    assert set(urls) == {"TENFOLD_SERVICES_ORDERS_URL", "TENFOLD_SERVICES_USERS_URL"}
    give_ports(fleet)
    assert urls_of(fleet) == urls


def test_services_get_keys_in_development_and_are_refused_without_in_production(tmp_path: Path) -> None:
    said: list[str] = []
    app = split_app(tmp_path)
    assert trust_of(app, split_fleet(app), said.append).env == {"TENFOLD_IDENTITY_FOLDER": "identity"}
    assert "orders, users" in said[0]
    trust_of(app, split_fleet(app), said.append)
    assert len(said) == 1, "the second time they are there"

    app = split_app(tmp_path, app__env="production", app__secret_key="x" * 40)
    with pytest.raises(ConfigError, match="tenfold identity issue"):
        trust_of(app, split_fleet(app), said.append)


def test_what_is_refused_lets_go_of_the_folder(tmp_path: Path) -> None:
    app = split_app(tmp_path, balancer__kind="nginx", balancer__program=str(tmp_path / "no-nginx"))
    with pytest.raises(ConfigError, match=r"balancer\.program"):
        prepare(app, "shop:app", None, say=print, write=print, colours=False, terminal=False)
    State(tmp_path).lock()
