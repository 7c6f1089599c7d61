"""One service behind the gateway: its places, what is known of each, and how a request gets there.

A try is one of the client for calls out (:mod:`tenfold.client.trying`): the same bulkhead, breaker for each place,
latencies, metrics and spans. What differs is who decides to try again: a gateway sends a request again only when no
service has begun with it, because whoever called the gateway may try again, too.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Collection
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tenfold.client.calling import done
from tenfold.client.contract import Unanswered
from tenfold.client.places import Full
from tenfold.client.retrying import IDEMPOTENT, Outcome, wait_s
from tenfold.client.trying import Call, Open, Try, explained
from tenfold.errors import BadAnswer, CallError, DependencyTimeout, DependencyUnavailable, Problem
from tenfold.gateway.sockets import Joined, Refused, joined
from tenfold.guard.addresses import Place, place_of
from tenfold.http.limits import too_large
from tenfold.http.memory import FREE_BYTES
from tenfold.http.problems import problem_with
from tenfold.http.request import ClientDisconnected
from tenfold.rpc.choosing import Chooser
from tenfold.rpc.peer import EVERYWHERE

if TYPE_CHECKING:
    import ssl

    from tenfold.client.answer import Answer
    from tenfold.client.state import State
    from tenfold.guard.breaker import Ending
    from tenfold.http.request import Request
    from tenfold.rpc.discovery import Places

log = logging.getLogger("tenfold.gateway")

MARGIN_S = 0.01
"""The gateway ends a request so much before its deadline, so that what is told is told of the service."""


class Upstream:
    """See the module's docstring. One for each service."""

    def __init__(
        self, service: str, state: State, places: Places, trusted: ssl.SSLContext | None = None
    ) -> None:
        self.service, self.state = service, state
        self._trusted = trusted
        """What WebSockets connect with, where that is TLS; None: whom the system trusts."""
        self._places = places
        self._chooser = Chooser()

    # ── requests ──

    async def send(self, request: Request, target: str, headers: dict[str, str]) -> Open:
        """The head of the service's answer, whatever its status. Raises a Problem that says what is the matter."""
        call = await self._call(request, target, headers)
        try:
            async with asyncio.timeout(call.timeout_s):
                opened = await self._tried(call, request)
        except TimeoutError:
            raise self.problem(
                DependencyTimeout(f"{self.service}: no answer in {call.timeout_s:.3g} s")
            ) from None
        except CallError as error:
            if call.given_up is not None and call.given_up():
                raise ClientDisconnected from None
            raise self.problem(error) from error
        if 200 <= opened.incoming.status <= 599:
            return opened
        await opened.close()
        raise self.problem(
            BadAnswer(f"{self.service}: {opened.incoming.status} is not the status of an answer.")
        )

    async def connect(self, request: Request, target: str, headers: dict[str, str]) -> Joined:
        """An open WebSocket to the service. Raises a Problem."""
        state, asked = self.state, set[str]()
        state.budget.first()
        while True:
            place = await self._placed(target, asked)
            try:
                return await self._joined(place, request, headers)
            except Refused as refused:
                if refused.status < 500:
                    said = f"The service {self.service} refused the WebSocket."
                    raise problem_with(max(refused.status, 400), said) from None
                raise self.problem(state.unavailable(str(refused), "broken", 1.0)) from None
            except CallError as error:
                again = Outcome(error=error).unsent
                self._learn(place, reached=not again)
                asked.add(place.authority)
                if not again or len(asked) >= state.options.attempts or not state.budget.take():
                    raise self.problem(error) from None

    async def _joined(self, place: Place, request: Request, headers: dict[str, str]) -> Joined:
        """One try; its place among what is under way is held until the WebSocket is closed."""
        state, now = self.state, self.state.clock.monotonic()
        host, left_s = state.hosts.of(place.authority), self._left_s(request, now)
        permit = host.admit(now, left_s)
        if permit is None:
            wait_s = host.breaker.retry_after_s(now)
            raise state.unavailable(f"{host.name} is left alone for a while.", "breaker", wait_s)
        ending: Ending = "dropped"
        try:
            await state.places.enter(host.name, min(state.options.wait_s, left_s))
            try:
                opened = await joined(
                    place, headers, list(request.scope.get("subprotocols", ())),
                    open_s=left_s, close_s=state.options.connect_timeout_s, max_bytes=request.body_max_bytes, trusted=self._trusted,
                )  # fmt: skip
            except BaseException:
                state.places.leave(host.name)
                raise
            ending = "answered"
            return Joined(opened, lambda: state.places.leave(host.name))
        except Full as full:
            raise state.unavailable(f"{full}.", "places", 1.0, full.limit) from None
        except Unanswered as error:
            ending = "failed"
            raise explained(state, error) from None
        finally:
            host.breaker.end(permit, ending, state.clock.monotonic())

    async def fetch(self, path: str, timeout_s: float) -> Answer:
        """A document of the service itself. Raises a Problem."""
        try:
            place = await self.place(path)
            now = self.state.clock.monotonic()
            call = Call(
                method="GET", place=place, path=path, headers={"Accept": "application/json"}, content=b"",
                idempotent=True, timeout_s=timeout_s, ends=now + timeout_s,
            )  # fmt: skip
            answer: Any = await done(self.state, call)
        except CallError as error:
            raise self.problem(error) from error
        found: Answer = answer
        return found

    async def _call(self, request: Request, target: str, headers: dict[str, str]) -> Call:
        content, length = await _body(request)
        now = self.state.clock.monotonic()
        left_s = self._left_s(request, now)
        return Call(
            method=request.method,
            place=await self._placed(target),
            path=request.path,
            headers=headers,
            content=content,
            length=length,
            idempotent=request.method in IDEMPOTENT or b"idempotency-key" in request.header_bytes,
            timeout_s=left_s,
            ends=now + left_s,
            streams=True,
            passes=True,
            given_up=lambda: _given_up(request, content),
        )

    def _left_s(self, request: Request, now: float) -> float:
        deadline = request.context.deadline
        return self.state.options.timeout_s if deadline is None else max(deadline - now - MARGIN_S, 0.001)

    async def _tried(self, call: Call, request: Request) -> Open:
        state, tries, asked = self.state, 0, {call.place.authority}
        state.budget.first()
        while True:
            tries += 1
            attempt = Try(state, call)
            outcome = await attempt.run()
            self._learn(call.place, reached=not outcome.unsent)
            if outcome.error is None:
                assert isinstance(attempt.answer, Open)
                return attempt.answer
            pause_s = self._pause_s(call, outcome, tries, begun=call.in_pieces and request.consumed)
            if pause_s is None:
                raise outcome.error
            before = call.place.authority
            call = replace(call, place=await self.place(call.place.target, but=asked))
            asked.add(call.place.authority)
            state.metrics.retried(call.place.authority)
            if call.place.authority == before:
                await state.sleep(pause_s)

    def _pause_s(self, call: Call, outcome: Outcome, tries: int, *, begun: bool) -> float | None:
        """Seconds before another try at the same place; None when there is none. It is paid for."""
        state = self.state
        slow = isinstance(outcome.error, DependencyTimeout)  # it has begun, and may still be at work
        if begun or slow:
            return None
        pause_s = wait_s(
            outcome, tries, state.options, idempotent=call.idempotent,
            left_s=call.ends - state.clock.monotonic(), random=state.clock.random,
        )  # fmt: skip
        if pause_s is None:
            return None
        if not state.budget.take():
            state.metrics.refused(call.place.authority, "budget")
            return None
        return pause_s

    # ── places ──

    async def place(self, target: str, *, but: Collection[str] = ()) -> Place:
        """Where to send a request for ``target``: the place with the fewest under way, of those that are well and not
        among ``but``, as far as there are any. Raises DependencyUnavailable when nothing is known."""
        bases = [_base(url) for url in await self._places.places(self.service)]
        if not bases:
            raise DependencyUnavailable(
                f"no instance of {self.service} is known.", dependency=self.service, reason="place"
            )
        best = bases[0] if len(bases) == 1 else self._best(bases, but)
        return Place(best.scheme, best.host, best.port, best.target.rstrip("/") + target)

    def _best(self, bases: list[Place], but: Collection[str]) -> Place:
        state, now = self.state, self.state.clock.monotonic()

        def busy(authority: str) -> float:
            opened = state.options.breaker and state.hosts.of(authority).breaker.state(now) == "open"
            return math.inf if opened else state.places.by_host[authority]

        known = {base.authority: base for base in bases}
        return known[self._chooser.choose(list(known), now, busy, but)]

    async def _placed(self, target: str, but: Collection[str] = ()) -> Place:
        """The same, and a Problem where nothing is known."""
        try:
            return await self.place(target, but=but)
        except CallError as error:
            raise self.problem(error) from error

    def _learn(self, place: Place, *, reached: bool) -> None:
        if reached:
            self._chooser.answered(place.authority)
        else:
            self._chooser.failed(place.authority, self.state.clock.monotonic())

    # ── what is told ──

    def problem(self, error: CallError) -> Problem:
        """What the client is told: which service, what is the matter, and when to come back. Addresses are for the log."""
        log.warning("a request to %s failed: %s", self.service, error, extra={"event": "gateway.failed"})
        status, said, after_s = self._said(error)
        headers = {"Retry-After": str(max(1, math.ceil(after_s)))}
        return problem_with(status, f"The service {self.service} {said}", headers)

    def _said(self, error: CallError) -> tuple[int, str, float]:
        match error:
            case DependencyTimeout():
                return 504, "did not answer in time.", 1.0
            case DependencyUnavailable(reason="breaker"):
                said = "did not answer before and is left alone for a while."
                return 503, said, error.retry_after_s
            case DependencyUnavailable(reason="places"):
                return 503, f"has as much to do as the gateway gives it ({error.limit}).", error.retry_after_s
            case DependencyUnavailable(reason="broken"):
                return 502, "broke the connection off before it answered.", error.retry_after_s
            case DependencyUnavailable():
                return 503, "cannot be reached.", error.retry_after_s
            case _:
                return 502, "gave an answer that cannot be passed on.", 1.0


