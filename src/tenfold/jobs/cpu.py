"""CPU-bound jobs in processes of their own, one job at a time each.

A process is this interpreter, started anew (nothing is forked) and kept for the next job. It is given the name
of the function and the arguments as JSON, and answers in JSON: nothing is pickled. A job that is cancelled or
overruns its time-out is ended with its process; one whose process dies counts as a crash of its worker, so that
it is quarantined after three.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import msgspec

from tenfold.errors import DeclarationError, TenfoldError
from tenfold.queue.runner import WorkerProcessDied

if TYPE_CHECKING:
    from tenfold.queue.context import JobContext
    from tenfold.queue.handler import Handler
    from tenfold.queue.message import Message

LINE_MAX = 64 * 1024 * 1024
"""Longest answer of a job, in bytes."""

STOP_S = 2.0
"""For a process to end after its input was closed, before it is killed."""


class Call(msgspec.Struct):
    """What the process is told to run."""

    module: str
    qualname: str
    payload: str
    id: int
    handler: str
    attempt: int
    created_at: float
    want_result: bool


class Answer(msgspec.Struct, omit_defaults=True):
    """A line from the process: progress, or the end of the job."""

    progress: tuple[float, float, str] | None = None
    done: bool = False
    result: str = "null"
    error: str | None = None
    retry_s: float | None = None
    """The function raised RetryLater."""
    cancelled: bool = False


class CpuJobError(TenfoldError):
    """A CPU-bound job raised; the message is its error and the traceback of its process."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Answer).decode


class CpuPool:
    """At most ``size`` processes; they are started when first needed."""

    def __init__(self, size: int) -> None:
        self._slots = asyncio.Semaphore(size)
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()

    async def start(self) -> None:
        """Nothing to do: processes are started when a job needs one."""

    async def stop(self) -> None:
        """End every process."""
        processes, self._all = list(self._all), set()
        self._idle.clear()
        await asyncio.gather(*(process.stop() for process in processes))

    async def run(self, handler: Handler, message: Message, context: JobContext) -> str:
        """Run the job's function in a free process; the result is JSON text."""
        module, qualname = importable(handler)
        call = Call(
            module,
            qualname,
            message.payload,
            message.id,
            message.handler,
            message.attempt,
            message.created_at,
            handler.result_ttl_s is not None,
        )
        async with self._slots:
            process = self._idle.pop() if self._idle else await self._begin()
            healthy = False
            try:
                answer = await process.run(call, context)
                healthy = True
            finally:
                if healthy:
                    self._idle.append(process)
                else:
                    self._all.discard(process)
                    process.kill()
        return _result(answer)

    async def _begin(self) -> _Process:
        process = _Process(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tenfold.jobs._cpu_child",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LINE_MAX,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
        )
        self._all.add(process)
        return process


class _Process:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, call: Call, context: JobContext) -> Answer:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(_encode(call) + b"\n")
            await stdin.drain()
            while line := await stdout.readline():
                answer = _decode(line)
                if answer.done:
                    return answer
                if answer.progress is not None:
                    done, total, note = answer.progress
                    await context.progress(done, total, note)
        except (ConnectionError, ValueError) as error:
            raise WorkerProcessDied(f"the process of {call.handler} {call.id} broke off: {error}") from None
        code = await self._process.wait()
        raise WorkerProcessDied(f"the process of {call.handler} {call.id} died with exit code {code}")

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()


def importable(handler: Handler) -> tuple[str, str]:
    """Module and name under which another process finds the function."""
    module, qualname = handler.fn.__module__, handler.fn.__qualname__
    if module == "__main__":
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        if spec is None or spec.name == "__main__":
            raise DeclarationError(
                "it is defined in the script that was started, which another process cannot import.",
                where=handler.name,
                remedy="Move it to a module.",
            )
        module = spec.name
    return module, qualname


def _result(answer: Answer) -> str:
    from tenfold.errors import JobCancelled, RetryLater

    if answer.retry_s is not None:
        raise RetryLater(answer.retry_s, answer.error or "")
    if answer.cancelled:
        raise JobCancelled(answer.error or "")
    if answer.error is not None:
        raise CpuJobError(answer.error)
    return answer.result
