"""The watch: facts from the store, people told and told again, silences, restarts, several processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tenfold._core.clock import ManualClock
from tenfold.errors import InvalidInput
from tenfold.telemetry import names
from tenfold.telemetry.alerts import news
from tenfold.telemetry.alerts.conditions import parse
from tenfold.telemetry.alerts.facts import Facts
from tenfold.telemetry.alerts.rules import Alert, Rule
from tenfold.telemetry.alerts.settings import BURNS
from tenfold.telemetry.alerts.silences import Silence, lasting, made
from tenfold.telemetry.alerts.targets import Target
from tenfold.telemetry.alerts.watch import Teller, Watch
from tenfold.telemetry.metrics import Registry
from tenfold.telemetry.objectives import Objective
from tenfold.telemetry.store.records import Point, Series

LATE = Rule("QueueLate", parse("lag > 5"), 0, "page", "{queue} is late by {value} s.", "Look.")
DIED = Rule(
    "Died", parse('increase(dead_total{queue="mail"}[10m]) > 2'), 0, "ticket", "{value} died.", "Look."
)
OPS, HOOK = Target("mail", "ops@example.com"), Target("webhook", "https://example.com/h")


class Told(Teller):
    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.broken: set[str] = set()

    async def tell(self, target: Target, alerts: Sequence[Alert]) -> None:
        if target.to in self.broken:
            raise ConnectionRefusedError("nobody listens")
        self.told += [(target.to, alert.state, alert.sentence) for alert in alerts]


class Kept:
    """A store that answers what a test says."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.gauges: dict[str, float] = {}
        self.grew: dict[str, float] = {}
        self.slo: dict[float, tuple[float, float]] = {}
        """By window: bad and all."""

    async def series(
        self, name: str, labels: Mapping[str, str] | None = None, *, since: float, by: Any = None, **_: Any
    ) -> list[Series]:
        now = self.clock.now()
        if name == "lag":
            labels = {"queue": "mail"}
            if not by:
                return [Series(name, labels, "gauge", [Point(now, sum(self.gauges.values()))])]
            return [
                Series(name, {**labels, "instance": instance}, "gauge", [Point(now - 5, value)])
                for instance, value in self.gauges.items()
            ]
        if name == "dead_total":
            return [
                Series(name, {"queue": q}, "counter", [Point(now - 60, v / 2), Point(now, v / 2)])
                for q, v in self.grew.items()
            ]
        if name in (names.SLO_BAD, names.SLO_REQUESTS):
            bad, all_ = self.slo.get(round(now - since), (0.0, 0.0))
            value = bad if name == names.SLO_BAD else all_
            of = {"operation": "orders.place", "objective": "99.9%"}
            return [Series(name, of, "counter", [Point(now, value)])]
        return []


class World:
    def __init__(
        self, folder: Path, *rules: Rule, targets: Mapping[str, Sequence[Target]] | None = None
    ) -> None:
        self.folder, self.rules = folder, rules or (LATE, DIED)
        self.targets = targets or {"page": (OPS,), "ticket": (HOOK,)}
        self.clock = ManualClock()
        self.kept, self.teller = Kept(self.clock), Told()

    def watch(self, instance: str = "web.1") -> Watch:
        of_two_operations = [Objective("99.9%"), Objective("99.9%")]
        facts = Facts(self.kept, self.rules, of_two_operations, frozenset(BURNS))  # type: ignore[arg-type]
        return Watch(
            facts, self.targets, self.teller, self.clock,
            folder=self.folder, instance=instance, every_s=15, registry=Registry(),
        )  # fmt: skip

    def looks(self, watch: Watch, seconds: float = 15) -> None:
        async def main() -> None:
            await self.clock.advance(seconds)
            await watch.look()

        asyncio.run(main())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_gauge_is_looked_at_for_each_instance_and_a_counter_for_all_together(world: World) -> None:
    world.kept.gauges = {"web.1": 3, "web.2": 9}  # 12 in all: each by itself counts
    world.kept.grew = {"mail": 3}
    watch = world.watch()
    world.looks(watch)
    assert world.teller.told == [
        ("ops@example.com", "firing", "mail is late by 9 s."),
        ("https://example.com/h", "firing", "3 died."),
    ]
    assert watch.state.alerts[0].labels == (("instance", "web.2"), ("queue", "mail"))


@pytest.mark.parametrize(
    ("shares", "rules"),
    [
        ({300: (2, 100), 3_600: (6, 300)}, ["BudgetBurnsFast"]),
        ({300: (2, 100), 3_600: (4, 200)}, []),
        ({300: (0, 100), 3_600: (6, 300)}, []),
        ({7_200: (8, 2000), 86_400: (8, 2000)}, ["BudgetBurnsSlowly"]),
        ({300: (0, 0), 3_600: (0, 0)}, []),
    ],
)
def test_an_error_budget_burns_where_both_windows_do(
    world: World, shares: dict[float, tuple[float, float]], rules: list[str]
) -> None:
    world.kept.slo = shares
    watch = world.watch()
    world.looks(watch)
    assert [alert.rule for alert in watch.state.alerts] == rules


