"""Cross-site requests, objects' owners, the throttle's curve, authenticators of one's own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping

import pytest

from tenfold._core.context import Context, use
from tenfold._core.origin import Headers, check_same_origin
from tenfold.errors import Conflict, Forbidden, NotFound, Unauthorized
from tenfold.security.authenticator import Authenticator
from tenfold.security.objects import ensure, own
from tenfold.security.principal import Principal
from tenfold.security.throttle import ACCOUNT, PLACE, Curve

UNSAFE = ["POST", "PUT", "PATCH", "DELETE", "WEBSOCKET", "PURGE"]


def passes(method: str, headers: Mapping[str, str], trusted: frozenset[str] = frozenset()) -> bool:
    try:
        check_same_origin(method, headers, trusted)
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize("method", UNSAFE)
@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),  # not a browser
        ({"origin": "https://shop.example", "host": "shop.example"}, True),
        ({"origin": "https://shop.example:443", "host": "shop.example"}, True),
        ({"origin": "http://localhost:8000", "host": "localhost:8000"}, True),
        ({"origin": "http://[::1]:8000", "host": "[::1]:8000"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"origin": "https://evil.example", "host": "shop.example"}, False),
        ({"origin": "https://shop.example.evil", "host": "shop.example"}, False),
        ({"origin": "https://evil-shop.example", "host": "shop.example"}, False),
        ({"origin": "https://sub.shop.example", "host": "shop.example"}, False),
        ({"origin": "https://shop.example:444", "host": "shop.example"}, False),
        ({"origin": "http://localhost:8001", "host": "localhost:8000"}, False),
        ({"origin": "https://shop.example@evil.example", "host": "shop.example"}, False),
        ({"origin": "null", "host": "shop.example"}, False),
        ({"origin": "", "host": "shop.example"}, False),
        ({"origin": "https://shop.example"}, False),
        ({"origin": "https://shop.example:x", "host": "shop.example"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "https://shop.example", "host": "shop.example"}, False),
        ({"sec-fetch-site": "same-origin", "origin": "https://evil.example", "host": "shop.example"}, False),
    ],
)
def test_only_pages_of_this_origin_may_change_things_with_its_cookie(
    method: str, headers: dict[str, str], allowed: bool
) -> None:
    assert passes(method, headers) is allowed


def test_safe_methods_and_trusted_origins_pass() -> None:
    evil = {"origin": "https://evil.example", "host": "shop.example", "sec-fetch-site": "cross-site"}
    assert all(passes(method, evil) for method in ("GET", "HEAD", "OPTIONS", "TRACE"))
    assert passes("POST", evil, frozenset({"https://evil.example"}))
    assert not passes("POST", evil, frozenset({"https://good.example"}))
    assert not passes("post", evil), "methods have case: this one is none of the safe ones"


class Gateway(Authenticator):
    async def authenticate(self, headers: Headers, cookies: Mapping[str, str], /) -> Principal | None:
        user = headers.get("x-user")
        return Principal(id=user, via=headers.get("x-via") or "gateway") if user else None


def test_an_authenticator_of_ones_own_is_one_method() -> None:
    gateway = Gateway()
    ann = asyncio.run(gateway.authenticate({"x-user": "ann"}, {}))
    assert ann == Principal(id="ann", via="gateway")
    assert asyncio.run(gateway.authenticate({}, {})) is None
    assert gateway.fast(b"Bearer token") is None
    assert gateway.schemes()
    evil = {"origin": "https://evil.example", "host": "shop.example"}
    gateway.check_origin(ann, "POST", evil)
    with pytest.raises(Forbidden):
        gateway.check_origin(Principal(id="ann", via="session"), "POST", evil)


def test_what_belongs_to_others_looks_as_if_it_did_not_exist() -> None:
    ann = Principal(id="7")
    own("7", ann)
    own(7, ann)
    for other in ("8", None, "", 77):
        with pytest.raises(NotFound) as hidden:
            own(other, ann)
        assert hidden.value.document() == NotFound().document()
        with pytest.raises(Forbidden):
            own(other, ann, hide=False)


def test_a_refusal_says_what_the_handler_says_of_a_missing_object() -> None:
    missing = NotFound("There is no order 5.", order_id=5)
    with pytest.raises(NotFound) as hidden:
        own("8", Principal(id="7"), problem=missing)
    assert hidden.value is missing
    with pytest.raises(NotFound) as hidden:
        own("8", Principal(id="7"), problem="There is no order 5.")
    assert hidden.value.document() == NotFound("There is no order 5.").document()
    with pytest.raises(Forbidden, match="Ann's"):
        own("8", Principal(id="7"), problem="This is Ann's.", hide=False)


def test_a_role_may_see_what_others_own() -> None:
    own("8", Principal(id="7", roles=frozenset({"support"})), roles=("support", "admin"))
    with pytest.raises(NotFound):
        own("8", Principal(id="7", roles=frozenset({"sales"})), roles=("support", "admin"))


def test_the_owner_is_the_caller_of_the_work_in_hand_unless_named() -> None:
    with use(Context(principal=Principal(id="7"))):
        own("7")
        with pytest.raises(NotFound):
            own("8")
    with use(Context()), pytest.raises(Unauthorized):
        own("7")
    with use(Context()), pytest.raises(Unauthorized):
        own(None)


def test_ensure_raises_the_problem_it_is_given() -> None:
    ensure(True)
    with pytest.raises(Forbidden, match="Only on Sundays"):
        ensure(False, "Only on Sundays.")
    with pytest.raises(Conflict):
        ensure(None, Conflict("closed"))
    with pytest.raises(Forbidden):
        ensure(0)


@pytest.mark.parametrize("curve", [PLACE, ACCOUNT, Curve(0, 0.5, 8, 60)])
def test_the_delay_starts_after_the_free_tries_doubles_and_is_bounded(curve: Curve) -> None:
    assert curve.delay_s(curve.free) == 0
    assert curve.delay_s(curve.free + 1) == curve.base_s
    assert curve.delay_s(curve.free + 2) == 2 * curve.base_s
    delays = [curve.delay_s(n) for n in range(200)]
    assert all(a <= b for a, b in itertools.pairwise(delays))
    assert curve.delay_s(10**9) == curve.max_s


def test_a_day_of_guessing_from_one_place_is_about_a_hundred_guesses() -> None:
    seconds, guesses = 0.0, 0
    while seconds < 86_400:
        guesses += 1
        seconds += PLACE.delay_s(guesses)
    assert guesses < 125
