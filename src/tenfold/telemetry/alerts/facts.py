"""What of the rules holds now, by the store of telemetry: for each instance where a gauge is looked at, for all instances
together where a counter's growth is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from tenfold.telemetry import names
from tenfold.telemetry.alerts.rules import Fact, Labels, Rule, Severity
from tenfold.telemetry.objectives import BAD_MIN, Burn, Objective, burns_of
from tenfold.telemetry.store.reader import Records
from tenfold.telemetry.store.records import Series

FRESH_S: Final = 60.0
"""A gauge whose latest point is older is one of a process that is gone."""
SERIES_MAX: Final = 1_000
"""Of one rule; what is beyond is not looked at."""
_BY: Final = (names.OPERATION, names.OBJECTIVE)


class Facts:
    """Asks the store."""

    def __init__(
        self,
        records: Records,
        rules: Sequence[Rule],
        objectives: Sequence[Objective],
        burning: frozenset[str],
    ) -> None:
        self._records, self._rules = records, rules
        # Many operations have the same one, most often that of their app: it is asked for once.
        self._objectives, self._burning = tuple({str(each): each for each in objectives}.values()), burning

    async def now(self, now: float) -> list[Fact]:
        """Every fact."""
        facts: list[Fact] = []
        for rule in self._rules:
            facts += await self._of(rule, now)
        if self._objectives and self._burning:
            facts += await self._budgets(now)
        return facts

    async def budgets(self, now: float) -> list[tuple[str, Objective, float]]:
        """By operation: its objective, and which share of the period's error budget is left, below 0 when more than all of it
        is spent. Of a period longer than telemetry is kept, what is known of it counts."""
        found: list[tuple[str, Objective, float]] = []
        for objective in self._objectives:
            for labels, requests in (await self._requests(now - objective.period_s)).items():
                known = dict(labels)
                if known.get(names.OBJECTIVE) == str(objective):
                    found.append((known[names.OPERATION], objective, 1 - requests.share / objective.budget))
        return sorted(found, key=lambda each: each[2])

    async def _of(self, rule: Rule, now: float) -> list[Fact]:
        condition = rule.condition
        assert condition is not None
        since = now - (condition.over_s or 2 * FRESH_S)
        found = await self._records.series(condition.metric, dict(condition.labels), since=since)
        if condition.how == "value" and found:
            apart = (*{name for series in found for name in series.labels}, "instance")
            found = await self._records.series(
                condition.metric, dict(condition.labels), since=since, by=apart
            )
        facts: list[Fact] = []
        for series in found[:SERIES_MAX]:
            value = latest(series, now) if condition.how == "value" else growth(series)
            if value is None:
                continue
            value = value / condition.over_s if condition.how == "rate" else value
            if condition.holds(value):
                facts.append(Fact(rule, _labels(series.labels), value))
        return facts

    async def _budgets(self, now: float) -> list[Fact]:
        by_text = {str(each): each for each in self._objectives}
        burns = {burn for each in self._objectives for burn in burns_of(each)}
        windows = {window for burn in burns for window in (burn.long_s, burn.short_s)}
        requests = {window: await self._requests(now - window) for window in windows}
        facts: dict[tuple[str, Labels], Fact] = {}
        for labels in {labels for within in requests.values() for labels in within}:
            objective = by_text.get(dict(labels).get(names.OBJECTIVE, ""))
            for burn in burns_of(objective) if objective else ():
                assert objective is not None
                rule = BURNING[burn.severity]
                if rule.name in self._burning and _burns(requests, labels, burn, objective):
                    fact = Fact(rule, labels, requests[burn.long_s][labels].share * 100)
                    facts.setdefault((rule.name, labels), fact)
        return list(facts.values())

    async def _requests(self, since: float) -> dict[Labels, Requests]:
        """By operation and objective: how many there were, and how many of them were bad."""
        bad = await self._records.series(names.SLO_BAD, since=since, by=_BY)
        all_ = await self._records.series(names.SLO_REQUESTS, since=since, by=_BY)
        spoilt = {_labels(series.labels): growth(series) for series in bad}
        return {
            labels: Requests(spoilt.get(labels, 0.0), total)
            for series in all_
            if (total := growth(series)) > 0
            for labels in (_labels(series.labels),)
        }


class Requests(NamedTuple):
    """Of one operation, within a window."""

    bad: float = 0.0
    all: float = 1.0

    @property
    def share(self) -> float:
        return self.bad / self.all


def _burns(
    requests: Mapping[int, Mapping[Labels, Requests]], labels: Labels, burn: Burn, objective: Objective
) -> bool:
    long, short = (requests[window].get(labels, Requests()) for window in (burn.long_s, burn.short_s))
    bound = burn.rate(objective) * objective.budget
    return long.bad >= BAD_MIN and long.share > bound and short.share > bound


def _rule(severity: Severity, name: str, how: str) -> Rule:
    return Rule(
        name,
        None,
        0,
        severity,
        f"{{operation}} spends its error budget {how}: {{value}} % of its requests are bad, of an objective of {{objective}}.",
        "The pages /operations and /traces show which requests, and why.",
    )


BURNING: Final[Mapping[str, Rule]] = {
    "page": _rule("page", "BudgetBurnsFast", "fast"),
    "ticket": _rule("ticket", "BudgetBurnsSlowly", "slowly but surely"),
}
"""What objectives bring, by severity; both windows of a burn rate have to burn."""


def latest(series: Series, now: float) -> float | None:
    """The value of the latest point, unless that is old."""
    if not series.points or now - series.points[-1].at > FRESH_S:
        return None
    return series.points[-1].value


def growth(series: Series) -> float:
    """How much it grew: of a counter, its points say so each; of a gauge, from the first to the last."""
    if series.kind == "gauge":
        return series.points[-1].value - series.points[0].value if series.points else 0.0
    return sum(point.value for point in series.points)


def _labels(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))
