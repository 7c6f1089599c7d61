"""Queues that do not keep their contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from tenfold.conformance._altered import Altered, Broken, alter, answer
from tenfold.conformance._queue_case import LEASE_S
from tenfold.queue.contract import Stored
from tenfold.queue.message import Beat, NewMessage
from tenfold.queue.tables import inbox, message, queue


def _inserted_as(**fields: Any) -> Callable[[Any], Any]:
    """Messages lose something on their way in."""

    async def insert(it: Altered, tx: Any, rows: Sequence[NewMessage]) -> Any:
        return await it.inner.insert(tx, [msgspec.structs.replace(row, **fields) for row in rows])

    return lambda queue: alter(queue, insert=insert)


async def _insert_all_but_one(it: Altered, tx: Any, rows: Sequence[NewMessage]) -> Any:
    stored = await it.inner.insert(tx, rows[:-1]) if rows[:-1] else []
    return [*stored, Stored(10**9, existed=False)]


async def _insert_twice(it: Altered, tx: Any, rows: Sequence[NewMessage]) -> Any:
    await it.inner.insert(tx, [msgspec.structs.replace(row) for row in rows])
    return await it.inner.insert(tx, rows)


def _claimed_and(**values: Any) -> Callable[[Any], Any]:
    """A claim that changes its rows once more."""

    async def claim(it: Altered, tx: Any, *args: Any) -> Any:
        claimed = await it.inner.claim(tx, *args)
        ids = [m.id for m in claimed]
        if ids:
            await tx.execute(sa.update(message).where(message.c.id.in_(ids)).values(**values))
        return claimed

    return lambda queue: alter(queue, claim=claim)


async def _claim_anywhere(it: Altered, tx: Any, claim: Any, *args: Any) -> Any:
    await tx.execute(sa.update(message).where(message.c.state == "ready").values(lane=claim.lane))
    return await it.inner.claim(tx, claim, *args)


async def _settle_whoever_holds(it: Altered, tx: Any, settlements: Any, *args: Any) -> Any:
    fences = dict(await tx.all(sa.select(message.c.id, message.c.fence), tuple))
    anew = [msgspec.structs.replace(s, fence=fences.get(s.id, s.fence)) for s in settlements]
    return await it.inner.settle(tx, anew, *args)


def _settled_as(**fields: Any) -> Callable[[Any], Any]:
    """Settlements lose something."""

    async def settle(it: Altered, tx: Any, settlements: Any, *args: Any) -> Any:
        anew = [msgspec.structs.replace(s, **fields) for s in settlements]
        return await it.inner.settle(tx, anew, *args)

    return lambda queue: alter(queue, settle=settle)


async def _give_up_and_forget(it: Altered, tx: Any, *args: Any) -> Any:
    lost = await it.inner.settle(tx, *args)
    await tx.execute(sa.delete(inbox).where(inbox.c.given_up_at.is_not(None)))
    return lost


async def _expired_early(it: Altered, tx: Any, now: float, limit: int) -> Any:
    return await it.inner.expired(tx, now + LEASE_S, limit)


async def _prune_early(it: Altered, tx: Any, now: float, limit: int) -> Any:
    return await it.inner.prune(tx, now + 1e6, limit)


async def _wake_early(it: Altered, tx: Any, now: float, limit: int) -> Any:
    return await it.inner.wake_due(tx, now + 1e6, limit)


async def _claim_oldest_first(it: Altered, tx: Any, claim: Any, after: str, *args: Any) -> Any:
    await tx.execute(sa.update(message).where(message.c.state == "ready").values(share=""))
    return await it.inner.claim(tx, claim, *args)


async def _claim_though_paused(it: Altered, tx: Any, *args: Any) -> Any:
    await tx.execute(sa.update(queue).values(paused_at=None))
    return await it.inner.claim(tx, *args)


def _with(**changes: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda queue: alter(queue, **changes)


QUEUE = [
    Broken("a message is lost", "test_ids_are_told_in_the_order_of_the_rows", _with(insert=_insert_all_but_one)),
    Broken("a message is doubled", "test_a_message_exists_if_and_only_if_its_transaction_commits",
           _with(insert=_insert_twice)),
    Broken("unique keys do not count", "test_a_unique_key_has_one_pending_message", _inserted_as(unique_key=None)),
    Broken("order keys do not count", "test_messages_of_one_key_run_one_after_another", _inserted_as(order_key=None)),
    Broken("priorities do not count", "test_claims_go_by_priority_then_by_id", _inserted_as(priority=0)),
    Broken("delays do not count", "test_a_delayed_message_is_ready_when_its_time_has_come",
           _inserted_as(state="ready")),
    Broken("what is due is woken early", "test_a_delayed_message_is_ready_when_its_time_has_come",
           _with(wake_due=_wake_early)),
    Broken("who is woken sleeps on", "test_delayed_messages_are_woken_by_name", _with(wake=answer(0))),
    Broken("a claimed message can be claimed again", "test_no_message_is_claimed_twice",
           _claimed_and(state="ready")),
    Broken("a claim does not lease", "test_a_claim_raises_the_fence_and_leases", _claimed_and(lease_until=None)),
    Broken("a fence stays what it was", "test_a_claim_raises_the_fence_and_leases", _claimed_and(fence=0)),
    Broken("lanes run together", "test_queues_and_lanes_are_claimed_apart", _with(claim=_claim_anywhere)),
    Broken("the oldest go first, whoever's they are", "test_shares_of_a_lane_are_claimed_in_turn",
           _with(claim_in_turn=_claim_oldest_first)),
    Broken("a pause does not count", "test_of_a_paused_queue_nothing_is_claimed", _with(claim=_claim_though_paused)),
    Broken("nobody hears of a cancellation", "test_a_heartbeat_prolongs_tells_and_keeps_progress",
           _with(asked_to_stop=answer({}))),
    Broken("a fence is ignored", "test_only_the_holder_of_the_newest_fence_settles",
           _with(settle=_settle_whoever_holds)),
    Broken("a fence is ignored in a history", "test_random_histories_end_as_the_contract_says",
           _with(settle=_settle_whoever_holds), timeout_s=60.0),
    Broken("a settlement is lost", "test_a_settlement_commits_with_its_transaction", _with(settle=answer(set[int]()))),
    Broken("a result is lost", "test_a_finished_message_is_kept_in_the_archive_with_what_became_of_it",
           _settled_as(result=None)),
    Broken("a crash is forgotten", "test_a_lease_that_ran_out_shows_and_the_message_is_handed_out_again",
           _settled_as(crashes=0)),
    Broken("a lease never ends", "test_a_lease_that_ran_out_shows_and_the_message_is_handed_out_again",
           _with(expired=answer([]))),
    Broken("a lease ends early", "test_a_lease_that_ran_out_shows_and_the_message_is_handed_out_again",
           _with(expired=_expired_early)),
    Broken("a heartbeat holds nothing", "test_a_heartbeat_prolongs_tells_and_keeps_progress",
           _with(extend=answer(Beat(set(), {})))),
    Broken("what runs is not counted", "test_two_who_ask_what_runs_never_exceed_a_limit", _with(running=answer({}))),
    Broken("what is parked stays so", "test_parked_messages_are_taken_up_by_who_knows_them", _with(adopt=answer(0))),
    Broken("what is kept is pruned early", "test_pruning_removes_what_has_expired_and_no_more_than_it_may",
           _with(prune=_prune_early)),
    Broken("an event is new every time", "test_an_event_is_new_to_a_subscription_once", _with(remember=answer(True))),
    Broken("an event is never new", "test_an_event_is_remembered_with_its_effect", _with(remember=answer(False))),
    Broken("what was given up is new again", "test_an_event_that_was_given_up_is_not_new",
           _with(settle=_give_up_and_forget)),
]  # fmt: skip
