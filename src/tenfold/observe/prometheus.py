"""Recording and alerting rules for Prometheus. Pure.

Alerts on objectives follow the multi-window, multi-burn-rate method of the Site Reliability Workbook (ch. 5): a page where
2 % of the period's budget is gone in an hour or 5 % in six, a ticket where 10 % is gone in one day or in three, and each
only while a window of a twelfth of that still burns as fast, so that an alert ends soon after its cause. A few bad requests
are none yet, whatever their share.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tenfold.observe.text import yaml
from tenfold.telemetry import names
from tenfold.telemetry.alerts.conditions import written
from tenfold.telemetry.alerts.rules import BUILT_IN, Rule
from tenfold.telemetry.objectives import BAD_MIN, Burn, Objective, burns_of

BY: Final = f"job, {names.OPERATION}, {names.OBJECTIVE}"
_LABEL: Final = re.compile(r"(?<!\{)\{(\w+)\}(?!\})")


def rules(app: str, objectives: Mapping[str, Objective], *, job: str = "", extra: Iterable[Rule] = ()) -> str:
    """The rule file for ``app``. ``job`` is the name that the scrape configuration gives it, by default the app's;
    ``extra`` are rules of its own settings (``[alerts.rules]``)."""
    job = job or app
    distinct = list({str(each): each for each in objectives.values()}.values())
    groups = [
        {"name": f"{app}-recorded", "interval": "30s", "rules": [*_traffic(job), *_ratios(distinct, job)]},
        {"name": f"{app}-objectives", "rules": [alert for each in distinct for alert in _burning(each, job)]},
        {
            "name": f"{app}-health",
            "rules": [_down(job), *(_watched(rule, job) for rule in (*BUILT_IN, *extra))],
        },
    ]
    about = (
        f"Rules of {app} for Prometheus, written by `tenfold observe prometheus`.\n"
        f"They hold for the scrape job {job!r}; check them with `promtool check rules FILE`."
    )
    return yaml({"groups": [group for group in groups if group["rules"]]}, about=about)


def ratio(window_s: int) -> str:
    """The name under which the share of bad requests within a window is recorded."""
    return f"tenfold:slo_bad:ratio_rate{written(window_s)}"


def _traffic(job: str) -> list[dict[str, Any]]:
    by = f"job, {names.OPERATION}"
    seconds = f'rate({names.HTTP_DURATION}_bucket{{job="{job}"}}[5m])'
    recorded = {
        "tenfold:http_requests:rate5m": f'sum by ({by}) (rate({names.HTTP_REQUESTS}{{job="{job}"}}[5m]))',
        "tenfold:http_errors:rate5m": f'sum by ({by}) (rate({names.HTTP_REQUESTS}{{job="{job}",status="5xx"}}[5m]))',
        "tenfold:http_request_duration_seconds:p50_5m": f"histogram_quantile(0.5, sum by ({by}, le) ({seconds}))",
        "tenfold:http_request_duration_seconds:p99_5m": f"histogram_quantile(0.99, sum by ({by}, le) ({seconds}))",
    }
    return [{"record": name, "expr": expr} for name, expr in recorded.items()]


def _ratios(objectives: list[Objective], job: str) -> list[dict[str, Any]]:
    windows = {
        window for each in objectives for burn in burns_of(each) for window in (burn.long_s, burn.short_s)
    }
    here = f'job="{job}"'
    made: list[dict[str, Any]] = [
        {"record": ratio(window), "expr": _share(window, here)} for window in sorted(windows)
    ]
    for each in objectives:
        share = _share(each.period_s, f'{here},{names.OBJECTIVE}="{each}"')
        made.append(
            {
                "record": "tenfold:slo_budget:remaining",
                "expr": f"1 - (\n{share}\n) / {each.budget:g}",
                "labels": {names.OBJECTIVE: str(each)},
            }
        )
    return made


def _share(window_s: int, only: str) -> str:
    bad, all_ = (
        f"sum by ({BY}) (rate({name}{{{only}}}[{written(window_s)}]))"
        for name in (names.SLO_BAD, names.SLO_REQUESTS)
    )
    return f"{bad}\n/\n{all_}"


def _burning(objective: Objective, job: str) -> list[dict[str, Any]]:
    by_severity: dict[str, list[Burn]] = {}
    for burn in burns_of(objective):
        by_severity.setdefault(burn.severity, []).append(burn)
    speed = {"page": "fast", "ticket": "slowly but surely"}
    return [
        {
            "alert": f"TenfoldBudgetBurns{'Fast' if severity == 'page' else 'Slowly'}",
            "expr": "\nor\n".join(_both(objective, burn, job) for burn in burns),
            "labels": {"severity": severity, names.OBJECTIVE: str(objective)},
            "annotations": {
                "summary": f"{{{{ $labels.operation }}}} spends its error budget {speed[severity]}: "
                f"{{{{ $value | humanizePercentage }}}} of its requests are bad.",
                "description": f"Its objective is {objective}; bad are answers with 5xx"
                + ("" if objective.under_s is None else " and later ones")
                + ". /operations and /traces at the operations listener show which.",
            },
        }
        for severity, burns in by_severity.items()
    ]


def _both(objective: Objective, burn: Burn, job: str) -> str:
    bound = f"{burn.rate(objective):g} * {objective.budget:g}"
    only = f'{{job="{job}",{names.OBJECTIVE}="{objective}"}}'
    long, short = (f"{ratio(window)}{only} > {bound}" for window in (burn.long_s, burn.short_s))
    bad = f"sum by ({BY}) (increase({names.SLO_BAD}{only}[{written(burn.long_s)}]))"
    return f"({long}\n  and {short}\n  and {bad} > {BAD_MIN - 0.5:g})"


def _down(job: str) -> dict[str, Any]:
    return {
        "alert": "TenfoldInstanceDown",
        "expr": f'up{{job="{job}"}} == 0\nor\nabsent(up{{job="{job}"}})',
        "for": "1m",
        "labels": {"severity": "page"},
        "annotations": {
            "summary": "{{ with $labels.instance }}{{ . }}{{ else }}Every instance{{ end }} is silent: Prometheus gets no answer.",
            "description": "The process is gone, hangs, or its operations listener cannot be reached: `tenfold ps`.",
        },
    }


def _watched(rule: Rule, job: str) -> dict[str, Any]:
    """A rule of the box in Prometheus' words; its condition is written in that language already."""
    assert rule.condition is not None
    condition = dataclasses.replace(rule.condition, labels=(("job", job), *rule.condition.labels))
    says = rule.says.replace("{value}", "{{ $value | humanize }}")
    return {
        "alert": f"Tenfold{rule.name}",
        "expr": str(condition),
        "for": written(rule.for_s),
        "labels": {"severity": rule.severity},
        "annotations": {"summary": _LABEL.sub(r"{{ $labels.\1 }}", says), "description": rule.do},
    }
