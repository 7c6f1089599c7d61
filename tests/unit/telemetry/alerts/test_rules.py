"""The life of an alert: pending, firing, resolved; and how many there may be."""

from __future__ import annotations

from collections.abc import Iterable

from tenfold.telemetry.alerts.conditions import parse
from tenfold.telemetry.alerts.rules import ALERTS_MAX, KEEP_FIRING_S, Alert, Fact, Outcome, Rule, look

RULE = Rule("Late", parse("lag > 5"), 60, "page", "{queue} waits {value} s.", "Look.")
Before = dict[tuple[str, tuple[tuple[str, str], ...]], Alert]


def fact(queue: str = "mail", value: float = 7.0) -> Fact:
    return Fact(RULE, (("queue", queue),), value)


class Story:
    """Looks, one after the other."""

    def __init__(self) -> None:
        self.alerts: Before = {}
        self.told: list[tuple[float, str]] = []

    def at(self, now: float, *facts: Fact) -> Outcome:
        outcome = look(self.alerts, facts, now)
        self.alerts = outcome.alerts
        self.told += [(now, alert.state) for alert in outcome.news]
        return outcome

    def states(self) -> Iterable[str]:
        return [alert.state for alert in self.alerts.values()]


def test_a_condition_must_hold_for_its_time_without_a_break() -> None:
    story = Story()
    story.at(0, fact())
    story.at(45, fact())
    story.at(50)  # a break
    story.at(65, fact())
    assert story.states() == ["pending"]
    story.at(125, fact())
    assert story.states() == ["firing"]
    assert story.told == [(125, "firing")]


def test_what_nobody_was_told_of_is_not_resolved_to_anybody() -> None:
    story = Story()
    story.at(0, fact())
    story.at(15)
    assert (story.alerts, story.told) == ({}, [])


def test_a_value_that_swings_tells_one_story() -> None:
    story = Story()
    for now in range(0, 600, 30):
        story.at(now, *([fact()] if now < 90 or now % 60 else []))
    assert story.told == [(60, "firing")]
    story.at(600 + KEEP_FIRING_S)
    assert story.told == [(60, "firing"), (660, "resolved")]


def test_a_page_that_goes_on_is_told_again_every_hour() -> None:
    story = Story()
    for now in range(0, 2 * 3600 + 61, 60):
        story.at(now, fact())
    assert [now for now, _ in story.told] == [60, 3660, 7260]


def test_the_sentence_names_labels_and_value() -> None:
    outcome = look({}, [fact("mail", 1234.5)], 0)
    assert next(iter(outcome.alerts.values())).sentence == "mail waits 1,234 s."


def test_labels_by_the_hundred_thousand_make_so_many_alerts_and_a_count() -> None:
    story = Story()
    outcome = story.at(0, *(fact(f"q{number}") for number in range(100_000)))
    assert (len(outcome.alerts), outcome.left_out) == (ALERTS_MAX, 100_000 - ALERTS_MAX)
    again = story.at(60, *(fact(f"q{number}") for number in reversed(range(100_000))))
    assert set(again.alerts) == set(outcome.alerts)
    assert len(again.news) == ALERTS_MAX


def test_a_clock_that_jumps_back_neither_fires_early_nor_keeps_silent_for_ever() -> None:
    story = Story()
    story.at(10_000, fact())
    story.at(5_000, fact())
    assert story.states() == ["pending"]
    story.at(5_060, fact())
    assert story.told == [(5_060, "firing")]
    story.at(100, fact())
    story.at(100 + 3_600, fact())
    assert [now for now, _ in story.told] == [5_060, 3_700]


def test_a_clock_that_jumps_ahead_fires_what_holds_and_resolves_what_does_not() -> None:
    story = Story()
    story.at(0, fact())
    story.at(1e9, fact())
    story.at(2e9)
    assert [state for _, state in story.told] == ["firing", "resolved"]
