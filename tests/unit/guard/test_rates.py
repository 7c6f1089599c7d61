"""The written form of limits: what it means, and what is said about mistakes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.errors import DeclarationError
from tenfold.guard.rates import Limit, Window, parse


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("20/minute", [Window(20, 60, 20)]),
        ("20/minute per principal", [Window(20, 60, 20)]),
        ("1_000 / 2 hours per tenant", [Window(1000, 7200, 1000, "tenant")]),
        ("5/s burst 2 per address", [Window(5, 1, 2, "address")]),
        (
            "100/hour, 10/second per API key",
            [Window(100, 3600, 100, "api key"), Window(10, 1, 10, "api key")],
        ),
        ("9/day per api-key, 1/sec", [Window(9, 86400, 9, "api key"), Window(1, 1, 1)]),
        (
            "9/min per tenant, 50/m per operation",
            [Window(9, 60, 9, "tenant"), Window(50, 60, 50, "operation")],
        ),
        ("7/30 Seconds", [Window(7, 30, 7)]),
    ],
)
def test_what_a_limit_means(text: str, windows: list[Window]) -> None:
    assert list(parse(text)) == windows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "character 1: the end"),
        ("minute/20", "begins with a number, at character 1: 'minute'"),
        ("20 per minute", "slash must follow the number, at character 4: 'per'"),
        ("20/minut per principal", "unit of time .* character 4: 'minut'.*Did you mean 'minute'"),
        ("20/minute per user", "whom .* character 15: 'user'"),
        ("20/minute per princpal", "Did you mean 'principal'"),
        ("20/minute per api", "whom .* character 18: the end"),
        ("20/minute burst lots", "number must follow burst, at character 17: 'lots'"),
        ("20/minute 5/second", "more than a limit here, at character 11: '5'"),
        ("20/minute,", "begins with a number, at character 11: the end"),
        ("0/minute", "out of bounds, at character 1"),
        ("20/0 minutes", "out of bounds, at character 4"),
        ("9999999/second", "window is out of bounds, at character 1"),
        ("20/5000 days", "window is out of bounds"),
        ("20/minute; 5/s", "character 10: ';'"),
    ],
)
def test_a_mistake_is_shown_with_its_position(text: str, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        parse(text)


windows = st.builds(
    Window,
    st.integers(1, 10_000),
    st.integers(1, 100_000),
    st.integers(1, 1_000),
    st.sampled_from(["principal", "address", "api key", "tenant", "operation"]),
)


@given(windows)
def test_a_window_reads_as_it_is_written(window: Window) -> None:
    assert parse(str(window)) == (window,)


@given(windows)
def test_rounding_is_in_favour_of_the_limit_and_small(window: Window) -> None:
    exact = window.period_s * 1_000_000 / window.count
    assert exact <= window.interval_us < exact + 1
    assert window.room_us == window.burst * window.interval_us


@pytest.mark.parametrize("cost", [0, 21, -1])
def test_a_cost_that_never_fits_is_refused_at_once(cost: int) -> None:
    with pytest.raises(DeclarationError, match="from 1 to 20"):
        Limit("20/minute", cost=cost)


def test_a_policy_that_does_not_exist_is_refused() -> None:
    with pytest.raises(DeclarationError, match="none of open, closed, local"):
        Limit("20/minute", away="opne")  # type: ignore[arg-type]
