"""The sections of ``tenfold.toml``, with the default of every setting; each noun has a module of its own."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from tenfold._core.sections.alerts import AlertRuleSettings, AlertsSettings
from tenfold._core.sections.app import AppSettings, AuthSettings
from tenfold._core.sections.data import CacheSettings, DatabaseSettings, GuardSettings
from tenfold._core.sections.fleet import BalancerSettings, CompanionSettings, ScaleSettings, UpSettings
from tenfold._core.sections.http import HttpSettings, OpsSettings
from tenfold._core.sections.kinds import Count, Percent, Port, Seconds
from tenfold._core.sections.otlp import OtlpSettings
from tenfold._core.sections.outside import ClientSettings, MailSettings, WebhookSettings
from tenfold._core.sections.services import GatewayRoute, GatewaySettings, IdentitySettings, PeerSettings
from tenfold._core.sections.store import TelemetrySettings
from tenfold._core.sections.telemetry import LogSettings, TraceSettings
from tenfold._core.sections.work import EventsSettings, QueueSettings, TenantSettings, WorkerSettings

__all__ = [
    "AlertRuleSettings",
    "AlertsSettings",
    "AppSettings",
    "AuthSettings",
    "BalancerSettings",
    "CacheSettings",
    "ClientSettings",
    "CompanionSettings",
    "Count",
    "DatabaseSettings",
    "EventsSettings",
    "GatewayRoute",
    "GatewaySettings",
    "GuardSettings",
    "HttpSettings",
    "IdentitySettings",
    "LogSettings",
    "MailSettings",
    "OpsSettings",
    "OtlpSettings",
    "PeerSettings",
    "Percent",
    "Port",
    "QueueSettings",
    "ScaleSettings",
    "Seconds",
    "Settings",
    "TelemetrySettings",
    "TenantSettings",
    "TraceSettings",
    "UpSettings",
    "WebhookSettings",
    "WorkerSettings",
]


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a running app reads, checked once at start."""

    app: AppSettings = AppSettings()
    http: HttpSettings = HttpSettings()
    ops: OpsSettings = OpsSettings()
    database: DatabaseSettings = DatabaseSettings()
    cache: CacheSettings = CacheSettings()
    guard: GuardSettings = GuardSettings()
    worker: WorkerSettings = WorkerSettings()
    queues: dict[str, QueueSettings] = {}
    """Per queue, what differs from its declaration."""
    tenants: dict[str, TenantSettings] = {}
    """Per tenant, what differs from the others."""
    events: EventsSettings = EventsSettings()
    auth: AuthSettings = AuthSettings()
    mail: MailSettings = MailSettings()
    webhooks: WebhookSettings = WebhookSettings()
    clients: dict[str, ClientSettings] = {}
    """Per client for calls out, what differs from its declaration."""
    scale: ScaleSettings = ScaleSettings()
    gateway: GatewaySettings = GatewaySettings()
    balancer: BalancerSettings = BalancerSettings()
    identity: IdentitySettings = IdentitySettings()
    log: LogSettings = LogSettings()
    trace: TraceSettings = TraceSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    otlp: OtlpSettings = OtlpSettings()
    alerts: AlertsSettings = AlertsSettings()
    up: UpSettings = UpSettings()
    companions: CompanionSettings = CompanionSettings()
    services: dict[str, Any] = {}
    """Per service, an instance of the class it declared."""
    peers: dict[str, PeerSettings] = {}
    """Per service, where it is; written under ``[services.NAME]``, too."""

    @property
    def shows_docs(self) -> bool:
        """Whether the public listener serves the API's documentation."""
        return self.app.env != "production" if self.http.docs is None else self.http.docs
