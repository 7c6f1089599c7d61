"""What people and programs are told: a mail, a body for webhooks, a message for Slack. Pure.

The body for webhooks is that of Alertmanager (version 4), so that what takes its alerts takes ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec

from tenfold.telemetry.alerts.rules import Alert


def subject(app: str, alert: Alert) -> str:
    """One line."""
    state = "resolved" if alert.state == "resolved" else alert.severity.upper()
    return f"[{app}] {state}: {alert.sentence}"[:200]


def mail(app: str, alert: Alert) -> str:
    """The text of a mail."""
    rows = [
        alert.sentence,
        "",
        "It is over." if alert.state == "resolved" else alert.do,
        "",
        f"rule      {alert.rule}",
        f"severity  {alert.severity}",
        f"since     {_time(alert.since)}",
        *(f"{name:9} {value}" for name, value in alert.labels),
        "",
        f"{app}, which watches itself. Silences are at /alerts of the operations listener.",
    ]
    return "\n".join(rows) + "\n"


def slack(app: str, alert: Alert) -> bytes:
    """A message as Slack's incoming webhooks take it, and Mattermost's and Rocket.Chat's."""
    sign = (
        ":white_check_mark:"
        if alert.state == "resolved"
        else ":rotating_light:"
        if alert.severity == "page"
        else ":warning:"
    )
    text = f"{sign} *{_plain(subject(app, alert))}*"
    if alert.state != "resolved" and alert.do:
        text += f"\n{_plain(alert.do)}"
    return msgspec.json.encode({"text": text})


def webhook(app: str, alerts: Sequence[Alert]) -> bytes:
    """The body that Alertmanager would send."""
    status = "resolved" if all(alert.state == "resolved" for alert in alerts) else "firing"
    return msgspec.json.encode(
        {
            "version": "4",
            "groupKey": f"tenfold/{app}",
            "status": status,
            "receiver": "tenfold",
            "groupLabels": {},
            "commonLabels": {"job": app},
            "commonAnnotations": {},
            "externalURL": "",
            "truncatedAlerts": 0,
            "alerts": [_alert(app, alert) for alert in alerts],
        }
    )


def _alert(app: str, alert: Alert) -> dict[str, Any]:
    labels = {
        **dict(alert.labels),
        "alertname": f"Tenfold{alert.rule}",
        "severity": alert.severity,
        "job": app,
    }
    resolved = alert.state == "resolved"
    return {
        "status": "resolved" if resolved else "firing",
        "labels": labels,
        "annotations": {"summary": alert.sentence, "description": alert.do},
        "startsAt": _time(alert.since),
        "endsAt": _time(alert.seen) if resolved else "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": sha256(repr(sorted(labels.items())).encode()).hexdigest()[:16],
    }


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _plain(text: str) -> str:
    """Text that is no mark-up to Slack."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
