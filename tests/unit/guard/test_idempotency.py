"""Who runs, who waits, who gets the stored reply: the decisions, and the guard over every store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold._core.clock import ManualClock
from tenfold._core.context import Context, enter, use
from tenfold.conformance.kit import until
from tenfold.errors import BadRequest, IdempotencyMismatch, InternalError, RequestInProgress
from tenfold.guard.idempotency import REPLY_MAX_BYTES, Claim, IdempotencyGuard
from tenfold.guard.keys import (
    REPLAYED,
    SCOPE_MAX_CHARS,
    Busy,
    Free,
    KeyRecord,
    Mismatch,
    Replay,
    StoredReply,
    checked_key,
    decide,
    fingerprint,
    fitting,
    kept,
)

REPLY = StoredReply(201, ((b"content-type", b"application/json"), (b"location", b"/orders/1")), b'{"id":1}')


def record(**changes: Any) -> KeyRecord:
    return KeyRecord(**{"fingerprint": "f", "claim": "c", "lease_s": 10.0, "keep_s": 100.0, **changes})


# ── decisions ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("known", "print_", "expected"),
    [
        (None, "f", Free()),
        (record(), "f", Busy(2)),
        (record(lease_s=0.9), "f", Busy(1)),
        (record(lease_s=0), "f", Free()),
        (record(), "other", Mismatch()),
        (record(lease_s=-40), "other", Mismatch()),  # crashed, but the client cannot know that
        (record(lease_s=-40, reply=REPLY), "other", Mismatch()),
        (record(keep_s=0, reply=REPLY), "other", Free()),
        (record(keep_s=0, reply=REPLY), "f", Free()),
    ],
)
def test_what_a_record_means(known: KeyRecord | None, print_: str, expected: Any) -> None:
    assert decide(known, print_) == expected


def test_a_finished_request_is_replayed_long_after_its_lease_and_marked() -> None:
    decision = decide(record(lease_s=-90, reply=REPLY), "f")
    assert decision == Replay(StoredReply(201, (*REPLY.headers, REPLAYED), REPLY.body))


@given(one=st.text(max_size=300), other=st.text(max_size=300))
def test_a_scope_that_is_shortened_stays_itself_and_fits(one: str, other: str) -> None:
    assert (fitting(one) == fitting(other)) == (one == other)
    assert len(fitting(one)) <= SCOPE_MAX_CHARS
    assert fitting(one).isprintable()


def test_replies_that_would_be_the_same_again_are_kept() -> None:
    assert [s for s in (200, 201, 204, 303, 400, 404, 410, 422) if not kept(s)] == []
    assert [s for s in (401, 403, 408, 409, 425, 429, 500, 502, 503, 504) if kept(s)] == []


parts = st.tuples(st.text(), st.text(), st.binary(), st.binary())


@given(one=parts, other=parts)
def test_a_fingerprint_tells_requests_apart(
    one: tuple[str, str, bytes, bytes], other: tuple[str, str, bytes, bytes]
) -> None:
    assert (fingerprint(*one) == fingerprint(*other)) == (one == other)


def test_a_fingerprint_does_not_run_its_parts_together() -> None:
    assert fingerprint("POST", "/ab", b"c", b"") != fingerprint("POST", "/a", b"bc", b"")
    assert fingerprint("POST", "/", b"1:x", b"") != fingerprint("POST", "/", b"", b"1:x")


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "schlüssel", "a\nb", "a\x7f"])
def test_an_unusable_key_is_refused_with_a_sentence(key: str) -> None:
    with pytest.raises(BadRequest, match="Idempotency-Key"):
        checked_key(key)


@pytest.mark.parametrize("key", ["x", "x" * 255, "550e8400-e29b-41d4-a716-446655440000", '"quoted"'])
def test_a_visible_key_is_taken_as_it_is(key: str) -> None:
    assert checked_key(key) == key


# ── the guard ─────────────────────────────────────────────────────────────────────────────────────


async def claimed(guard: IdempotencyGuard, key: str = "k", print_: str = "f") -> Claim:
    with use(Context()):  # every request has one
        outcome = await guard.begin(key, "orders.place", print_)
    assert isinstance(outcome, Claim)
    return outcome


async def replayed(guard: IdempotencyGuard, key: str = "k") -> StoredReply:
    outcome = await guard.begin(key, "orders.place", "f")
    assert isinstance(outcome, Replay)
    return outcome.reply


@pytest.mark.anyio
async def test_the_same_request_again_gets_the_same_reply(guard: IdempotencyGuard) -> None:
    await (await claimed(guard)).finish(REPLY)
    again = await replayed(guard)
    assert (again.status, again.body) == (REPLY.status, REPLY.body)
    assert again.headers == (*REPLY.headers, REPLAYED)


@pytest.mark.anyio
async def test_a_duplicate_of_a_running_request_is_told_when_to_come_back(guard: IdempotencyGuard) -> None:
    claim = await claimed(guard)
    with pytest.raises(RequestInProgress) as caught:
        await guard.begin("k", "orders.place", "f")
    assert (caught.value.status, caught.value.headers) == (409, {"Retry-After": "2"})
    await claim.abandon()


@pytest.mark.anyio
async def test_another_request_under_the_key_is_refused_while_and_after_the_first(
    guard: IdempotencyGuard,
) -> None:
    claim = await claimed(guard)
    with pytest.raises(IdempotencyMismatch):
        await guard.begin("k", "orders.place", "another body")
    await claim.finish(REPLY)
    with pytest.raises(IdempotencyMismatch):
        await guard.begin("k", "orders.place", "another body")


@pytest.mark.anyio
async def test_scopes_keep_equal_keys_apart(guard: IdempotencyGuard) -> None:
    await (await claimed(guard)).finish(REPLY)
    other = await guard.begin("k", "orders.cancel", "f")
    assert isinstance(other, Claim)
    await other.abandon()


@pytest.mark.anyio
async def test_an_abandoned_key_is_free_at_once(guard: IdempotencyGuard) -> None:
    await (await claimed(guard)).abandon()
    claim = await claimed(guard, print_="another body")
    await claim.abandon()
    await claim.abandon()  # ending twice does no harm


@pytest.mark.anyio
async def test_a_reply_that_may_differ_next_time_frees_the_key(guard: IdempotencyGuard) -> None:
    await (await claimed(guard)).finish(StoredReply(503, (), b""))
    await (await claimed(guard)).abandon()


@pytest.mark.anyio
async def test_the_key_of_a_run_that_died_is_free_when_its_lease_ends(
    guard: IdempotencyGuard, clock: ManualClock
) -> None:
    await claimed(guard)
    await clock.advance(5)
    with pytest.raises(RequestInProgress):
        await claimed(guard)
    await clock.advance(1)
    await (await claimed(guard)).finish(REPLY)


@pytest.mark.anyio
async def test_the_key_of_a_long_run_stays_taken_while_it_runs(
    guard: IdempotencyGuard, clock: ManualClock
) -> None:
    claim = await claimed(guard)
    await guard.start()
    try:
        for _ in range(30):
            await clock.advance(2)
            await settled(guard, clock)
            with pytest.raises(RequestInProgress):
                await claimed(guard)
        await claim.finish(REPLY)
    finally:
        await guard.stop()
    assert (await replayed(guard)).body == REPLY.body


async def settled(guard: IdempotencyGuard, clock: ManualClock) -> None:
    """Wait until the renewal that is due was written (it has the whole lease again) and the next one is waited for."""

    async def renewed() -> bool:
        found = await guard.store.find("orders.place", "k")
        return found is not None and found.lease_s > guard.lease_s - 0.01 and len(clock._sleepers) == 2

    await until(renewed, "the renewal")


@pytest.mark.anyio
async def test_a_run_that_completes_while_another_is_about_to_take_its_key_keeps_it(
    guard: IdempotencyGuard, clock: ManualClock
) -> None:
    slow = await claimed(guard)
    await clock.advance(7)
    seen = await guard.store.find("orders.place", "k")
    assert seen is not None
    assert decide(seen, "f") == Free()
    await slow.finish(REPLY)
    assert not await guard.store.claim("orders.place", "k", KeyRecord("f", "late", 6.0, 100.0))
    assert (await replayed(guard)).body == REPLY.body


@pytest.mark.anyio
async def test_replies_are_forgotten_after_a_day_and_deleted_in_batches(
    guard: IdempotencyGuard, clock: ManualClock
) -> None:
    for key in ("a", "b", "c"):
        await (await claimed(guard, key)).finish(REPLY)
    await clock.advance(86_399)
    assert (await replayed(guard, "a")).body == REPLY.body
    assert await guard.prune() == 0
    await clock.advance(1)
    assert await guard.store.prune(2) == 2
    assert await guard.prune() == 1
    await (await claimed(guard, "a")).abandon()


@pytest.mark.anyio
async def test_an_expired_key_that_was_not_deleted_yet_is_free(
    guard: IdempotencyGuard, clock: ManualClock
) -> None:
    await (await claimed(guard)).finish(REPLY)
    await clock.advance(86_400)
    await (await claimed(guard, print_="another body")).finish(StoredReply(200, (), b"new"))


@pytest.mark.anyio
async def test_the_started_guard_deletes_once_a_minute(
    guard: IdempotencyGuard, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await claimed(guard)).finish(REPLY)
    pruned = asyncio.Event()
    prune = guard.store.prune

    async def noted(limit: int) -> int:
        deleted = await prune(limit)
        pruned.set()
        return deleted

    monkeypatch.setattr(guard.store, "prune", noted)
    await clock.advance(86_400)
    await guard.start()
    await clock.advance(59)
    assert await guard.store.find("orders.place", "k") is not None
    await clock.advance(1)
    async with asyncio.timeout(5):
        await pruned.wait()
    assert await guard.store.find("orders.place", "k") is None
    await guard.stop()


@pytest.mark.anyio
async def test_a_reply_too_large_to_keep_is_an_error_without_effect(guard: IdempotencyGuard) -> None:
    claim = await claimed(guard)
    with pytest.raises(InternalError, match="had no effect"):
        await claim.finish(StoredReply(200, (), b"x" * (REPLY_MAX_BYTES + 1)))
    await (await claimed(guard)).abandon()


@pytest.mark.anyio
async def test_of_200_concurrent_duplicates_one_runs(guard: IdempotencyGuard) -> None:
    runs = 0

    async def request() -> str:
        nonlocal runs
        enter(Context())  # each has its own, or the others would be part of the first one's transaction
        try:
            outcome = await guard.begin("k", "orders.place", "f")
        except RequestInProgress:
            return "busy"
        if isinstance(outcome, Replay):
            return "replayed"
        runs += 1
        await asyncio.sleep(0.01)
        await outcome.finish(REPLY)
        return "ran"

    got = await asyncio.gather(*(request() for _ in range(200)))
    assert runs == got.count("ran") == 1
    assert got.count("busy") + got.count("replayed") == 199
    assert (await replayed(guard)).body == REPLY.body
