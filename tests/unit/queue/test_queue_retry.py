"""Retries back off exponentially, with full jitter, and end."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.errors import DeclarationError
from tenfold.queue.retry import Retry


def test_without_jitter_the_delays_double() -> None:
    retry = Retry(attempts=5, base_s=1, factor=2, jitter=False)
    assert [retry.delay_s(n, random.Random(0)) for n in (1, 2, 3, 4, 5)] == [1, 2, 4, 8, None]


def test_one_attempt_means_no_retry() -> None:
    assert Retry(attempts=1).delay_s(1, random.Random(0)) is None


def test_full_jitter_uses_the_whole_range() -> None:
    rng = random.Random(1)
    delays = [Retry(attempts=99, base_s=8).delay_s(1, rng) or 0.0 for _ in range(2_000)]
    assert min(delays) < 0.2
    assert max(delays) > 7.8
    assert 3.8 < sum(delays) / len(delays) < 4.2


@given(st.integers(1, 5_000), st.floats(0, 1e6), st.floats(1, 10), st.floats(0, 1e5), st.booleans())
def test_no_delay_is_negative_or_longer_than_the_ceiling(
    failures: int, base_s: float, factor: float, max_s: float, jitter: bool
) -> None:
    delay = Retry(5_001, base_s, factor, max_s, jitter).delay_s(failures, random.Random(0))
    assert delay is not None
    assert 0 <= delay <= max_s


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"base_s": -1}, {"factor": 0.5}, {"max_s": -1}])
def test_a_policy_that_cannot_work_is_refused_at_once(wrong: dict[str, float]) -> None:
    with pytest.raises(DeclarationError):
        Retry(**wrong)  # type: ignore[arg-type]
