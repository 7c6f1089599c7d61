"""One call from its first try to its last: time, second tries, redirects."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tenfold._core.context import current
from tenfold.client.answer import Answer
from tenfold.client.retrying import wait_s
from tenfold.client.trying import HEDGED, Call, Open, hedged
from tenfold.client.urls import redirected
from tenfold.errors import AddressRefused, BadAnswer, DependencyTimeout

if TYPE_CHECKING:
    from tenfold.client.retrying import Outcome
    from tenfold.client.state import State

REDIRECTS = frozenset({301, 302, 303, 307, 308})


async def done(state: State, call: Call) -> Answer | Open:
    """The answer of a call, of whatever status, within its time. Raises :class:`~tenfold.errors.CallError`."""
    left_s = call.ends - state.clock.monotonic()
    try:
        async with asyncio.timeout(left_s):
            return await _followed(state, call)
    except TimeoutError:
        raise DependencyTimeout(
            f"{state.request(call.method, call.path)} was not answered within {call.timeout_s:.3g} s.",
            dependency=state.name,
        ) from None


async def _followed(state: State, call: Call) -> Answer | Open:
    for _ in range(state.options.redirects_max):
        answer = await _tried(state, call)
        if answer_status(answer) not in REDIRECTS or call.method not in HEDGED:
            return answer
        if isinstance(answer, Open):
            await answer.close()
        call = _next(state, call, answer)
    answer = await _tried(state, call)
    if state.options.redirects_max and answer_status(answer) in REDIRECTS and call.method in HEDGED:
        if isinstance(answer, Open):
            await answer.close()
        raise BadAnswer(
            f"{state.request(call.method, call.path)} was redirected more than {state.options.redirects_max} times"
            " (redirects_max).",
            dependency=state.name,
        )
    return answer


async def _tried(state: State, call: Call) -> Answer | Open:
    state.budget.first()
    tries, following = 0, call
    while True:
        tries += 1
        outcome, answer = await hedged(state, call)
        pause_s = _pause_s(state, call, outcome, tries)
        if state.router is not None:
            following = state.router.after(call, outcome)
        if pause_s is None:
            if outcome.error is not None:
                raise outcome.error
            assert answer is not None
            return answer
        await state.sleep(pause_s)
        state.metrics.retried(call.place.authority)
        call = following


def _pause_s(state: State, call: Call, outcome: Outcome, tries: int) -> float | None:
    """Seconds until the next try, which is paid for; None when there is none."""
    if not outcome.failed or current().retried:
        return None
    pause_s = wait_s(
        outcome,
        tries,
        state.options,
        idempotent=call.idempotent,
        left_s=call.ends - state.clock.monotonic(),
        random=state.clock.random,
    )
    if pause_s is None:
        return None
    host = state.hosts.of(call.place.authority)
    opened = state.options.breaker and host.breaker.state(state.clock.monotonic()) == "open"
    if opened and state.router is None:
        return None  # this failure has opened it: what was answered tells more than a refusal
    if not state.budget.take():
        state.metrics.refused(host.name, "budget")
        return None
    return pause_s


def _next(state: State, call: Call, answer: Answer | Open) -> Call:
    """The call that a redirect asks for. What was sent to the base alone is not sent to another host."""
    location = dict(answer.headers if isinstance(answer, Answer) else answer.incoming.headers).get(
        "location", ""
    )
    try:
        place = redirected(call.place, location, plain_http=state.plain_http, allowed=state.allowed)
    except ValueError as error:
        raise AddressRefused(
            f"{state.request(call.method, call.path)} was redirected to where calls out may not go: {error}",
            dependency=state.name,
        ) from None
    if place.authority == call.place.authority and place.scheme == call.place.scheme:
        return replace(call, place=place)
    kept = {name: value for name, value in call.headers.items() if name.lower() in _HARMLESS}
    return replace(call, place=place, headers=kept)


_HARMLESS = frozenset({"accept", "accept-language", "user-agent"})


def answer_status(answer: Answer | Open) -> int:
    """The status, whichever it is."""
    return answer.status if isinstance(answer, Answer) else answer.incoming.status
