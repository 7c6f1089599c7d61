"""Alerts in the box as a part of the app: rules from settings and objectives, told by mail and over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tenfold.errors import ConfigError, MissingExtra
from tenfold.guard.addresses import networks, place_of
from tenfold.http.policies import sourced
from tenfold.telemetry.alerts import news
from tenfold.telemetry.alerts.facts import Facts
from tenfold.telemetry.alerts.settings import burns, rules, targets
from tenfold.telemetry.alerts.watch import Teller, Watch
from tenfold.telemetry.process import instance_name

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.client.contract import Transport
    from tenfold.mail.mailer import Mailer
    from tenfold.telemetry.alerts.rules import Alert
    from tenfold.telemetry.alerts.targets import Target
    from tenfold.telemetry.hub import Hub
    from tenfold.telemetry.objectives import Objective

ANYWHERE = networks(("0.0.0.0/0", "::/0"))
"""Targets are settings of who runs the app, so they may be in its own network."""
TIMEOUT_S = 10.0


def watch_of(app: App, telemetry: Hub, mailer: Mailer) -> Watch | None:
    """What watches; None where no telemetry is kept to look at. Raises ConfigError for settings that cannot work."""
    settings = app.settings.alerts
    watched, told = rules(settings), targets(settings)
    mails = any(each.kind == "mail" for those in told.values() for each in those)
    if mails and not app.settings.mail.url and app.settings.app.env == "production":
        raise ConfigError(
            "alerts are to go by mail, and there is no mail server.",
            where="alerts.page",
            remedy='Set mail.url = "smtp://user:password@host:587".',
        )
    if telemetry.store is None:
        return None
    return Watch(
        Facts(telemetry.records, watched, list(objectives(app).values()), burns(settings)),
        told,
        Tellers(app.name, mailer, _transport(told)),
        app.clock,
        folder=app.data_dir,
        instance=instance_name(),
        every_s=settings.every_s,
        registry=telemetry.registry,
    )


def objectives(app: App) -> dict[str, Objective]:
    """By operation, of those that have one, in the order of declaration."""
    inherited = app.inherited
    found = {
        operation.name: sourced(operation, inherited[operation.service])["slo"].value
        for operation in app.operations
        if operation.routed
    }
    return {name: objective for name, objective in found.items() if objective is not None}


def _transport(told: Mapping[str, Sequence[Target]]) -> Transport | None:
    if not any(each.kind != "mail" for those in told.values() for each in those):
        return None
    try:
        from tenfold.client.transport import HttpTransport
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"webhooks need the library {error.name!r}, which is not installed.",
            where="alerts.page",
            remedy="Run: pip install 'tenfold[client]'",
        ) from error
    return HttpTransport(ANYWHERE, idle_max=2)


class Tellers(Teller):
    """Mails and requests."""

    def __init__(self, app: str, mailer: Mailer, transport: Transport | None) -> None:
        self._app, self._mailer, self._transport = app, mailer, transport

    async def tell(self, target: Target, alerts: Sequence[Alert]) -> None:
        if target.kind == "webhook":
            await self._post(target.to, news.webhook(self._app, alerts))
            return
        for alert in alerts:
            if target.kind == "slack":
                await self._post(target.to, news.slack(self._app, alert))
            else:
                await self._mailer.send(
                    target.to, news.subject(self._app, alert), news.mail(self._app, alert)
                )

    async def stop(self) -> None:
        if self._transport is not None:
            await self._transport.stop()

    async def _post(self, url: str, body: bytes) -> None:
        from tenfold.client.contract import Outgoing

        assert self._transport is not None
        incoming = await self._transport.send(
            Outgoing(
                method="POST",
                place=place_of(url, plain_http=True, allowed=ANYWHERE),
                headers=[("content-type", "application/json"), ("user-agent", "tenfold-alerts")],
                content=body,
                connect_timeout_s=TIMEOUT_S,
                read_timeout_s=TIMEOUT_S,
            )
        )
        try:
            if incoming.status >= 300:
                raise OSError(f"it answered {incoming.status}")
        finally:
            await incoming.close()
