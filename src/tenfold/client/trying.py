"""One try of a call: a place in the bulkhead, a permit of the breaker, the request, the answer; or two, when hedged."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from tenfold._core.backoff import retry_after_s
from tenfold._core.context import current
from tenfold._core.tasks import end_tasks
from tenfold.client import outward
from tenfold.client.answer import Answer, Headers
from tenfold.client.body import ACCEPTED, BadEncoding, TooLarge, unpacked, whole
from tenfold.client.contract import Forbidden, Incoming, Outgoing, Slow, Unanswered, Unreached
from tenfold.client.places import Full
from tenfold.client.retrying import Outcome
from tenfold.errors import (
    AddressRefused,
    BadAnswer,
    CallError,
    DependencyTimeout,
    DependencyUnavailable,
)
from tenfold.guard.addresses import Place
from tenfold.telemetry import names
from tenfold.telemetry.trace import span

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable

    from tenfold.client.hosts import Host
    from tenfold.client.state import State
    from tenfold.guard.breaker import Ending, Permit

BREAKING = frozenset({500, 502, 503, 504})
"""Statuses that say that the other side is not well."""
HEDGED = frozenset({"GET", "HEAD"})


class Call(Struct, frozen=True, kw_only=True):
    """What is asked for, whatever the number of tries."""

    method: str
    place: Place
    path: str
    """As it was written, for messages and spans: ``/charges/{id}``."""
    headers: dict[str, str]
    content: bytes | AsyncIterable[bytes]
    idempotent: bool
    timeout_s: float
    ends: float
    """When its time is over, by the monotonic clock."""
    streams: bool = False
    length: int | None = None
    """Bytes of a content in pieces, where that is known."""
    passes: bool = False
    """The answer is passed on as it is, whatever its status, to somebody who may try again."""
    given_up: Callable[[], bool] | None = None
    """Whether it is up to whoever asked that there is no answer: that says nothing about the other side."""

    @property
    def in_pieces(self) -> bool:
        """Whether the content is read while it is sent."""
        return not isinstance(self.content, bytes)

    @property
    def hedges(self) -> bool:
        """Whether it may be sent twice at a time."""
        return self.method in HEDGED and not self.streams


class Open:
    """An answer whose body is still to be read; its place is held until :meth:`close`."""

    def __init__(self, incoming: Incoming, state: State, host: str) -> None:
        self.incoming = incoming
        self._state, self._host = state, host
        self._open = True

    async def close(self) -> None:
        """Give connection and place back. Again is harmless."""
        if self._open:
            self._open = False
            try:
                await self.incoming.close()
            finally:
                self._state.places.leave(self._host)


class Try:
    """One request. ``dropped`` is set when nobody waits for it any more."""

    def __init__(self, state: State, call: Call) -> None:
        self._state, self._call = state, call
        self._context = current()
        self.dropped = False
        self.answer: Answer | Open | None = None

    async def run(self, *, wait: bool = True) -> Outcome:
        """Send it; ``answer`` is there unless the outcome has an error. Without ``wait`` a place has to be free."""
        state, call = self._state, self._call
        host = state.hosts.of(call.place.authority)
        try:
            await self._enter(host, wait)
        except CallError as error:
            return Outcome(error=error)
        outcome = Outcome()
        try:
            outcome = await self._measured(host)
        finally:
            if not isinstance(self.answer, Open):
                state.places.leave(host.name)
        return outcome

    async def _enter(self, host: Host, wait: bool) -> None:
        state = self._state
        now = state.clock.monotonic()
        if state.options.breaker and not host.breaker.admits(now):
            host.breaker.refused += 1
            raise self._left_alone(host, now)
        try:
            left_s = self._call.ends - now
            await state.places.enter(host.name, min(state.options.wait_s, left_s) if wait else 0.0)
        except Full as full:
            state.metrics.refused(host.name, "places")
            raise state.unavailable(f"{full}.", "places", 1.0, full.limit) from None

    def _left_alone(self, host: Host, now: float) -> CallError:
        self._state.metrics.refused(host.name, "breaker")
        return self._state.unavailable(
            f"{host.name} did not answer before and is left alone for a while (circuit breaker).",
            "breaker",
            host.breaker.retry_after_s(now),
            "circuit breaker",
        )

    async def _measured(self, host: Host) -> Outcome:
        """Count the request from its start, whatever becomes of it."""
        state, call = self._state, self._call
        begun = state.clock.monotonic()
        permit: Permit | None = None
        if state.options.breaker:
            # How long a content in pieces takes is up to who sends it: it has failed when its time is over, not before.
            permit = host.admit(begun, 2 * call.timeout_s if call.in_pieces else call.timeout_s)
            if permit is None:  # others have been let through while this one waited for its place
                return Outcome(error=self._left_alone(host, begun))
        ending: Ending = "abandoned"
        outcome: Outcome | None = None
        try:
            outcome = await self._spanned(host)
            ending = "failed" if _is_ill(outcome) else "answered"
            return outcome
        finally:
            now = state.clock.monotonic()
            self.dropped = self.dropped or (call.given_up is not None and call.given_up())
            if outcome is not None and outcome.error is None:
                host.latency.learn(now - begun)
            if permit is not None:
                host.breaker.end(permit, "dropped" if self.dropped else ending, now)
            state.metrics.ended(host.name, _word(outcome, self.dropped), now - begun)

    async def _spanned(self, host: Host) -> Outcome:
        call = self._call
        attributes: dict[str, Any] = {
            "http.request.method": call.method,
            "server.address": call.place.host,
            "server.port": call.place.port,
            "url.template": call.path,
            "tenfold.client": self._state.name,
        }
        with span(names.SPAN_CALL_OUT, "client", **attributes) as recorded:
            outcome = await self._exchange()
            if outcome.error is None:
                recorded.set("http.response.status_code", outcome.status)
            else:
                recorded.error = f"{type(outcome.error).__name__}: {outcome.error}"
            return outcome

    async def _exchange(self) -> Outcome:
        state = self._state
        incoming: Incoming | None = None
        try:
            incoming = await state.transport.send(self._outgoing())
            headers = Headers(incoming.headers)
            wait_s = retry_after_s(headers.get("retry-after", ""), state.clock.now())
            # Who answers is there: what an answer that is passed on says of one operation, or of what that one needs, is no
            # reason to keep others from the place.
            answered = self._call.passes or (state.options.ours and outward.ERROR in headers)
            outcome = Outcome(status=incoming.status, retry_after_s=wait_s, answered=answered)
            if state.options.ours:
                outward.take_in(self._context, headers)
            if self._call.passes or (self._call.streams and not outcome.failed):
                self.answer, incoming = Open(incoming, state, self._call.place.authority), None
            else:
                self.answer = await self._read(incoming, headers)
            return outcome
        except Unanswered as error:
            return Outcome(error=explained(self._state, error))
        except (TooLarge, BadEncoding) as error:
            return Outcome(error=self._unusable(error))
        finally:
            if incoming is not None:
                await incoming.close()

    async def _read(self, incoming: Incoming, headers: Headers) -> Answer:
        call, state = self._call, self._state
        most = state.options.answer_max_bytes
        if call.method == "HEAD":
            content = b""
        else:
            encoding = headers.get("content-encoding", "")
            content = await whole(unpacked(incoming.pieces(), encoding, max_bytes=most))
        return Answer(
            state.request(call.method, call.path), incoming.status, headers, content, dependency=state.name
        )

    def _outgoing(self) -> Outgoing:
        call, state = self._call, self._state
        left_s = call.ends - state.clock.monotonic()
        context = current()
        headers = outward.headers_of(
            context,
            left_s=left_s,
            span_id=state.span_id(),
            retries=call.idempotent
            and not call.passes
            and state.options.attempts > 1
            and state.options.retry_share > 0,
            ours=state.options.ours,
            caller=f"{state.caller}/{context.service}" if context.service else state.caller,
        )
        headers |= {"Accept-Encoding": ACCEPTED, **call.headers}
        return Outgoing(
            method=call.method,
            place=call.place,
            headers=list(headers.items()),
            content=call.content,
            length=call.length,
            connect_timeout_s=min(state.options.connect_timeout_s, left_s),
            read_timeout_s=state.options.silence_s if call.streams else min(state.options.silence_s, left_s),
        )

    def _unusable(self, error: TooLarge | BadEncoding) -> CallError:
        state, call = self._state, self._call
        what = (
            f"is larger than {state.options.answer_max_bytes:,} bytes (answer_max_bytes)"
            if isinstance(error, TooLarge)
            else str(error)
        )
        return BadAnswer(
            f"{state.request(call.method, call.path)} answered with a body that {what}.",
            dependency=state.name,
        )


def explained(state: State, error: Unanswered) -> CallError:
    """Why there is no answer, as the error of a client."""
    match error:
        case Forbidden():
            return AddressRefused(f"{state.name}: {error}", dependency=state.name)
        case Unreached():
            return state.unavailable(str(error), "connect", 1.0)
        case Slow():
            return DependencyTimeout(f"{state.name}: {error}", dependency=state.name)
        case _:
            return state.unavailable(str(error), "broken", 1.0)


async def hedged(state: State, call: Call) -> tuple[Outcome, Answer | Open | None]:
    """One try, or two when the first takes longer than nearly all do: the first good answer counts.

    Dean and Barroso, "The Tail at Scale", CACM 2013. The second needs a free place and something in both budgets.
    """
    first = Try(state, call)
    after_s = state.hosts.of(call.place.authority).latency.quantile_s(0.95) if call.hedges else None
    if after_s is None or not state.hedges.share:
        return await first.run(), first.answer
    state.hedges.first()
    tries = {asyncio.create_task(first.run()): first}
    timer = asyncio.ensure_future(state.clock.sleep(after_s))
    try:
        await asyncio.wait([*tries, timer], return_when=asyncio.FIRST_COMPLETED)
        if timer.done() and state.may_hedge():
            second = Try(state, call)
            tries[asyncio.create_task(second.run(wait=False))] = second
            state.metrics.hedged(call.place.authority)
        good = await _first_good(tries)
        for each in tries.values():
            each.dropped = True  # whichever is still under way; of one that ended it changes nothing
        return good
    finally:
        await end_tasks(timer, *tries)


async def _first_good(tries: dict[asyncio.Task[Outcome], Try]) -> tuple[Outcome, Answer | Open | None]:
    left = set(tries)
    done: set[asyncio.Task[Outcome]] = set()
    while left:
        ended, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            if not task.result().failed:
                return task.result(), tries[task].answer
        done |= ended
    worst = next(task for task in tries if task in done)  # the first that was sent speaks for both
    return worst.result(), tries[worst].answer


def _is_ill(outcome: Outcome) -> bool:
    match outcome.error:
        case None:
            return outcome.status in BREAKING and not outcome.answered
        case BadAnswer() | AddressRefused():
            return False
        case _:
            return True


def _word(
    outcome: Outcome | None, dropped: bool
) -> Literal["ok", "refused", "failed", "timeout", "unreachable", "abandoned", "dropped"]:
    """How a request ended, for the metrics."""
    if dropped:
        return "dropped"
    if outcome is None:
        return "abandoned"
    match outcome.error:
        case None:
            return "ok" if outcome.status < 400 else "refused" if outcome.status < 500 else "failed"
        case DependencyTimeout():
            return "timeout"
        case DependencyUnavailable(reason="connect"):
            return "unreachable"
        case _:
            return "failed"
