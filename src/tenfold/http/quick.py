"""Hits of the response cache without a request: for what anybody may see, where nothing would look at a request.

No context, no trace, no task bookkeeping: the entries ask :attr:`Endpoint.quick` first and take the compiled way
when it answers None. It counts and times what it answers, as that way does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tenfold.http.replies import asks_who, responses_of

if TYPE_CHECKING:
    from tenfold.http.build import Build
    from tenfold.http.reply import Answer

Quick = Callable[[tuple[str, ...], bytes, Mapping[bytes, bytes]], "Answer | None"]
"""From the values of the path's placeholders, the query string and the headers to the answer of a hit."""


def quick_of(build: Build) -> Quick | None:
    """None for an operation whose hits somebody must see: traces, the access log, CORS, headers that vary."""
    policy, wiring, operation = build.operation.policies.cache, build.wiring, build.operation
    telemetry, edge = wiring.telemetry, wiring.edge
    if policy is None or policy.vary or asks_who(build) or (edge is not None and edge.cors is not None):
        return None
    if telemetry is None or telemetry.access is not None:
        return None
    if telemetry.tracer is not None and telemetry.tracer.samples:
        return None
    responses = responses_of(build, policy)
    peek, hits, show = responses.peek, responses.hits, responses.show
    stats = telemetry.stats(operation.name, operation.method, operation.path)
    record, monotonic, name = stats.record, wiring.clock.monotonic, operation.name
    # A body that may have to be compressed for this client goes the long way.
    size_max = edge.gzip.min_bytes if edge is not None and edge.gzip is not None else float("inf")

    def quick(segments: tuple[str, ...], query: bytes, headers: Mapping[bytes, bytes]) -> Answer | None:
        if b"if-none-match" in headers or b"traceparent" in headers:
            return None
        started = monotonic()
        kept = peek(f"{name} {segments}?{query!r}", started)
        if kept is None or len(kept.body) >= size_max:
            return None
        hits.hits += 1
        answer = show(kept, started)
        record(answer[0], monotonic() - started)
        return answer

    return quick