class Upload:
    """A body that is passed on while it comes, no faster than the service takes it."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.failed = False
        """It did not come as it should."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._request.stream():
                yield piece
        except (Problem, ClientDisconnected):
            self.failed = True
            raise


async def _body(request: Request) -> tuple[bytes | Upload, int | None]:
    """The content to send and its length: small ones whole, so that they can be sent again, others while they come.

    Raises what reading a body raises."""
    headers = request.header_bytes
    if b"content-length" not in headers:
        return (Upload(request), None) if b"transfer-encoding" in headers else (b"", None)
    said = headers[b"content-length"]
    length = int(said[:20]) if said.isdigit() else 0
    if length > request.body_max_bytes:
        raise too_large(request.body_max_bytes)
    return (await request.body(), None) if length <= FREE_BYTES else (Upload(request), length)


def _given_up(request: Request, content: bytes | Upload) -> bool:
    """Gone, slow to send its body, or too large a one: it is not up to the service that there is no answer."""
    failed = isinstance(content, Upload) and content.failed
    return failed or request.reading or request.ended in ("disconnect", "body")


@lru_cache(maxsize=4096)
def _base(url: str) -> Place:
    try:
        return place_of(url, plain_http=True, allowed=EVERYWHERE)
    except ValueError as error:
        raise DependencyUnavailable(f"{url!r} is no place of a service: {error}", reason="place") from None
