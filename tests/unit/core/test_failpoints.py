"""Failpoints are off unless a test turns them on, and strike at the visit that was asked for."""

from __future__ import annotations

import pytest

from tenfold._core.failpoints import KNOWN, FailpointError, Failpoints, from_environment
from tenfold.errors import ConfigError


def test_only_the_test_environment_turns_them_on() -> None:
    asked = {"TENFOLD_FAILPOINTS": "db.commit.before=error"}
    assert not from_environment(asked).on
    assert not from_environment({**asked, "TENFOLD_APP_ENV": "production"}).on
    assert from_environment({**asked, "TENFOLD_APP_ENV": "test"}).on
    assert not from_environment({"TENFOLD_APP_ENV": "test"}).on


def test_a_point_strikes_at_its_visit_only() -> None:
    points = Failpoints()
    points.configure("db.commit.before=error@2, db.begin.after=error@*")
    points.visit("db.commit.before")
    points.visit("db.commit.after")
    with pytest.raises(FailpointError, match=r"db\.commit\.before"):
        points.visit("db.commit.before")
    points.visit("db.commit.before")
    for _ in range(3):
        with pytest.raises(FailpointError):
            points.visit("db.begin.after")


@pytest.mark.parametrize(
    "text", ["db.nowhere=kill", "db.commit.before", "db.commit.before=explode", "db.commit.before=kill@often"]
)
def test_a_name_or_action_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="TENFOLD_FAILPOINTS: .* with one of the names " + KNOWN[0]):
        Failpoints().configure(text)
