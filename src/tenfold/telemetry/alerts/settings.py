"""From ``[alerts]`` to rules and targets. Pure. Everything raises ConfigError with the setting's path."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tenfold._core.sections.alerts import AlertRuleSettings, AlertsSettings
from tenfold._core.text import nearest
from tenfold.errors import ConfigError
from tenfold.telemetry.alerts.conditions import parse
from tenfold.telemetry.alerts.rules import BUILT_IN, Rule
from tenfold.telemetry.alerts.targets import Target, target

BURNS = ("BudgetBurnsFast", "BudgetBurnsSlowly")
"""Rules that objectives bring; :mod:`tenfold.telemetry.alerts.burning` evaluates them."""


def rules(settings: AlertsSettings) -> tuple[Rule, ...]:
    """Built-in rules that are not off, and own ones."""
    return (*(rule for rule in BUILT_IN if rule.name not in _off(settings)), *own_rules(settings))


def burns(settings: AlertsSettings) -> frozenset[str]:
    """Which of :data:`BURNS` are wanted."""
    return frozenset(BURNS) - _off(settings)


def own_rules(settings: AlertsSettings) -> tuple[Rule, ...]:
    """Those under ``[alerts.rules]``."""
    return tuple(_own(name, said) for name, said in settings.rules.items())


def targets(settings: AlertsSettings) -> Mapping[str, tuple[Target, ...]]:
    """By severity, who is told."""
    page = tuple(target(text, "alerts.page") for text in settings.page)
    ticket = tuple(target(text, "alerts.ticket") for text in settings.ticket)
    return {"page": page, "ticket": ticket or page}


def _off(settings: AlertsSettings) -> frozenset[str]:
    known = [*(rule.name for rule in BUILT_IN), *BURNS]
    for name in settings.off:
        if name not in known:
            raise ConfigError(f"there is no rule {name!r}.{nearest(name, known)}", where="alerts.off")
    return frozenset(settings.off)


def _own(name: str, said: AlertRuleSettings) -> Rule:
    where = f"alerts.rules.{name}"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ConfigError(
            "a rule's name has letters, digits and underscores.", where=where, remedy="Write CamelCase."
        )
    if name in (*(rule.name for rule in BUILT_IN), *BURNS):
        raise ConfigError(
            "there is a built-in rule of this name.",
            where=where,
            remedy=f'Name it otherwise; off = ["{name}"] ends that one.',
        )
    condition = parse(said.when, f"{where}.when")
    says = said.says or f"{said.when} ({{value}})"
    return Rule(name, condition, int(said.for_s), said.severity, says, said.do)
