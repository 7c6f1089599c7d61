"""``tenfold events list|replay|quarantine``: moments, and what is said."""

from __future__ import annotations

import pytest

from tenfold.cli.event_flow import moment
from tenfold.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "ago_s"), [("now", 0), ("45s", 45), ("90m", 5_400), ("2h", 7_200), ("3d", 259_200)]
)
def test_a_moment_may_be_said_as_how_long_ago(text: str, ago_s: int) -> None:
    assert moment(text, 1_000_000.0, "--since") == 1_000_000.0 - ago_s


def test_a_moment_may_be_a_date_with_an_offset() -> None:
    assert moment("1970-01-02 00:00+00:00", 0.0, "--since") == 86_400.0


@pytest.mark.parametrize("text", ["99999999999999999999d", "", "yesterday", "h", "-2h", "2026-13-01"])
def test_what_is_no_moment_is_said_with_what_can_be_written(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--since: .* is no moment\. Write"):
        moment(text, 0.0, "--since")
