"""The written form of a condition, of a target, and what settings make of them."""

from __future__ import annotations

import pytest

from tenfold._core.secrets import printable, values
from tenfold._core.sections import Settings
from tenfold._core.sections.alerts import AlertRuleSettings, AlertsSettings
from tenfold._core.sections.otlp import OtlpSettings
from tenfold.errors import ConfigError
from tenfold.telemetry.alerts.conditions import Condition, parse, seconds_of, written
from tenfold.telemetry.alerts.rules import BUILT_IN
from tenfold.telemetry.alerts.settings import burns, rules, targets
from tenfold.telemetry.alerts.targets import Target, target


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("a_total > 5", Condition("a_total", (), "value", 0, ">", 5)),
        ('a{b="x",c="y z"}<=-0.5', Condition("a", (("b", "x"), ("c", "y z")), "value", 0, "<=", -0.5)),
        ("increase(a_total[10m]) > 0", Condition("a_total", (), "increase", 600, ">", 0)),
        ('rate( a{b="x"} [ 2h ] ) >= 1.5', Condition("a", (("b", "x"),), "rate", 7200, ">=", 1.5)),
    ],
)
def test_what_a_condition_means_and_how_prometheus_reads_it(text: str, condition: Condition) -> None:
    assert parse(text) == condition
    assert parse(str(condition)) == condition


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a metric, increase or rate must stand here, at character 1: the end"),
        ("a_total", r"comparison .* at character 8: the end"),
        ("a_total = 5", "character 9: '='"),
        ("a_total > many", "number must follow the comparison, at character 11: 'many'"),
        ("increse(a[5m]) > 1", "increse is no function.*character 1.*Did you mean 'increase'"),
        ("increase(a) > 1", r"'\[' must stand here, at character 11"),
        ("increase(a[5 weeks]) > 1", "no duration, at character 12"),
        ("increase(a[5m] > 1", r"'\)' must stand here, at character 16"),
        ("a{b=x} > 1", "text in double quotes must stand here, at character 5: 'x'"),
        ("a > 1 and b > 2", "more than a condition here, at character 7: 'and'"),
    ],
)
def test_a_mistake_is_shown_with_its_position(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(text, "alerts.rules.Mine.when")


def test_seconds_are_written_with_the_largest_unit_that_fits() -> None:
    assert [written(s) for s in (0, 90, 600, 7200, 86_400 * 30)] == ["0s", "90s", "10m", "2h", "30d"]
    assert seconds_of("10m", "x") == 600
    with pytest.raises(ConfigError, match="no duration"):
        seconds_of("soon", "x")


def test_targets_are_mails_webhooks_and_what_takes_what_slack_takes() -> None:
    assert target("mailto:ops@example.com", "x") == Target("mail", "ops@example.com")
    assert target("http://10.0.0.1/hook", "x") == Target("webhook", "http://10.0.0.1/hook")
    slack = target("slack+https://hooks.slack.com/services/T/B/X", "x")
    assert slack == Target("slack", "https://hooks.slack.com/services/T/B/X")
    assert slack.shown == "slack at hooks.slack.com"


@pytest.mark.parametrize(
    "text", ["ops@example.com", "mailto:ops", "ftp://a/b", "https://", "slack+hooks", "http://["]
)
def test_what_is_no_target_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError, match=r"alerts.page: .*Write .mailto:"):
        target(text, "alerts.page")


def test_settings_add_rules_and_take_some_away() -> None:
    own = AlertRuleSettings(when="shop_refused > 5", for_s=60, severity="page")
    made = rules(AlertsSettings(off=["EventsLate"], rules={"TooMany": own}))
    assert [rule.name for rule in made] == [*(r.name for r in BUILT_IN if r.name != "EventsLate"), "TooMany"]
    assert made[-1].says == "shop_refused > 5 ({value})"
    assert burns(AlertsSettings(off=["BudgetBurnsSlowly"])) == {"BudgetBurnsFast"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (AlertsSettings(off=["QueueLat"]), "alerts.off: there is no rule 'QueueLat'.*QueueLate"),
        (AlertsSettings(rules={"QueueLate": AlertRuleSettings(when="a > 1")}), "built-in rule of this name"),
        (AlertsSettings(rules={"a b": AlertRuleSettings(when="a > 1")}), "letters, digits"),
        (
            AlertsSettings(rules={"Mine": AlertRuleSettings(when="a >")}),
            "alerts.rules.Mine.when.*character 4",
        ),
    ],
)
def test_wrong_settings_are_named(settings: AlertsSettings, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        rules(settings)


def test_tickets_go_where_pages_go_unless_said_otherwise() -> None:
    found = targets(AlertsSettings(page=["mailto:a@example.com"]))
    assert found["ticket"] == found["page"]


def test_keys_of_vendors_and_paths_of_webhooks_are_secrets() -> None:
    url = "slack+https://hooks.slack.com/services/T024/B8K/x9y8z7secret"
    settings = Settings(
        alerts=AlertsSettings(page=[url]), otlp=OtlpSettings(headers={"api-key": "NRAK-0123456789"})
    )
    assert printable("alerts.page", [url]) == "[slack+https://hooks.slack.com/••••••]"
    assert printable("otlp.headers.api-key", "NRAK-0123456789") == "••••••"
    assert {"services/T024/B8K/x9y8z7secret", "NRAK-0123456789"} <= set(values(settings))
