"""Calls to services in other processes: the same typed functions, and the same errors.

Arguments travel to one of the service's places and are validated there; the result comes back and is read as what the
code here says that it is. Tried again, within the budget, is what never arrived, and what only reads. A place that is
away, slow, or answers what is no answer gives an error with a sentence: DependencyUnavailable (503),
DeadlineExceeded (504), BadAnswer (502).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from tenfold._core import context as contexts
from tenfold._core.causal import merged
from tenfold.client import outward
from tenfold.errors import (
    BadAnswer,
    CallError,
    DeadlineExceeded,
    DependencyFailed,
    DependencyTimeout,
    DependencyUnavailable,
    Overloaded,
)
from tenfold.http.policies import IDEMPOTENT_METHODS
from tenfold.rpc.call import OperationCall
from tenfold.rpc.faults import Fault, error_of
from tenfold.rpc.wire import MSGPACK, MSGPACK_TYPE

if TYPE_CHECKING:
    from tenfold.client.answer import Answer
    from tenfold.http.operation import Operation
    from tenfold.http.wiring import Wiring
    from tenfold.rpc.call import CallMetrics
    from tenfold.rpc.peer import Peer
    from tenfold.rpc.signature import Signature

_UNREADABLE = (msgspec.MsgspecError, ValueError, TypeError, RecursionError)
_decode_fault = MSGPACK.decoder(Fault)
_KIND = re.compile(rb'"type": ?"urn:tenfold:problem:([a-z-]+)"')


class RemoteCall(OperationCall):
    """The callable behind ``await operation(…)`` while its app runs, and the service is served by other processes."""

    def __init__(
        self,
        operation: Operation[..., Any],
        signature: Signature,
        peer: Peer,
        wiring: Wiring,
        metrics: CallMetrics,
    ) -> None:
        super().__init__(operation, wiring, metrics, signature.send)
        self._signature, self._peer = signature, peer
        self._reads = operation.routed and operation.method in IDEMPOTENT_METHODS

    async def _travel(self, sent: bytes, now: float) -> Any:
        caller = contexts.current()
        deadline = self._ends(caller, now)
        context = caller.child(deadline=deadline)
        token = contexts.enter(context)
        try:
            answer = await self._peer.call(self._name, sent, reads=self._reads, timeout_s=deadline - now)
        except DependencyTimeout:
            raise DeadlineExceeded(f"{self._name} did not answer within {deadline - now:.3g} s.") from None
        finally:
            contexts.leave(token)
            # What it wrote, the caller is to see, also when it failed after that.
            if context.causal != caller.causal:
                caller.causal = merged(caller.causal, context.causal)
        if answer.status == 200:
            return self._result(answer)
        raise self._error(answer)

    def _result(self, answer: Answer) -> Any:
        kind = answer.headers.get("content-type", "")
        if kind != MSGPACK_TYPE:
            raise self._unreadable(f"it is {kind or 'of no type'}, and not {MSGPACK_TYPE}")
        try:
            return self._signature.result(answer.content)
        except _UNREADABLE as error:
            said, _, path = str(error).partition(" - at `$")
            raise self._unreadable(said.splitlines()[0].removesuffix("."), path.strip("`.")) from None

    def _unreadable(self, why: str, path: str = "") -> BadAnswer:
        at = f" At {path}: {why}." if path else f" {why[:1].upper()}{why[1:]}."
        return BadAnswer(
            f"{self._name} was answered with what this code cannot read.{at} Where both run different versions, "
            "`tenfold check --against` tells what does not fit.",
            dependency=self._peer.service,
            path=path,
        )

    def _error(self, answer: Answer) -> Exception:
        if outward.ERROR in answer.headers:
            try:
                return error_of(_decode_fault(answer.content))
            except _UNREADABLE as error:
                return self._unreadable(f"an error, of which {error}")
        return self._in_front(answer)

    def _in_front(self, answer: Answer) -> Exception:
        """What was answered before the operation began: by its server, or by whatever stands before that."""
        service, status = self._peer.service, answer.status
        found = _KIND.search(answer.content)
        kind = found[1].decode() if found is not None else ""
        if kind == Overloaded.kind:
            return Overloaded(
                f"{service} has more calls than it can serve in time.", headers={"Retry-After": "1"}
            )
        if status == 504 or kind == DeadlineExceeded.kind:
            return DeadlineExceeded(f"{self._name} did not answer in time.")
        if status in (401, 403):
            return self._dependency_failed(f"{service} does not take calls from here: {answer.shown}", answer)
        if status == 404:
            return self._unavailable(
                f"{service} has no operation {self._name}, or takes no calls: where it was found runs another version, "
                "another service, or a process without an identity."
            )
        if status in (429, 502, 503):
            return self._unavailable(f"{service} answered {status}: {answer.shown}")
        return self._dependency_failed(f"{self._name} was answered {status}: {answer.shown}", answer)

    def _unavailable(self, message: str) -> CallError:
        return DependencyUnavailable(message, dependency=self._peer.service, reason="status")

    def _dependency_failed(self, message: str, answer: Answer) -> CallError:
        return DependencyFailed(message, dependency=self._peer.service, code=answer.status, answer=answer)
