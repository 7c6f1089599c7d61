"""Who and what caused an event, taken from the context of the work in hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenfold._core.context import current
from tenfold.errors import QueueError
from tenfold.eventstore.types import to_json
from tenfold.queue.context import current_job


def metadata_of_now(more: Mapping[str, Any] | None = None) -> str | None:
    """JSON text, or None when nothing is known; ``more`` is added, and wins.

    ``correlation`` is the same for all that one request has led to, over events and jobs; ``causation`` is what led
    to this directly: the message being handled, or the request.
    """
    context = current()
    principal = context.principal
    request = context.request_id
    known = {
        "principal": getattr(principal, "id", None),
        "tenant": context.tenant,
        "operation": context.operation,
        "trace": context.trace_id,
        "correlation": context.trace_id or request,
        "causation": _message() or request,
    }
    found: dict[str, Any] = {name: value for name, value in known.items() if value}
    found.update(more or {})
    return to_json(found) if found else None


def _message() -> str | None:
    try:
        job = current_job()
    except QueueError:
        return None
    return f"{job.name}:{job.id}"
