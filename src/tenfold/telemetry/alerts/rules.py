"""What is watched, and the life of an alert. Pure: values and times in, alerts and news out.

A rule's condition holds for some sets of labels. One that holds is *pending*; once it has held for the rule's ``for``
without a break it is *firing*, and somebody is told. One that no longer holds is *resolved* after ``KEEP_FIRING_S`` of
quiet, so that a value that swings around its bound does not tell the same story every minute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from msgspec import Struct, structs

from tenfold.telemetry import names
from tenfold.telemetry.alerts.conditions import Condition, parse

Severity = Literal["page", "ticket"]
State = Literal["pending", "firing", "resolved"]
Labels = tuple[tuple[str, str], ...]

KEEP_FIRING_S: Final = 60.0
REMIND_S: Final[Mapping[str, float]] = {"page": 3_600.0, "ticket": 86_400.0}
"""A firing alert is told again after so long."""
ALERTS_MAX: Final = 200
"""Alerts at a time. What is beyond is counted: nobody reads more, and labels may come by the thousand."""


class Rule(Struct, frozen=True):
    """One condition with a name, and what to say when it holds. In ``says``, ``{label}`` and ``{value}`` are replaced."""

    name: str
    """``QueueLate``; Prometheus' alerts have ``Tenfold`` before it."""
    condition: Condition | None
    """None for those that :mod:`.facts` looks at by itself."""
    for_s: int
    severity: Severity
    says: str
    do: str
    """What to look at, or do."""


class Alert(Struct, frozen=True):
    """One rule, for one set of labels."""

    rule: str
    labels: Labels
    severity: Severity
    state: State
    since: float
    """When the condition began to hold."""
    seen: float
    """When it last held."""
    told: float = 0.0
    """When somebody was last told; 0 for never."""
    value: float = 0.0
    sentence: str = ""
    do: str = ""

    @property
    def key(self) -> tuple[str, Labels]:
        """What makes it this alert."""
        return self.rule, self.labels


class Fact(Struct, frozen=True):
    """A rule's condition holds for these labels, now."""

    rule: Rule
    labels: Labels
    value: float


class Outcome(Struct, frozen=True):
    """What a look brought."""

    alerts: dict[tuple[str, Labels], Alert]
    """All that are pending or firing."""
    news: list[Alert]
    """What to tell: firing ones that are new or due again, and resolved ones that somebody was told of."""
    left_out: int
    """Facts beyond :data:`ALERTS_MAX`."""


def look(before: Mapping[tuple[str, Labels], Alert], facts: Iterable[Fact], now: float) -> Outcome:
    """From what was, and what holds now, to what is. A clock that goes back makes nothing fire earlier."""
    held = {(fact.rule.name, fact.labels): fact for fact in facts}
    kept = [key for key in held if key in before]
    fresh = [key for key in held if key not in before]
    room = max(0, ALERTS_MAX - len(before))
    alerts: dict[tuple[str, Labels], Alert] = {}
    news: list[Alert] = []
    for key in (*kept, *fresh[:room]):
        alert = _holding(before.get(key), held[key], now)
        if alert.state == "firing" and (not alert.told or now - alert.told >= REMIND_S[alert.severity]):
            alert = structs.replace(alert, told=now)
            news.append(alert)
        alerts[key] = alert
    for key, alert in before.items():
        if key in held:
            continue
        if alert.state == "firing" and 0 <= now - alert.seen < KEEP_FIRING_S:
            alerts[key] = alert
        elif alert.told:
            news.append(structs.replace(alert, state="resolved"))
    return Outcome(alerts, news, len(fresh[room:]))


def _holding(before: Alert | None, fact: Fact, now: float) -> Alert:
    rule = fact.rule
    since = now if before is None else min(before.since, now)
    firing = (before is not None and before.state == "firing") or now - since >= rule.for_s
    return Alert(
        rule=rule.name,
        labels=fact.labels,
        severity=rule.severity,
        state="firing" if firing else "pending",
        since=since,
        seen=now,
        told=0.0 if before is None else min(before.told, now),
        value=fact.value,
        sentence=sentence(rule.says, fact),
        do=rule.do,
    )


def sentence(says: str, fact: Fact) -> str:
    """What the rule says, of this fact. Labels that it names and that are not there are left empty."""
    text = says.replace("{value}", f"{fact.value:,.4g}")
    for name, value in fact.labels:
        text = text.replace(f"{{{name}}}", value)
    return text


def _rule(name: str, when: str, for_s: int, severity: Severity, says: str, do: str) -> Rule:
    return Rule(name, parse(when, name), for_s, severity, says, do)


BUILT_IN: Final = (
    _rule(
        "QueueLate",
        f"{names.QUEUE_OLDEST} > 300",
        300,
        "page",
        "The oldest message that is due has waited for {value} s.",
        "Are workers running (`tenfold ps`), and what do they do (`tenfold jobs`)? Start more: `tenfold scale worker=4`.",
    ),
    _rule(
        "JobsDie",
        f'{names.QUEUE_MESSAGES}{{state="dead"}} > 0',
        0,
        "ticket",
        "{value} messages of the queue {queue} are dead: all of their attempts failed.",
        "See the errors with `tenfold jobs`, mend them, then `tenfold jobs retry`, or discard them.",
    ),
    _rule(
        "RequestsShed",
        f"rate({names.HTTP_SHED}[5m]) > 1",
        300,
        "page",
        "{value} requests a second of priority {priority} are refused, since the instance is overloaded.",
        "Start more instances, or find what is slow on the page /operations.",
    ),
    _rule(
        "CheckFails",
        f"{names.HEALTH} < 1",
        120,
        "page",
        "The check {check} fails, so balancers send nobody here.",
        "/health/ready says why in a sentence.",
    ),
    _rule(
        "BreakerOpen",
        f"{names.CLIENT_BREAKER} >= 1",
        300,
        "ticket",
        "Calls of {client} to {host} are held back: too many failed.",
        "Look at the other side; the page /policies shows the breaker.",
    ),
    _rule(
        "EventsLate",
        f"{names.EVENTS_OLDEST} > 300",
        300,
        "ticket",
        "The oldest event that is not yet at the broker has waited for {value} s.",
        "Is the broker reachable? The page /events shows the relay.",
    ),
    _rule(
        "TelemetryLost",
        f"increase({names.LOG_DROPPED}[10m]) > 0",
        0,
        "ticket",
        "{value} lines of the log were lost: {reason}.",
        "Is the disk full, or the reader of the log slow?",
    ),
)
"""What is watched in every app. ``tenfold observe prometheus`` writes the same for Prometheus."""
