"""Routes and receivers for Alertmanager, for the severities of our rules. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from tenfold.errors import ConfigError
from tenfold.observe.text import yaml
from tenfold.telemetry.alerts.targets import Target

if TYPE_CHECKING:
    from tenfold._core.sections import MailSettings

REPEAT: Final = {"page": "1h", "ticket": "1d"}


def routes(
    app: str, targets: Mapping[str, Sequence[Target]], *, mail: Mapping[str, str] | None = None, job: str = ""
) -> str:
    """The configuration: pages go to ``targets["page"]``, tickets to ``targets["ticket"]``, and while an error
    budget burns fast, nobody is told that it burns slowly, too. ``mail`` are Alertmanager's settings of the mail server, where a target is an address."""
    job = job or app
    receivers = [_receiver(severity, targets.get(severity, ())) for severity in REPEAT]
    document: dict[str, Any] = {
        **({"global": dict(mail)} if mail else {}),
        "route": {
            "receiver": f"{app}-ticket",
            "group_by": ["alertname", "job", "operation"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": REPEAT["ticket"],
            "routes": [
                {
                    "matchers": [f'severity="{severity}"', f'job="{job}"'],
                    "receiver": f"{app}-{severity}",
                    "repeat_interval": repeat,
                }
                for severity, repeat in REPEAT.items()
            ],
        },
        "inhibit_rules": [
            {
                "source_matchers": ['alertname="TenfoldBudgetBurnsFast"', f'job="{job}"'],
                "target_matchers": ['alertname="TenfoldBudgetBurnsSlowly"', f'job="{job}"'],
                "equal": ["operation", "objective"],
            },
        ],
        "receivers": [{**one, "name": f"{app}-{one['name']}"} for one in receivers],
    }
    about = (
        f"Routes of {app} for Alertmanager, written by `tenfold observe alertmanager`.\n"
        "Check them with `amtool check-config FILE`."
    )
    return yaml(document, about=about)


def _receiver(severity: str, targets: Sequence[Target]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": severity}
    for target in targets:
        if target.kind == "mail":
            made.setdefault("email_configs", []).append({"to": target.to, "send_resolved": True})
        elif target.kind == "slack":
            made.setdefault("slack_configs", []).append(
                {
                    "api_url": target.to,
                    "send_resolved": True,
                    "title": "{{ .CommonAnnotations.summary }}",
                    "text": "{{ .CommonAnnotations.description }}",
                }
            )
        else:
            made.setdefault("webhook_configs", []).append({"url": target.to, "send_resolved": True})
    return made


def mail_server(settings: MailSettings) -> dict[str, str]:
    """Alertmanager's settings for the mail server of ``mail.url``. The password is left to a file beside. Raises ConfigError
    without a server."""
    parts = urlsplit(settings.url)
    if not parts.hostname:
        raise ConfigError(
            "alerts are to go by mail, and there is no mail server.",
            where="mail.url",
            remedy='Set it: "smtp://user:password@host:587".',
        )
    made = {"smtp_from": settings.sender, "smtp_smarthost": f"{parts.hostname}:{parts.port or 587}"}
    if parts.username:
        made["smtp_auth_username"] = parts.username
        made["smtp_auth_password_file"] = "/etc/alertmanager/mail-password"  # noqa: S105 - a path
    return made
