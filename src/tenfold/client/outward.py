"""The headers that tell the other side of the work in hand: its trace, its deadline, how urgent it is, who retries.

They go to everybody: who does not know them ignores them, and they tell nothing of worth. What tells about our insides
(the causal token, the request id, who calls) goes to backends of ours only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from tenfold._core.causal import merged, received
from tenfold._core.context import Context, Priority
from tenfold._core.deadlines import HEADER as TIMEOUT
from tenfold.telemetry.propagation import clean_tracestate, format_traceparent

if TYPE_CHECKING:
    from tenfold.client.answer import Headers

PRIORITY: Final = "Tenfold-Priority"
RETRIES: Final = "Tenfold-Retries"
"""``caller``: whoever sent this tries again by itself, so that nobody behind it needs to. Retries at every layer would
multiply: three layers with three tries each are 27 calls for one."""
CAUSAL: Final = "Tenfold-Causal"
CALLER: Final = "Tenfold-Caller"
REQUEST_ID: Final = "X-Request-Id"
ERROR: Final = "Tenfold-Error"
"""On answers of a backend of ours to calls: the operation ran, or was refused, and this is how it ended. Without it, an
answer that is no success comes from in front of the operation."""


def headers_of(
    context: Context, *, left_s: float, span_id: str, retries: bool, ours: bool, caller: str
) -> dict[str, str]:
    """The headers of one try. ``span_id`` names it where no span is recorded; ``left_s`` is what it may take."""
    headers = {TIMEOUT: str(max(1, int(left_s * 1000)))}
    if context.trace_id:
        headers["traceparent"] = format_traceparent(
            context.trace_id, context.span_id or span_id, context.sampled
        )
        if context.tracestate and (state := clean_tracestate(context.tracestate)):
            headers["tracestate"] = state
    if context.priority is not Priority.DEFAULT:
        headers[PRIORITY] = context.priority.name.lower()
    if retries or context.retried:
        headers[RETRIES] = "caller"
    if ours:
        headers |= _inside(context, caller)
    return headers


def take_in(context: Context, headers: Headers) -> None:
    """What a backend of ours has written, this work is to see."""
    if token := received(headers.get("tenfold-causal", "").strip()):
        context.causal = merged(context.causal, token)


def _inside(context: Context, caller: str) -> Mapping[str, str]:
    found = {CALLER: caller, CAUSAL: context.causal, REQUEST_ID: context.request_id}
    return {name: value for name, value in found.items() if value}
