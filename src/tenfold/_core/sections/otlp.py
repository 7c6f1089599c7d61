"""The section of OpenTelemetry."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0)]


class OtlpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[otlp]: traces, metrics and logs to a collector or a vendor, by OTLP over HTTP. Needs tenfold[otlp]"""

    url: str = ""
    """Where they go, without /v1/traces: "http://localhost:4318". Empty: nowhere."""
    headers: dict[str, str] = {}
    """Sent with every request, such as a key of the vendor's. All of them are taken for secrets."""
    traces: bool = True
    """Spans of sampled traces (trace.ratio)."""
    metrics: bool = True
    logs: bool = True
    """Lines of the log, without the access log."""
    metrics_every_s: Seconds = 15.0
    temporality: Literal["cumulative", "delta"] = "cumulative"
    """Whether counters say what came since the start of the process, or since the last time ("delta", as Dynatrace and New
    Relic want it; what is lost on the way is then lost)."""
    timeout_s: Annotated[float, Meta(gt=0, le=30)] = 4.0
    """How long a request may take. What is not taken by then is lost and counted, not tried again."""
    resource: list[str] = []
    """More about this process: ["service.namespace=store", "team=shop"]. The app, the instance, the host and ``app.env`` are
    there already."""