def test_a_restart_neither_forgets_nor_tells_again(world: World) -> None:
    world.kept.gauges = {"web.1": 9}
    before = world.watch()
    world.looks(before)
    asyncio.run(before.stop())
    after = world.watch()
    world.looks(after)
    assert len(world.teller.told) == 1
    world.kept.gauges = {}
    world.looks(after, 61)
    assert world.teller.told[-1][1] == "resolved"


def test_of_two_processes_one_watches_until_it_ends(world: World) -> None:
    world.kept.gauges = {"web.1": 9}
    one, two = world.watch("web.1"), world.watch("web.2")
    world.looks(one)
    world.looks(two)
    assert (two.state.by, len(two.state.alerts), len(world.teller.told)) == ("web.1", 1, 1)
    asyncio.run(one.stop())
    world.looks(two)
    assert (two.state.by, len(world.teller.told)) == ("web.2", 1)


def test_who_could_not_be_told_is_told_at_the_next_look(world: World) -> None:
    world.kept.gauges = {"web.1": 9}
    world.teller.broken = {OPS.to}
    watch = world.watch()
    world.looks(watch)
    assert "ops@example.com could not be told of 1: ConnectionRefusedError" in watch.state.untold
    world.teller.broken.clear()
    world.looks(watch)
    world.looks(watch)
    assert [state for _, state, _ in world.teller.told] == ["firing"]
    assert watch.state.untold == ""


def test_a_silence_made_in_another_process_is_heeded_and_ends(world: World) -> None:
    one, two = world.watch("web.1"), world.watch("web.2")

    def silence(kept: list[Silence]) -> list[Silence]:
        now = world.clock.now()
        return [*kept, made("s1", None, hours="1", by="ann", why="a migration", now=now)]

    asyncio.run(two.change(silence))
    world.kept.gauges = {"web.1": 9}
    world.looks(one, 3_540)
    assert (one.state.alerts[0].state, world.teller.told) == ("firing", [])
    assert [each.why for each in one.silences] == ["a migration"]
    world.looks(one, 90)
    assert one.silences == []
    assert [state for _, state, _ in world.teller.told] == ["firing"]


def test_a_broken_file_counts_as_none(world: World) -> None:
    (world.folder / "alerts.json").write_text("{half")
    (world.folder / "silences.json").write_bytes(b"\xff")
    world.kept.gauges = {"web.1": 9}
    watch = world.watch()
    world.looks(watch)
    assert len(watch.state.alerts) == 1


@pytest.mark.parametrize(
    ("hours", "why", "field"),
    [
        ("0", "because", "hours"),
        ("soon", "because", "hours"),
        ("1", " ", "why"),
        ("9999", "because", "hours"),
    ],
)
def test_a_silence_says_how_long_and_why(hours: str, why: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        made("s", None, hours=hours, by="ann", why=why, now=0)
    assert [error.path for error in refused.value.errors] == [field]


def test_a_clock_set_back_makes_no_silence_longer() -> None:
    silence = made("s", None, hours="1", by="ann", why="because", now=1e9)
    assert lasting([silence], 1e9 + 3_599) == [silence]
    assert lasting([silence], 1e9 + 3_600) == []
    assert lasting([silence], 1e9 - 86_400) == []


ALERT = Alert(
    "QueueLate", (("queue", "<mail>"),), "page", "firing", 1_700_000_000.0, 1_700_000_060.0,
    sentence="<mail> is late & more.", do="Look.",
)  # fmt: skip


def test_webhooks_get_what_alertmanager_sends() -> None:
    body = json.loads(news.webhook("shop", [ALERT]))
    (alert,) = body["alerts"]
    assert (body["version"], body["status"], alert["status"]) == ("4", "firing", "firing")
    assert alert["labels"] == {
        "queue": "<mail>",
        "alertname": "TenfoldQueueLate",
        "severity": "page",
        "job": "shop",
    }
    assert alert["startsAt"] == "2023-11-14T22:13:20Z"
    resolved = json.loads(news.webhook("shop", [structs.replace(ALERT, state="resolved")]))
    assert resolved["status"] == "resolved"
    assert resolved["alerts"][0]["fingerprint"] == alert["fingerprint"]


def test_slack_gets_text_without_mark_up_of_others() -> None:
    text = json.loads(news.slack("shop", ALERT))["text"]
    assert "[shop] PAGE: &lt;mail&gt; is late &amp; more." in text


def test_mails_have_a_subject_of_one_line_and_say_what_to_do() -> None:
    assert news.subject("shop", ALERT) == "[shop] PAGE: <mail> is late & more."
    text = news.mail("shop", ALERT)
    assert "Look." in text
    assert "queue     <mail>" in text


def test_the_budget_of_an_operation_is_told_once_however_many_have_its_objective(world: World) -> None:
    world.kept.slo = {Objective("99.9%").period_s: (1, 4_000)}
    assert asyncio.run(world.watch().budgets()) == [("orders.place", Objective("99.9%"), pytest.approx(0.75))]
