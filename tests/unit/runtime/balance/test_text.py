"""The configurations, to the letter: golden files that reviewers read. A change of theirs is a change of what runs.

Written anew by ``python tests/unit/runtime/balance/test_text.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tenfold.errors import ConfigError
from tenfold.runtime.balance import Balancer, Inner, Listener, Options, Plan, Pool, StaticFiles, Tls, Upstream
from tenfold.runtime.balance.haproxy import Haproxy
from tenfold.runtime.balance.nginx import Nginx

GOLDEN = Path(__file__).parent / "golden"
WEB = Pool(
    "web", (Upstream("web.1", "127.0.0.1", 41001, 42001), Upstream("web.2", "127.0.0.1", 41002, 42002))
)
SMALL = Plan((Listener("public", "127.0.0.1", 8080),), (WEB,))
SECURE = Listener(
    "public", "::", 8443, Tls("/etc/shop/site.pem", "/etc/shop/site.key", "/etc/shop/clients.pem")
)
INSIDE = Listener("orders", "127.0.0.1", 8090, pool="orders", internal=True)
REDIRECT = Listener("redirect", "::", 80, redirect=8443)
FULL = Plan(
    (SECURE, REDIRECT, INSIDE),
    (
        Pool(
            "orders",
            (Upstream("orders.1", "10.0.0.7", 8000, 8001, weight=3),),
            ("/orders", "/orders/archive"),
        ),
        Pool("catalog", (), ("/catalog",)),
        WEB,
    ),
    options=Options(sticky=True, micro_cache_bytes=67_108_864, tries=2, silence_s=12.5),
)
SERVES_FILES = Plan(FULL.listeners, FULL.pools, (StaticFiles("/assets", "/srv/shop/assets"),), FULL.options)
INNER = Inner("/srv/id/balancer/certificate.pem", "/srv/id/balancer/certificate.key", "/srv/id/public/ca.pem")
MUTUAL = Plan(
    (
        SMALL.listeners[0],
        Listener(
            "orders",
            "127.0.0.1",
            8090,
            Tls(INNER.certificate, INNER.key, INNER.ca),
            http2=False,
            pool="orders",
            internal=True,
        ),
    ),
    (Pool("orders", FULL.pools[0].upstreams, ("/orders",), tls_name="orders.shop.internal"), WEB),
    inner=INNER,
)
CASES: dict[str, tuple[Balancer, Plan]] = {
    "nginx-small.conf": (Nginx(), SMALL),
    "nginx-full.conf": (Nginx(), SERVES_FILES),
    "haproxy-small.cfg": (Haproxy(), SMALL),
    "haproxy-full.cfg": (Haproxy(), FULL),
    "nginx-mutual.conf": (Nginx(), MUTUAL),
    "haproxy-mutual.cfg": (Haproxy(), MUTUAL),
}


def text_of(case: str) -> str:
    balancer, plan = CASES[case]
    (text,) = balancer.render(plan).values()
    return text


@pytest.mark.parametrize("case", CASES)
def test_the_text_is_as_it_was_approved(case: str) -> None:
    assert text_of(case) == (GOLDEN / case).read_text(encoding="utf-8")


def test_haproxy_says_that_it_serves_no_files() -> None:
    with pytest.raises(ConfigError, match=r"balancer\.static: HAProxy serves no files\. Let the app .*nginx"):
        Haproxy().render(SERVES_FILES)


def test_haproxy_finds_a_key_beside_its_certificate() -> None:
    assert Haproxy().links(FULL) == {
        "tls/public.pem": "/etc/shop/site.pem",
        "tls/public.pem.key": "/etc/shop/site.key",
    }


def test_who_a_caller_is_comes_from_the_certificate_that_it_has_shown_inside_and_from_nowhere_else() -> None:
    """What a client writes into the header itself is taken away at the public listener."""
    nginx, haproxy = text_of("nginx-mutual.conf"), text_of("haproxy-mutual.cfg")
    public, _, inside = nginx.partition("# orders\n")
    assert "set $certificate_shown '';" in public
    assert "set $certificate_shown $ssl_client_escaped_cert;" in inside
    public, _, inside = haproxy.partition("frontend orders\n")
    assert "del-header Tenfold-Certificate" in public
    assert "set-header Tenfold-Certificate %[ssl_c_der,base64]" in inside


def test_a_path_covers_whole_segments() -> None:
    nginx, haproxy = text_of("nginx-full.conf"), text_of("haproxy-full.cfg")
    assert "location = /orders {" in nginx
    assert "location /orders/ {" in nginx
    assert "location /orders {" not in nginx
    assert "use_backend orders if { path /orders } || { path_beg /orders/ }" in haproxy


def test_the_longest_path_is_asked_first() -> None:
    haproxy = text_of("haproxy-full.cfg")
    assert haproxy.index("path_beg /orders/archive/") < haproxy.index("path_beg /orders/ ")


def test_calls_between_services_pass_inside_only() -> None:
    inside = text_of("nginx-full.conf").partition("# orders\n")[2]
    assert "/_tenfold/" in text_of("nginx-full.conf").partition("# orders\n")[0]
    assert "/_tenfold/" not in inside


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for case in CASES:
        (GOLDEN / case).write_text(text_of(case), encoding="utf-8")
