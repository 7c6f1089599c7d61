"""The process of a CPU-bound job: reads calls from its input, one JSON line each, and answers in lines.

What the job prints goes to the standard error of the worker; the answers have a file descriptor of their own.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import threading
from collections.abc import Callable
from typing import IO, Any

import msgspec

from tenfold._core.clock import SystemClock
from tenfold._core.loading import import_program
from tenfold._core.text import keepable
from tenfold.errors import JobCancelled, RetryLater
from tenfold.jobs.cpu import Answer, Call
from tenfold.queue.arguments import Signature, enc_hook
from tenfold.queue.context import JobContext, enter_job
from tenfold.queue.message import Message, Progress
from tenfold.queue.outcome import describe_error

_encode = msgspec.json.Encoder(enc_hook=enc_hook).encode


class _Teller:
    """Writes answers; stands in for the worker that a job context reports to."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def say(self, answer: Answer) -> None:
        with self._lock:
            self._pipe.write(_encode(answer) + b"\n")
            self._pipe.flush()

    async def prove(self, tx: Any, message: Message) -> bool:
        raise NotImplementedError("a CPU-bound job has no database; enqueue another job with its result")

    def report(self, message: Message, progress: str) -> None:
        value = msgspec.json.decode(progress, type=Progress)
        self.say(Answer(progress=(value.done, value.total, value.note)))


def main() -> None:
    """Serve until the input ends."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    teller = _Teller(pipe)
    for line in sys.stdin.buffer:
        teller.say(_serve(msgspec.json.decode(line, type=Call), teller))


def _serve(call: Call, teller: _Teller) -> Answer:
    try:
        fn = _function(call)
        kwargs = Signature(fn, call.handler).decode(call.payload)
        message = Message(
            call.id, 0, "job", call.handler, call.payload, None, "", "", 0, 0.0, call.created_at,
            call.attempt - 1, 0, None, None, None,
        )  # fmt: skip
        enter_job(JobContext(message, teller, SystemClock()))
        value = fn(**kwargs)
        if inspect.iscoroutine(value):
            value = asyncio.run(value)
        return Answer(done=True, result=_encode(value).decode() if call.want_result else "null")
    except RetryLater as error:
        return Answer(done=True, error=keepable(str(error)), retry_s=error.delay_s)
    except JobCancelled as error:
        return Answer(done=True, error=keepable(str(error)), cancelled=True)
    except BaseException as error:
        return Answer(done=True, error=describe_error(error))


def _function(call: Call) -> Callable[..., Any]:
    found: Any = import_program(call.module)
    for part in call.qualname.split("."):
        found = getattr(found, part)
    # the decorator has put a Job in the function's place
    fn: Callable[..., Any] = getattr(found, "fn", found)
    return fn


if __name__ == "__main__":
    main()
