"""The section of alerts."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0)]


class AlertRuleSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[alerts.rules.NAME]: one rule of your own"""

    when: str
    """As Prometheus writes it: "increase(shop_orders_refused_total[10m]) > 50"."""
    for_s: Annotated[float, Meta(ge=0)] = 0.0
    """It fires when this has been so for so long without a break."""
    severity: Literal["page", "ticket"] = "ticket"
    says: str = ""
    """What people are told; {value} and {label} are replaced. Default: the condition."""
    do: str = ""
    """What they may do about it."""


class AlertsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[alerts]: alerts in the box, for who runs no monitoring system"""

    page: list[str] = []
    """Who is told at once: "mailto:ops@example.com", "https://example.com/hook" (JSON by POST), or
    "slack+https://hooks.slack.com/services/…"."""
    ticket: list[str] = []
    """Who is told of what can wait until tomorrow. Default: the same."""
    every_s: Seconds = 15.0
    """Time between two looks at the rules."""
    off: list[str] = []
    """Rules that are not wanted: ["EventsLate"]."""
    rules: dict[str, AlertRuleSettings] = {}
    """Rules of your own, by name."""
