"""The template's parts refer to each other; what the real agent does is tested with it."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import yaml

from tenfold.observe.zabbix import TRIGGERS, template
from tenfold.telemetry.alerts.rules import BUILT_IN
from tenfold.telemetry.objectives import Objective

OBJECTIVES = {"orders.place": Objective("99.9%")}


def parts(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(text)["zabbix_export"]["templates"][0]["items"]
    return found


def test_dependent_items_and_triggers_refer_to_items_that_are_there() -> None:
    items = parts(template("shop", OBJECTIVES))
    keys = {item["key"] for item in items}
    assert {item["master_item"]["key"] for item in items if item.get("type") == "DEPENDENT"} == {
        "tenfold.metrics"
    }
    expressions = [trigger["expression"] for item in items for trigger in item.get("triggers", ())]
    assert len(expressions) == len(BUILT_IN) + 1
    for expression in expressions:
        host, key = re.findall(r"\(/([^/]+)/([^,)]+)[,)]", expression)[0]
        assert (host, key in keys) == ("Tenfold shop", True)


def test_every_rule_of_the_box_has_a_trigger() -> None:
    assert set(TRIGGERS) == {rule.name for rule in BUILT_IN}


def test_identities_are_uuids_of_version_four_and_always_the_same() -> None:
    text = template("shop", OBJECTIVES)
    assert template("shop", OBJECTIVES) == text
    found = re.findall(r'uuid: "(\w+)"', text)
    assert len(set(found)) == len(found) > 15
    assert {UUID(hex=each).version for each in found} == {4}


def test_without_objectives_there_are_no_items_about_them() -> None:
    assert not any("slo" in item["key"] for item in parts(template("shop", {})))
