"""When schedules tick: against a minute-by-minute reading of the wall clock, across changes of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from tenfold.errors import DeclarationError
from tenfold.schedules.calendar import (
    CATCH_UP_MAX,
    COUNTED_MAX,
    GRACE_S,
    Cron,
    Interval,
    due_ticks,
    passed_over,
)


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def ticks(cron: Cron, start: float, end: float) -> list[float]:
    found: list[float] = []
    while (start := cron.after(start)) < end:
        found.append(start)
    return found


CHANGES = [  # the hour around a change of the clocks
    ("Europe/London", "2026-03-29T00:00"),
    ("Europe/London", "2026-10-25T00:00"),
    ("America/New_York", "2026-03-08T00:00"),
    ("America/New_York", "2026-11-01T00:00"),
    ("Australia/Lord_Howe", "2026-04-05T00:00"),  # half an hour
    ("Australia/Lord_Howe", "2026-10-04T00:00"),
    ("Asia/Kolkata", "2026-03-29T00:00"),  # none
]
CRONS = [
    "*/15 * * * *",
    "0 * * * *",
    "30 1 * * *",
    "*/20 1,2 * * *",
    "5 */2 * * *",
    "15 2 * * *",
    "0 3 * * sun",
]


@pytest.mark.parametrize("expression", CRONS)
@pytest.mark.parametrize(("zone", "night"), CHANGES)
def test_ticks_are_those_minutes_whose_wall_time_matches(zone: str, night: str, expression: str) -> None:
    cron = Cron.parse(expression, zone)
    start = at(night, zone)
    expected: set[float] = set()
    for minute in range(6 * 60):
        t = start + minute * 60
        wall, before = (datetime.fromtimestamp(x, cron.zone).replace(tzinfo=None) for x in (t, t - 60))
        fold = datetime.fromtimestamp(t, cron.zone).fold
        if croniter.match(expression, wall) and (cron.wild_hours or fold == 0):
            expected.add(t)
        skipped = [
            before + timedelta(minutes=n) for n in range(1, int((wall - before).total_seconds() // 60))
        ]
        if not cron.wild_hours and any(croniter.match(expression, w) for w in skipped):
            expected.add(t)
    assert ticks(cron, start - 1, start + 6 * 3600) == sorted(expected)


def test_a_daily_time_that_is_skipped_ticks_when_the_clocks_change() -> None:
    cron = Cron.parse("30 1 * * *", "Europe/London")
    assert cron.after(at("2026-03-28T12:00")) == at("2026-03-29T01:00")  # 02:00 BST


def test_a_daily_time_that_is_repeated_ticks_once() -> None:
    cron = Cron.parse("30 1 * * *", "Europe/London")
    assert ticks(cron, at("2026-10-24T12:00"), at("2026-10-26T00:00")) == [at("2026-10-25T00:30")]


def test_every_hour_ticks_in_both_of_the_repeated_hours_and_not_in_the_skipped_one() -> None:
    cron = Cron.parse("0 * * * *", "Europe/London")
    autumn = ticks(cron, at("2026-10-24T23:30"), at("2026-10-25T04:30"))
    spring = ticks(cron, at("2026-03-28T23:30"), at("2026-03-29T04:30"))
    assert [t - autumn[0] for t in autumn] == [0, 3600, 7200, 10800, 14400]
    assert [t - spring[0] for t in spring] == [0, 3600, 7200, 10800, 14400]


@given(st.floats(1.6e9, 1.9e9), st.sampled_from(CRONS), st.sampled_from([zone for zone, _ in CHANGES]))
def test_the_next_tick_is_later_and_nothing_lies_between(t: float, expression: str, zone: str) -> None:
    cron = Cron.parse(expression, zone)
    following = cron.after(t)
    assert following > t
    assert cron.after(following - 0.5) == following
    assert cron.after((t + following) / 2) == following or (t + following) / 2 >= following


@given(st.floats(0, 4e9), st.floats(1, 1e6))
def test_intervals_tick_at_the_same_instants_everywhere(t: float, seconds: float) -> None:
    interval = Interval(seconds)
    tick = interval.after(t)
    assert t < tick <= t + seconds * 1.001
    assert round(tick / seconds) * seconds == pytest.approx(tick)


@pytest.mark.parametrize(
    ("expression", "zone", "says"),
    [
        ("0 3 * *", "UTC", "4 fields"),
        ("61 * * * *", "UTC", "not a cron expression"),
        ("0 0 31 2 *", "UTC", "never comes"),
        ("0 3 * * *", "Europe/Lundon", "no time zone"),
        ("@sometimes", "UTC", "not a cron expression"),
    ],
)
def test_a_wrong_rule_is_refused_with_a_sentence(expression: str, zone: str, says: str) -> None:
    with pytest.raises(DeclarationError, match=says):
        Cron.parse(expression, zone)


def test_aliases_work() -> None:
    assert Cron.parse("@daily").after(at("2026-05-05T10:00")) == at("2026-05-06T00:00")
    assert Cron.parse("@hourly").wild_hours


@pytest.mark.parametrize("seconds", [0, -1, 0.5, float("inf"), float("nan")])
def test_an_interval_below_a_second_is_refused(seconds: float) -> None:
    with pytest.raises(DeclarationError):
        Interval(seconds)


HOURLY = Interval(3600)
NOON = at("2026-05-05T12:00")


def test_nothing_is_due_before_its_time() -> None:
    assert due_ticks(HOURLY, NOON, NOON - 1, "all") == ([], NOON)


def test_missed_once_runs_the_newest() -> None:
    assert due_ticks(HOURLY, NOON, NOON + 5 * 3600 + 100, "once") == ([NOON + 5 * 3600], NOON + 6 * 3600)


def test_missed_all_runs_each_up_to_a_bound() -> None:
    assert due_ticks(HOURLY, NOON, NOON + 2 * 3600, "all") == (
        [NOON, NOON + 3600, NOON + 7200],
        NOON + 3 * 3600,
    )
    made, following = due_ticks(Interval(1), NOON, NOON + 10 * CATCH_UP_MAX, "all")
    assert len(made) == CATCH_UP_MAX
    assert following == NOON + CATCH_UP_MAX


def test_missed_skip_runs_none_that_is_late_but_forgives_a_restart() -> None:
    assert due_ticks(HOURLY, NOON, NOON + GRACE_S, "skip") == ([NOON], NOON + 3600)
    assert due_ticks(HOURLY, NOON, NOON + GRACE_S + 1, "skip") == ([], NOON + 3600)


@given(st.integers(0, 50_000_000), st.sampled_from([1, 60, 3600, 86_400]))
def test_the_newest_tick_is_found_however_long_the_pause(pause: int, seconds: int) -> None:
    midnight = at("2026-05-05T00:00")
    made, following = due_ticks(Interval(seconds), midnight, midnight + pause, "once")
    assert len(made) == 1
    assert made[0] <= midnight + pause < following == made[0] + seconds


def test_the_zone_is_utc_unless_said() -> None:
    assert datetime.fromtimestamp(Cron.parse("0 3 * * *").after(NOON), UTC).hour == 3


def test_of_very_many_missed_ticks_the_newest_are_made_up_for() -> None:
    now = NOON + 100 * 3600
    assert due_ticks(HOURLY, NOON, now, "all", 3) == ([now - 7200, now - 3600, now], now + 3600)
    assert due_ticks(Interval(1), NOON, now, "all", 2) == ([now - 1, now], now + 1)
    assert due_ticks(HOURLY, NOON, NOON + 3600, "all", 3)[0] == [NOON, NOON + 3600]


@given(st.integers(0, 400), st.integers(1, 50))
def test_the_bound_takes_the_newest_of_all(hours: int, most: int) -> None:
    now = NOON + hours * 3600 + 7
    every, _ = due_ticks(HOURLY, NOON, now, "all")
    assert due_ticks(HOURLY, NOON, now, "all", most)[0] == every[-most:]


def test_what_is_passed_over_is_counted() -> None:
    later = NOON + 5 * 3600 + 100
    for missed, passed in (("once", 5), ("skip", 6), ("all", 0)):
        ticks, following = due_ticks(HOURLY, NOON, later, missed)  # type: ignore[arg-type]
        assert passed_over(HOURLY, NOON, ticks, following) == passed
    ticks, following = due_ticks(Interval(1), NOON, NOON + 1e6, "once")
    assert passed_over(Interval(1), NOON, ticks, following) == COUNTED_MAX
