"""The framework's own flow: runs compositions of calls, stage after stage."""

from __future__ import annotations

from typing import Any

import msgspec

from tenfold._core.container import Container
from tenfold.jobs.call import WORK, Call, Composition, Stage
from tenfold.jobs.driver import FlowDriver
from tenfold.jobs.flow import Flow
from tenfold.jobs.plans import StepPlans
from tenfold.jobs.steps import StepOptions
from tenfold.queue.handler import Handler
from tenfold.queue.retry import Retry

RESULT_TTL_S = 7 * 86_400.0

_encode = msgspec.json.Encoder().encode
_composition = msgspec.json.Decoder(Composition)


async def run_stages(stages: list[Stage], flow: Flow) -> str:
    """The result of the last call, as JSON text; results go from stage to stage as they are."""
    before = b"null"
    for stage in stages:
        calls: list[Call[str]] = [Call(entry.given(before), _as_it_is, _NO_QUEUES) for entry in stage.calls]
        results = [msgspec.Raw(text.encode()) for text in await flow.run_all(calls, name="stage")]
        before = _encode(results if stage.many else results[0])
    return before.decode()


def handler() -> Handler:
    """What a worker needs to run compositions."""
    container = Container()
    return Handler(
        WORK,
        "job",
        run_stages,
        lambda payload: {"stages": _composition.decode(payload).stages},
        container.plan(run_stages, given=frozenset({Flow})),
        result_ttl_s=RESULT_TTL_S,
        encode_result=str,
        drive=FlowDriver(StepPlans(container), StepOptions(Retry(), None), {}),
    )


def _as_it_is(text: str) -> str:
    return text


_NO_QUEUES: Any = None
"""These calls are enqueued by the flow, in its own queue."""
