"""What our spans and metrics are called in OpenTelemetry's semantic conventions (1.3x). Pure: names in, names out.

Spans of requests have the conventions' names inside, too; other attributes, labels and metrics are short there, and what
the conventions have no name for begins with ``tenfold.`` outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tenfold.telemetry import names
from tenfold.telemetry.contract import Span

ATTRIBUTES: Final[Mapping[str, str]] = {
    "statement": "db.query.text",
    "sql": "db.query.text",
    "database": "db.namespace",
    "system": "db.system.name",
    "rows": "db.response.returned_rows",
    "queue": "messaging.destination.name",
    "topic": "messaging.destination.name",
    "job_id": "messaging.message.id",
    "message_id": "messaging.message.id",
    "request_id": "tenfold.request_id",
}
_LABELS: Final[Mapping[str, str]] = {
    names.METHOD: "http.request.method",
    names.ROUTE: "http.route",
    names.OPERATION: "tenfold.operation",
    names.HOST: "server.address",
    names.CLIENT: "tenfold.client",
    names.HANDLER: "messaging.destination.name",
}


class Meant(NamedTuple):
    """A metric as the conventions have it."""

    name: str
    unit: str
    labels: Mapping[str, str] = _LABELS
    """From our labels to attributes; others keep their names."""
    up_down: bool = False
    """A gauge that is a sum of what comes and goes."""
    fixed: Mapping[str, str] = {}
    """Attributes that the conventions require besides."""


METRICS: Final[Mapping[str, Meant]] = {
    names.HTTP_DURATION: Meant("http.server.request.duration", "s"),
    names.HTTP_IN_FLIGHT: Meant("http.server.active_requests", "{request}", up_down=True),
    names.CLIENT_DURATION: Meant("http.client.request.duration", "s"),
    names.QUEUE_DURATION: Meant(
        "messaging.process.duration",
        "s",
        fixed={"messaging.system": "tenfold", "messaging.operation.name": "process"},
    ),
    "process_cpu_seconds": Meant("process.cpu.time", "s"),
    "process_resident_memory_bytes": Meant("process.memory.usage", "By", up_down=True),
    "process_virtual_memory_bytes": Meant("process.memory.virtual", "By", up_down=True),
    "process_open_fds": Meant("process.unix.file_descriptor.count", "{file_descriptor}", up_down=True),
    "python_gc_collections": Meant("cpython.gc.collections", "{collection}"),
}
"""Those that have a name there. Ours are sent under their own names, too, so that our dashboards hold wherever they go."""


def span_name(span: Span) -> str:
    """``GET /orders/{order_id}`` of a request; others are called what they are called here."""
    method = span.attributes.get("http.request.method")
    where = span.attributes.get("http.route") or span.attributes.get("url.template")
    if span.kind == "server" and method and where:
        return f"{method} {where}"
    if span.kind == "client" and method:
        return f"{method} {where}" if where else str(method)
    return span.name


def attributes(span: Span) -> dict[str, Any]:
    """The span's attributes under their outer names."""
    found = {outer(key): value for key, value in span.attributes.items() if value is not None}
    if span_name(span) != span.name:
        found.setdefault("tenfold.operation" if span.kind == "server" else "tenfold.span", span.name)
    if span.name == names.SPAN_CALL:
        found = {"rpc.system.name": "tenfold", "rpc.method": found.get("tenfold.operation", ""), **found}
    if span.kind in ("producer", "consumer"):
        found.setdefault("messaging.system", "tenfold")
    if span.error:
        found.setdefault("error.type", error_type(span.error))
    return found


def outer(key: str) -> str:
    """One attribute's name outside. Names with a dot are of the conventions already."""
    return ATTRIBUTES.get(key) or (key if "." in key else f"tenfold.{key}")


def failed(span: Span) -> bool:
    """Whether its status is an error: it raised, or answered with a fault of ours."""
    status = span.attributes.get("http.response.status_code")
    fault = 500 if span.kind == "server" else 400
    return bool(span.error) or (isinstance(status, int) and status >= fault)


def error_type(error: str) -> str:
    """``KeyError`` of "KeyError: 'x'": few values, as the conventions want it."""
    name = error.partition(":")[0].strip()
    return name if name.replace(".", "").replace("_", "").isalnum() else "_OTHER"


def metric_name(name: str) -> tuple[str, str]:
    """Name and unit of one of ours. Prometheus, which takes OTLP, makes the same name of it that we expose to it."""
    inner = name.replace("tenfold_", "tenfold.", 1)
    units = {"_seconds": "s", "_bytes": "By"}
    suffix = next((each for each in units if inner.endswith(each)), "")
    return inner.removesuffix(suffix), units.get(suffix, "")
