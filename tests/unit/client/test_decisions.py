"""What decides about calls, without any call: times learned, second tries, paths, headers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold._core.context import Context, Priority
from tenfold.client.answer import Headers
from tenfold.client.latency import LEARNED_AFTER, Latency
from tenfold.client.options import Options
from tenfold.client.outward import headers_of, take_in
from tenfold.client.retrying import Outcome, wait_s
from tenfold.client.urls import below, filled, redirected, with_query
from tenfold.errors import (
    AddressRefused,
    BadAnswer,
    DeclarationError,
    DependencyTimeout,
    DependencyUnavailable,
)
from tenfold.guard.addresses import place_of

BASE = place_of("https://api.example/v1/", plain_http=False, allowed=())


# ── time ──


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_learned_quantiles_are_right_to_a_fifth(share: float) -> None:
    dice = random.Random(3)
    times = [dice.lognormvariate(-4, 1) for _ in range(900)]
    learned = Latency()
    for seconds in times:
        learned.learn(seconds)
    true = sorted(times)[int(share * len(times)) - 1]
    assert true / 1.25 <= (learned.quantile_s(share) or 0) <= true * 1.25


def test_nothing_is_believed_before_enough_answers_came() -> None:
    learned = Latency()
    for _ in range(LEARNED_AFTER - 1):
        learned.learn(0.1)
    assert learned.quantile_s(0.95) is None


def test_what_happened_long_ago_fades() -> None:
    learned = Latency()
    for _ in range(1000):
        learned.learn(5.0)
    for _ in range(20_000):
        learned.learn(0.01)
    assert (learned.quantile_s(0.95) or 9) < 0.02


# ── second tries ──

UNREACHED = DependencyUnavailable("", reason="connect")
BROKEN = DependencyUnavailable("", reason="broken")


@pytest.mark.parametrize(
    ("outcome", "idempotent", "again"),
    [
        (Outcome(status=200), True, False),
        (Outcome(status=404), True, False),
        (Outcome(status=500), True, False),
        (Outcome(status=503), True, True),
        (Outcome(status=503), False, False),
        (Outcome(status=429), True, True),
        (Outcome(error=UNREACHED), True, True),
        (Outcome(error=UNREACHED), False, True),
        (Outcome(error=BROKEN), True, True),
        (Outcome(error=BROKEN), False, False),
        (Outcome(error=DependencyTimeout("")), True, True),
        (Outcome(error=DependencyTimeout("")), False, False),
        (Outcome(error=DependencyUnavailable("", reason="places")), True, False),
        (Outcome(error=DependencyUnavailable("", reason="breaker")), True, False),
        (Outcome(error=BadAnswer("")), True, False),
        (Outcome(error=AddressRefused("")), True, False),
    ],
)
def test_only_what_helps_and_harms_not_is_tried_again(
    outcome: Outcome, idempotent: bool, again: bool
) -> None:
    dice = random.Random(1)
    pause = wait_s(outcome, 1, Options(), idempotent=idempotent, left_s=10, random=dice)
    assert (pause is not None) == again


def test_waits_are_drawn_from_below_a_bound_that_doubles_and_are_never_shorter_than_asked_for() -> None:
    dice = random.Random(1)
    options = Options(attempts=10, retry_base_s=0.1, retry_max_s=1.0)
    for tries, bound in ((1, 0.1), (2, 0.2), (3, 0.4), (9, 1.0)):
        drawn = [
            wait_s(Outcome(status=503), tries, options, idempotent=True, left_s=9, random=dice) or 0
            for _ in range(300)
        ]
        assert 0.9 * bound < max(drawn) <= bound
        assert min(drawn) < 0.1 * bound
    asked = Outcome(status=503, retry_after_s=5)
    assert wait_s(asked, 1, options, idempotent=True, left_s=9, random=dice) == 5


def test_no_second_try_after_the_last_or_after_the_deadline() -> None:
    dice = random.Random(1)
    assert wait_s(Outcome(status=503), 3, Options(), idempotent=True, left_s=9, random=dice) is None
    asked = Outcome(status=503, retry_after_s=5)
    assert wait_s(asked, 1, Options(), idempotent=True, left_s=4, random=dice) is None


@pytest.mark.parametrize("wrong", [{"timeout_s": 0}, {"concurrency": -1}, {"retry_share": 2}, {"wait_s": -1}])
def test_options_that_could_not_work_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DeclarationError, match=next(iter(wrong))):
        Options(**wrong)


# ── paths ──


@settings(max_examples=100, deadline=None)
@given(st.text("ab./%?#\\@:;&= \r\n\x00é☺\ud800", min_size=1, max_size=8))
def test_a_value_never_leads_out_of_its_part_of_the_path(value: str) -> None:
    try:
        path = filled("/charges/{id}/lines", {"id": value})
    except (ValueError, UnicodeEncodeError):
        assert value in (".", "..") or any(0xD800 <= ord(char) < 0xE000 for char in value)
        return
    target = below(BASE, path, None).target
    assert target.startswith("/v1/charges/")
    assert target.endswith("/lines")
    assert target.count("/") == 4
    assert not set("?#\r\n ") & set(target)


def test_blanks_and_values_have_to_fit() -> None:
    with pytest.raises(ValueError, match=r"no value for \{id\}"):
        filled("/charges/{id}", {})
    with pytest.raises(ValueError, match=r"the path has no \{page\}.*query="):
        filled("/charges", {"page": 2})


@pytest.mark.parametrize(
    "path", ["charges", "//evil.example/x", "https://evil.example/", "/a\\b", "/a\r\nHost: x", "/a#b"]
)
def test_a_path_cannot_become_another_host_or_header(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        below(BASE, path, None)


def test_queries_repeat_lists_and_leave_out_what_is_none() -> None:
    assert with_query("/a", {"tag": ["x y", "z"], "page": 2, "all": True, "none": None}) == (
        "/a?tag=x+y&tag=z&page=2&all=true"
    )
    assert with_query("/a?b=1", {"c": 2}) == "/a?b=1&c=2"
    assert with_query("/a", {"none": None}) == "/a"


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://api.example/", "https"),
        ("https://127.0.0.1/", "own"),
        ("https://169.254.169.254/latest/meta-data", "link-local"),
        ("//10.0.0.1/x", "private"),
        ("file:///etc/passwd", "https"),
        ("https://user:pw@api.example/", "user"),
    ],
)
def test_a_redirect_leads_only_where_a_call_may_go(location: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        redirected(BASE, location, plain_http=True, allowed=())


def test_a_redirect_may_be_relative() -> None:
    assert (
        redirected(BASE, "../v2/a?b=1#c", plain_http=False, allowed=()).url == "https://api.example/v2/a?b=1"
    )


# ── headers ──


def sent(context: Context, *, ours: bool = False, retries: bool = False) -> dict[str, str]:
    return headers_of(context, left_s=1.5, span_id="b" * 16, retries=retries, ours=ours, caller="shop/orders")


def test_trace_deadline_and_priority_go_to_everybody_and_the_rest_to_ours_only() -> None:
    context = Context(
        trace_id="a" * 32, tracestate="x=1", priority=Priority.SHEDDABLE, causal="1.0a-1-2", request_id="r-1"
    )
    everybody = {
        "Tenfold-Timeout-Ms": "1500",
        "traceparent": f"00-{'a' * 32}-{'b' * 16}-00",
        "tracestate": "x=1",
        "Tenfold-Priority": "sheddable",
    }
    assert sent(context) == everybody
    assert sent(context, ours=True) == everybody | {
        "Tenfold-Caller": "shop/orders", "Tenfold-Causal": "1.0a-1-2", "X-Request-Id": "r-1",
    }  # fmt: skip


def test_whoever_tries_again_says_so_and_whoever_was_told_passes_it_on() -> None:
    assert sent(Context(), retries=True)["Tenfold-Retries"] == "caller"
    assert sent(Context(retried=True))["Tenfold-Retries"] == "caller"
    assert "Tenfold-Retries" not in sent(Context())


def test_what_ours_has_written_is_taken_in_and_nonsense_is_not() -> None:
    context = Context(causal="1.0a-1-2")
    take_in(context, Headers([("tenfold-causal", "1.0a-1-9")]))
    assert context.causal == "1.0a-1-9"
    take_in(context, Headers([("tenfold-causal", "'; drop table")]))
    assert context.causal == "1.0a-1-9"
