"""Rules for Prometheus and routes for Alertmanager, judged by promtool and amtool."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from support.told import judged, written
from tenfold._core.sections import MailSettings
from tenfold.errors import ConfigError
from tenfold.observe import alertmanager, prometheus
from tenfold.telemetry.alerts.rules import BUILT_IN
from tenfold.telemetry.alerts.targets import Target
from tenfold.telemetry.objectives import Objective

MONTH, WEEK = Objective("99.9% under 300ms"), Objective("99% over 7 days")
OBJECTIVES = {"orders.place": MONTH, "orders.show": MONTH, "catalog.list": WEEK}


def series(bad: str, all_: str) -> str:
    labels = 'job="shop",operation="orders.place",objective="99.9% under 300ms"'
    return f"""
      - series: 'tenfold_slo_bad_requests_total{{{labels}}}'
        values: '{bad}'
      - series: 'tenfold_slo_requests_total{{{labels}}}'
        values: '{all_}'
"""


def alerts_at(minute: str, name: str, *, fires: str = "") -> str:
    expected = ""
    if fires:
        expected = f"""
        exp_alerts:
          - exp_labels: {{job: shop, operation: orders.place, objective: "99.9% under 300ms", severity: {fires}}}"""
    return f"""
      - eval_time: {minute}
        alertname: {name}{expected}"""


def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    rules = written(tmp_path / "shop.yml", prometheus.rules("shop", OBJECTIVES))
    assert "SUCCESS: 25 rules found" in judged(
        "promtool", "check", "rules", "--lint=all", "--lint-fatal", rules
    )


def test_an_app_without_objectives_has_no_rules_about_them(tmp_path: Path) -> None:
    text = prometheus.rules("shop", {})
    judged("promtool", "check", "rules", written(tmp_path / "shop.yml", text))
    assert [group["name"] for group in yaml.safe_load(text)["groups"]] == ["shop-recorded", "shop-health"]
    assert "_slo_" not in text


def test_what_is_watched_in_the_box_is_watched_by_prometheus() -> None:
    groups = yaml.safe_load(prometheus.rules("shop", {}))["groups"]
    alerts = {rule["alert"]: rule for rule in groups[-1]["rules"]}
    assert set(alerts) == {"TenfoldInstanceDown", *(f"Tenfold{rule.name}" for rule in BUILT_IN)}
    assert alerts["TenfoldQueueLate"]["expr"] == 'tenfold_queue_oldest_ready_seconds{job="shop"} > 300'
    assert "{{ $labels.check }}" in alerts["TenfoldCheckFails"]["annotations"]["summary"]


@pytest.mark.parametrize(
    ("bad", "all_", "cases"),
    [
        # 5 % bad for an hour: 50 times too fast. It pages, and is over half an hour after the cause is.
        (
            "0+5x60 300+0x60",
            "0+100x120",
            [("60m", "TenfoldBudgetBurnsFast", "page"), ("100m", "TenfoldBudgetBurnsFast", "")],
        ),
        # Four of twenty within minutes: a large share, of next to nothing.
        ("0+0x56 1 2 3 4+0x60", "0+0x56 5 10 15 20+0x60", [("60m", "TenfoldBudgetBurnsFast", "")]),
        ("0+0x56 5 10 15 20+0x60", "0+0x56 5 10 15 20+0x60", [("60m", "TenfoldBudgetBurnsFast", "page")]),
        # 0.4 % bad for days: 4 times too fast. Nobody is woken up.
        (
            "0+4x1500",
            "0+1000x1500",
            [("24h", "TenfoldBudgetBurnsFast", ""), ("24h", "TenfoldBudgetBurnsSlowly", "ticket")],
        ),
        # 0.05 % bad: within the budget.
        (
            "0+1x1500",
            "0+2000x1500",
            [("24h", "TenfoldBudgetBurnsFast", ""), ("24h", "TenfoldBudgetBurnsSlowly", "")],
        ),
    ],
)
def test_alerts_fire_by_how_fast_the_budget_burns(
    tmp_path: Path, bad: str, all_: str, cases: list[tuple[str, str, str]]
) -> None:
    rules = yaml.safe_load(prometheus.rules("shop", {"orders.place": MONTH}))
    for group in rules["groups"]:
        group.pop("interval", None)  # a day is simulated
        for rule in group["rules"]:
            rule.pop("annotations", None)  # with numbers that depend on the moment
    written(tmp_path / "rules.yml", yaml.safe_dump(rules))
    tests = "".join(alerts_at(at, name, fires=fires) for at, name, fires in cases)
    text = f"""
rule_files: [rules.yml]
evaluation_interval: 20m
group_eval_order: [shop-recorded, shop-objectives, shop-health]
tests:
  - interval: 1m
    input_series: {series(bad, all_)}
    alert_rule_test: {tests}
"""
    assert "SUCCESS" in judged("promtool", "test", "rules", written(tmp_path / "test.yml", text))


TARGETS = {
    "page": (Target("slack", "https://hooks.slack.com/services/T/B/X"), Target("mail", "ops@example.com")),
    "ticket": (Target("webhook", "https://example.com/tickets"),),
}


def test_amtool_takes_the_routes_and_sends_by_severity(tmp_path: Path) -> None:
    mail = alertmanager.mail_server(
        MailSettings(url="smtp://ann:pw@mail.example.com", sender="shop@example.com")
    )
    file = written(tmp_path / "alertmanager.yml", alertmanager.routes("shop", TARGETS, mail=mail))
    judged("amtool", "check-config", file)
    for severity in ("page", "ticket"):
        said = judged(
            "amtool", "config", "routes", "test", f"--config.file={file}", f"severity={severity}", "job=shop"
        )
        assert said.startswith(f"shop-{severity}\n")


def test_nobody_to_tell_is_a_receiver_without_a_way(tmp_path: Path) -> None:
    judged("amtool", "check-config", written(tmp_path / "a.yml", alertmanager.routes("shop", {})))


def test_mails_need_a_server_and_no_password_is_written() -> None:
    with pytest.raises(ConfigError, match=r"mail.url: .*no mail server"):
        alertmanager.mail_server(MailSettings())
    mail = alertmanager.mail_server(MailSettings(url="smtp://ann:hunter22@mail.example.com:25"))
    assert mail["smtp_smarthost"] == "mail.example.com:25"
    assert "hunter22" not in alertmanager.routes("shop", TARGETS, mail=mail)
