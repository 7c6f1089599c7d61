"""Idempotency keys over HTTP: whose they are, what may be one, what can have one, and what time does to them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from http_calls import Answer, acall, app_of, call, operation, run

from tenfold._core.clock import ManualClock
from tenfold._core.context import current
from tenfold._core.deadlines import HEADER
from tenfold.errors import DeclarationError
from tenfold.guard.backends._memory_idempotency import MemoryIdempotencyStore
from tenfold.guard.idempotency import KEEP_S, IdempotencyGuard
from tenfold.http.reply import Reply
from tenfold.http.stream import EventStream, Stream
from tenfold.security.authenticator import Authenticator
from tenfold.security.policy import authenticated
from tenfold.security.principal import Principal


class ByName(Authenticator):
    """``Bearer ann/acme`` is Ann, who acts for Acme."""

    def fast(self, authorization: bytes, /) -> Principal | None:
        name, _, tenant = authorization.decode().removeprefix("Bearer ").partition("/")
        return Principal(id=name, tenant=tenant or None)

    async def authenticate(self, headers: Any, cookies: Any, /) -> Principal | None:
        return None


class Shop:
    """An operation with keys that counts its runs."""

    def __init__(self, **policies: Any) -> None:
        self.clock = ManualClock()
        self.runs: list[str] = []
        guard = IdempotencyGuard(MemoryIdempotencyStore(self.clock), self.clock)
        declared = operation(self.place, "POST", idempotent=True, **policies)
        self.app = app_of(
            declared, idempotency=lambda service: guard, clock=self.clock, authenticator=ByName()
        )

    async def place(self) -> Reply[int]:
        principal = current().principal
        self.runs.append("" if principal is None else principal.id)
        return Reply(len(self.runs), 201)

    def ask(self, *keys: str, who: str = "") -> Answer:
        headers = [(b"idempotency-key", key.encode("latin-1")) for key in keys]
        if who:
            headers.append((b"authorization", b"Bearer " + who.encode()))
        return call(self.app, "POST", "/", None, headers)


def test_a_key_belongs_to_its_caller_and_to_the_tenant_that_he_acts_for() -> None:
    shop = Shop(auth=authenticated)
    callers = ["ann/acme", "ann/acme", "ben/acme", "ann/other", "ann", "ann/acme"]
    assert [shop.ask("k", who=who).json for who in callers] == [1, 1, 2, 3, 4, 1]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (("",), "has 0 characters; it must have 1 to 255"),
        (("k" * 256,), "has 256 characters"),
        (("a b",), "visible ASCII characters only"),
        (("caf\xe9",), "visible ASCII characters only"),
        (("tab\t",), "visible ASCII characters only"),
        (("one", "two"), "came 2 times, with different values"),
    ],
)
def test_what_cannot_be_a_key_is_told_as_a_sentence(keys: tuple[str, ...], why: str) -> None:
    shop = Shop()
    answer = shop.ask(*keys)
    assert (answer.status, shop.runs) == (400, [])
    assert why in answer.json["detail"]


def test_a_key_that_came_twice_alike_or_in_quotes_is_one() -> None:
    shop = Shop()
    assert [shop.ask("k", "k").json, shop.ask("k").json, shop.ask('"k"').json] == [1, 1, 2]


def test_a_stored_reply_answers_for_a_day_and_then_the_key_is_new() -> None:
    shop = Shop()

    async def later(seconds: float) -> None:
        await shop.clock.advance(seconds)

    assert shop.ask("k").json == 1
    run(later(KEEP_S - 1))
    assert shop.ask("k").json == 1
    run(later(1))
    assert (shop.ask("k").json, len(shop.runs)) == (2, 2)


@pytest.mark.parametrize("result", [Stream, EventStream[int], Stream | int])
def test_a_stream_cannot_have_a_key_and_that_is_said_at_start(result: Any) -> None:
    async def export() -> Any: ...

    export.__annotations__["return"] = result
    guard = IdempotencyGuard(MemoryIdempotencyStore(ManualClock()), ManualClock())
    with pytest.raises(DeclarationError, match="cannot be a stream"):
        app_of(operation(export, "POST", idempotent=True), idempotency=lambda service: guard)


def test_a_run_that_its_deadline_stops_frees_its_key_for_the_next_try() -> None:
    """And is not stored: a repetition with more time may succeed."""

    async def main() -> list[int]:
        clock, begun = ManualClock(), asyncio.Event()
        runs: list[int] = []

        async def slow() -> int:
            runs.append(1)
            begun.set()
            if len(runs) == 1:
                await asyncio.Event().wait()
            return len(runs)

        guard = IdempotencyGuard(MemoryIdempotencyStore(clock), clock)
        app = app_of(operation(slow, "POST", idempotent=True), idempotency=lambda service: guard, clock=clock)
        key = (b"idempotency-key", b"k")
        work = asyncio.create_task(acall(app, "POST", "/", None, [key, (HEADER.lower().encode(), b"500")]))
        await begun.wait()
        await clock.advance(0.501)  # the sweeper rests half a millisecond at least
        first, second, third = (
            await work,
            await acall(app, "POST", "/", None, [key]),
            await acall(app, "POST", "/", None, [key]),
        )
        await app.stop()
        assert "idempotency-replayed" in third.headers
        return [first.status, second.status, second.json, third.json]

    assert run(main()) == [504, 200, 2, 2]
