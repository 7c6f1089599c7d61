"""What a balancer may be told, and the sentences for what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from tenfold._core import settings
from tenfold._core.sections import Settings
from tenfold.errors import ConfigError
from tenfold.runtime.balance import Listener, Options, Plan, Pool, StaticFiles, Tls, Upstream, plan_of
from tenfold.runtime.balance.model import check

PUBLIC = Listener("public", "127.0.0.1", 8080)
ONE = Upstream("web.1", "127.0.0.1", 4000)


def plan(**differs: Any) -> Plan:
    return Plan(**{"listeners": (PUBLIC,), "pools": (Pool("web", (ONE,)),), **differs})


def said(**values: Any) -> Settings:
    overrides = {name.replace("__", "."): value for name, value in values.items()}
    return settings.load(environ={}, overrides=overrides).settings


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"listeners": ()}, "balancer: a balancer needs a listener."),
    ({"listeners": (PUBLIC, Listener("other", "127.0.0.1", 8080))}, "2 addresses of listeners are 127.0.0.1:8080."),
    ({"listeners": (Listener("public", "a b", 80),)}, "'a b' is no host. Write an address or a name."),
    ({"listeners": (Listener("public", "::1", 0),)}, "0 is no port. Choose one of 1 to 65535."),
    ({"listeners": (Listener("public", "::1", 80, pool="shop"),)}, "listener public: there is no pool 'shop'."),
    ({"listeners": (Listener("public", "::1", 80, Tls("/a;b", "/k")),)}, "balancer.tls_certificate: '/a;b' has ';' in it."),
    ({"pools": (Pool("web {", (ONE,)),)}, "'web {' is no name. Use letters, digits"),
    ({"pools": (Pool("web", (ONE, ONE)),)}, "2 upstreams of web are web.1. Each has to differ."),
    ({"pools": (Pool("web", (ONE,), ("/a/",)),)}, "'/a/' is no beginning of a path."),
    ({"pools": (Pool("web", (ONE,), ("/a b",)),)}, "'/a b' is no beginning of a path."),
    ({"pools": (Pool("a", (ONE,)), Pool("b", ()))}, "2 paths are /."),
    ({"pools": (Pool("web", (Upstream("w", "h", 70_000),)),)}, "pool web, w: 70000 and 0 are not both ports."),
    ({"pools": (Pool("web", (Upstream("w", "h", 1, weight=0),)),)}, "its weight is 0. Choose 1 to 256."),
    ({"static": (StaticFiles("/", "/srv"),)}, "balancer.static: the app has the root."),
    ({"static": (StaticFiles("/a", '/srv"'),)}, "has '\"' in it. Use a path without it."),
    ({"options": Options(tries=0)}, "balancer.tries: a request is tried at least once."),
]  # fmt: skip


@pytest.mark.parametrize(("differs", "sentence"), REFUSED, ids=[sentence[:40] for _, sentence in REFUSED])
def test_what_cannot_be_is_a_sentence(differs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(plan(**differs))
    assert sentence in str(refused.value)


def test_a_plan_follows_the_settings_of_the_app() -> None:
    loaded = said(http__timeout_s=7.0, http__keep_alive_s=20.0, http__upload_max_bytes=5_000_000)
    made = plan_of(loaded, [Pool("web", (ONE,))])
    assert made.options.silence_s == 12.0  # longer than the deadline
    assert made.options.idle_s == 16.0  # shorter than the app keeps it
    assert made.options.body_max_bytes == 5_000_000
    assert made.listeners == (PUBLIC,)


def test_files_are_found_from_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    made = plan_of(said(balancer__static=["/assets=public/assets"]), [])
    assert made.static == (StaticFiles("/assets", f"{tmp_path}/public/assets"),)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"balancer__tls_certificate": "site.pem"},
            "balancer.tls_key: balancer.tls_certificate is set, and it is not.",
        ),
        (
            {"balancer__tls_key": "site.key"},
            "balancer.tls_certificate: balancer.tls_key is set, and it is not.",
        ),
        (
            {"balancer__tls_client_ca": "ca.pem"},
            "balancer.tls_client_ca: clients have certificates only where",
        ),
        ({"balancer__static": ["assets"]}, "balancer.static: 'assets' is no path with its folder."),
    ],
)
def test_settings_that_do_not_fit_are_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        plan_of(said(**values), [])
    assert sentence in str(refused.value)
