"""Which headers go through."""

from __future__ import annotations

import pytest

from tenfold.gateway.headers import Way, back, onward

WAY = Way("203.0.113.7", "https", "shop.example")


def sent(*given: tuple[str, str], way: Way = WAY) -> dict[str, str]:
    return onward([(name.encode(), value.encode("latin-1")) for name, value in given], way, "own-1")


@pytest.mark.parametrize(
    "name",
    ["keep-alive", "te", "upgrade", "proxy-authorization", "transfer-encoding", "x-secret", "connection"],
)
def test_what_is_for_the_neighbour_ends_here(name: str) -> None:
    assert name not in sent((name, "x"), ("connection", "close, X-Secret"))


def test_credentials_go_on_as_they_came() -> None:
    given = [("authorization", "Bearer a.b.c"), ("cookie", "a=1"), ("cookie", "b=2"), ("x-api-key", "k")]
    found = sent(*given)
    assert (found["authorization"], found["cookie"], found["x-api-key"]) == ("Bearer a.b.c", "a=1; b=2", "k")


@pytest.mark.parametrize(
    "name",
    [
        "tenfold-principal",
        "tenfold-caller",
        "tenfold-priority",
        "tenfold-timeout-ms",
        "x-real-ip",
        "traceparent",
    ],
)
def test_nobody_says_for_whom_or_whence_he_asks(name: str) -> None:
    assert name not in {each.lower() for each in sent((name, "admin"))}


def test_the_way_is_told_by_the_gateway_alone() -> None:
    found = sent(("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1"), ("x-forwarded-host", "evil"))
    assert found["X-Forwarded-For"] == "203.0.113.7"
    assert found["Forwarded"] == 'for=203.0.113.7;host="shop.example";proto=https'
    assert (found["X-Forwarded-Host"], found["X-Forwarded-Proto"]) == ("shop.example", "https")


def test_an_address_of_ipv6_and_a_host_with_quotes_stay_what_they_are() -> None:
    found = sent(way=Way("2001:db8::1", "http", 'a";for=x', "/orders"))
    assert found["Forwarded"] == 'for="[2001:db8::1]";proto=http'
    assert found["X-Forwarded-Prefix"] == "/orders"


@pytest.mark.parametrize(
    ("said", "kept"), [("abc-1", "abc-1"), ("a b", "own-1"), ("x" * 200, "own-1"), ("", "own-1")]
)
def test_a_request_id_is_passed_on_where_it_is_fit_for_a_log(said: str, kept: str) -> None:
    assert sent(("x-request-id", said))["X-Request-Id"] == kept


def test_the_answer_keeps_what_it_has_several_times() -> None:
    given = [
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("date", "now"),
    ]
    assert back(given, cors=False) == [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]


def test_one_says_what_other_origins_may_do() -> None:
    given = [("access-control-allow-origin", "*"), ("etag", '"1"')]
    assert back(given, cors=True) == [(b"etag", b'"1"')]
