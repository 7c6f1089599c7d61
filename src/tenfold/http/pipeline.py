"""The way of one request: one ordered list. Each step writes code for an operation, or nothing.

Steps may open blocks; what follows stands inside them, so the first step is the outermost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from tenfold.http import (
    admission,
    binding,
    bulkhead,
    causal,
    edge,
    encoding,
    limiting,
    replies,
    retried,
    steps,
)

if TYPE_CHECKING:
    from tenfold.http.build import Build


class Step(NamedTuple):
    """A name for people, and what writes the code."""

    name: str
    write: Callable[[Build], None]


STEPS: tuple[Step, ...] = (
    Step("trace", steps.trace),
    Step("measure", steps.measure),
    Step("causal token", causal.write),
    Step("edge", edge.write),
    Step("recover", steps.recover),
    Step("cached response for all", replies.open_response_cache),
    Step("caller's retries", retried.write),
    Step("caller's deadline", steps.callers_deadline),
    Step("admission", admission.write),
    Step("bulkhead", bulkhead.write),
    Step("deadline", steps.deadline),
    Step("authentication", steps.authentication),
    Step("rate limit", limiting.write),
    Step("cached response", replies.response_cache),
    Step("idempotency key", replies.idempotency_key),
    Step("decode", binding.write),
    Step("idempotency", replies.idempotency),
    Step("dependencies", steps.dependencies),
    Step("database", steps.transaction),
    Step("handler", steps.handler),
    Step("encode", encoding.write),
)
