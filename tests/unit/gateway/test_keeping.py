"""Which answers are given to others, and for how long."""

from __future__ import annotations

import pytest

from tenfold.gateway.keeping import key_of, lifetime_s, may_look
from tenfold.http.request import Request


def request(method: str = "GET", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]

    async def never() -> dict[str, str]:
        raise AssertionError

    return Request(method, "/a", (), b"q=1", raw, dict(raw), never, {"raw_path": b"/a"})


@pytest.mark.parametrize(
    ("control", "seconds"),
    [
        ("max-age=60", 60.0),
        ("public, max-age=60, s-maxage=5", 5.0),
        ("s-maxage=0, max-age=60", 0.0),
        ("max-age=60, private", 0.0),
        ("no-store, max-age=60", 0.0),
        ("Max-Age=60, No-Cache", 0.0),
        ("x-max-age=60", 0.0),
        ("", 0.0),
    ],
)
def test_the_service_says_how_long(control: str, seconds: float) -> None:
    assert lifetime_s(200, [(b"cache-control", control.encode())]) == seconds


def test_what_is_old_already_lives_shorter() -> None:
    assert lifetime_s(200, [(b"cache-control", b"max-age=60"), (b"age", b"50")]) == 10.0


@pytest.mark.parametrize(
    ("status", "header", "value"),
    [
        (404, b"x", b"y"),
        (200, b"set-cookie", b"a=1"),
        (200, b"vary", b"*"),
        (200, b"vary", b"Accept, User-Agent"),
    ],
)
def test_what_is_for_one_caller_is_not_kept(status: int, header: bytes, value: bytes) -> None:
    assert lifetime_s(status, [(b"cache-control", b"max-age=60"), (header, value)]) == 0.0


def test_an_answer_may_differ_by_what_is_part_of_its_key() -> None:
    assert lifetime_s(200, [(b"cache-control", b"max-age=60"), (b"vary", b"Accept-Encoding, Origin")]) == 60.0
    assert key_of("r", "s", "h", request()) != key_of("r", "s", "h", request(accept_encoding="gzip"))


@pytest.mark.parametrize(
    "asked",
    [request("POST"), request("HEAD"), request(authorization="x"), request(cookie="x"), request(range="x"),
     request(cache_control="no-store"), request(x_own="x")],
)  # fmt: skip
def test_who_shows_a_credential_or_wants_none_has_no_part(asked: Request) -> None:
    assert key_of("r", "s", "h", asked, ("x-own",)) == ""


def test_a_caller_may_ask_for_a_new_one() -> None:
    assert may_look(request())
    assert not may_look(request(cache_control="no-cache"))
