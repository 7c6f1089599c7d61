"""Caches, limits, leases, idempotency keys and sessions that do not keep their contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from tenfold.conformance._altered import Altered, Broken, alter, answer
from tenfold.guard.gcra import Taken


def _with(**changes: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda store: alter(store, **changes)


# ── limits ──


def _no_short_cut(it: Altered, cells: Any) -> None:
    return None


async def _admit(it: Altered, cells: Any) -> Taken:
    taken: Taken = await it.inner.take(cells)
    return msgspec.structs.replace(taken, admitted=True)


async def _one_cell_for_all(it: Altered, cells: Any) -> Taken:
    taken: Taken = await it.inner.take([("one", cost, room) for _, cost, room in cells[:1]])
    return taken


async def _each_by_itself(it: Altered, cells: Any) -> Taken:
    takens: list[Taken] = [await it.inner.take([cell]) for cell in cells]
    refused = [taken for taken in takens if not taken.admitted]
    ahead = tuple(taken.ahead_us[0] for taken in takens)
    return msgspec.structs.replace((refused or takens)[0], ahead_us=ahead)


async def _give_anyway(it: Altered, unused: Any) -> int:
    """Whatever the TAT is by now."""
    for each in unused:
        await it.inner.take([(each.key, -each.unused_us, 2**50)])
    return 0


LIMITS = [
    Broken("everything is admitted", "test_an_unused_cell_admits_its_burst_and_no_more",
           _with(take_now=_no_short_cut, take=_admit)),
    Broken("keys are not told apart", "test_keys_are_told_apart", _with(take_now=_no_short_cut, take=_one_cell_for_all)),
    Broken("what one cell refuses counts in others", "test_all_cells_count_or_none",
           _with(take_now=_no_short_cut, take=_each_by_itself)),
    Broken("what is given back is lost", "test_what_is_given_back_can_be_taken_again", _with(give_back=answer(1))),
    Broken("what another took is given away", "test_what_another_took_since_is_not_given_back",
           _with(give_back=_give_anyway)),
]  # fmt: skip


# ── leases ──


async def _steal(it: Altered, name: str, ttl_s: float) -> Any:
    holder = await it.inner.holder(name)
    if holder is not None:
        await it.inner.release(name, holder)
    return await it.inner.acquire(name, ttl_s)


async def _release_anybodys(it: Altered, name: str, token: int) -> Any:
    holder = await it.inner.holder(name)
    return holder is not None and await it.inner.release(name, holder)


async def _longer(it: Altered, name: str, ttl_s: float) -> Any:
    return await it.inner.acquire(name, ttl_s + 3_600)


async def _same_token(it: Altered, name: str, ttl_s: float) -> Any:
    return 1 if await it.inner.acquire(name, ttl_s) is not None else None


LEASES = [
    Broken("a held lease is given again", "test_while_it_is_held_nobody_else_gets_it", _with(acquire=_steal)),
    Broken("anybody can release", "test_whose_time_is_over_can_neither_renew_nor_release",
           _with(release=_release_anybodys)),
    Broken("a release is forgotten", "test_a_released_lease_is_free_at_once", _with(release=answer(True))),
    Broken("a lease outlives its time", "test_a_lease_ends_with_its_time", _with(acquire=_longer)),
    Broken("tokens stay the same", "test_tokens_rise_with_every_holder", _with(acquire=_same_token)),
    Broken("renewing is forgotten", "test_renewing_begins_its_time_again", _with(renew=answer(True))),
]  # fmt: skip


# ── idempotency keys ──


def _attempts(**changes: Callable[..., Any]) -> Callable[[Any], Any]:
    def attempt(it: Altered, *args: Any, **kw: Any) -> Any:
        return alter(it.inner.attempt(*args, **kw), **changes)

    return _with(attempt=attempt)


async def _claim_over_anybody(it: Altered, scope: str, key: str, record: Any, **kw: Any) -> bool:
    await it.inner.claim(scope, key, record, **kw)
    return True


async def _without_scope(it: Altered, scope: str, key: str) -> Any:
    return await it.inner.find("orders.place", key)


IDEMPOTENCY = [
    Broken("everybody wins a claim", "test_of_many_claims_one_wins", _with(claim=_claim_over_anybody)),
    Broken("nothing is found", "test_a_completed_reply_is_found_by_everybody", _with(find=answer(None))),
    Broken("scopes are not told apart", "test_of_many_claims_one_wins", _with(find=_without_scope)),
    Broken("a reply is dropped", "test_a_completed_reply_is_found_by_everybody", _attempts(complete=answer(True))),
    Broken("a release is forgotten", "test_a_released_key_is_free_and_had_no_effect", _attempts(release=answer(None)), timeout_s=2.0),
    Broken("renewing is forgotten", "test_renewing_keeps_the_key", _with(renew=answer(None))),
]  # fmt: skip


# ── sessions ──


async def _get_expired(it: Altered, hash_: str, now: float) -> Any:
    return await it.inner.get(hash_, now - 10 * 86_400)


SESSIONS = [
    Broken("a session is lost", "test_a_session_is_found_by_everybody", _with(create=answer(None))),
    Broken("an expired session is found", "test_an_expired_session_is_not_found", _with(get=_get_expired)),
    Broken("use does not move the expiry", "test_use_moves_the_expiry", _with(touch=answer(True))),
    Broken("a revocation is forgotten", "test_a_revoked_session_stays_revoked", _with(revoke=answer(True))),
    Broken("an account's sessions stay", "test_all_sessions_of_an_account_end_together_and_no_others",
           _with(revoke_all=answer(None))),
]  # fmt: skip


# ── caches ──


def _regions(**changes: Callable[..., Any]) -> Callable[[Any], Any]:
    def region(it: Altered, *args: Any) -> Any:
        return alter(it.inner.region(*args), **changes)

    return _with(region=region)


async def _put_always(it: Altered, key: str, fill: Any, entry: Any) -> bool:
    stored = await it.inner.close_fill(key, fill, entry)
    if not stored and entry is not None:
        await it.inner.put(key, entry)
    return True


async def _clear_all(it: Altered, names: Any) -> None:
    await it.inner.clear()


async def _one_key(it: Altered, key: str, *args: Any) -> Any:
    return await it.inner.put("one", *args)


CACHE = [
    Broken("nothing is stored", "test_a_value_is_loaded_once_and_then_served", _regions(close_fill=answer(False)), timeout_s=2.0),
    Broken("a tag invalidates nothing", "test_what_is_invalidated_is_found_nowhere",
           _regions(invalidate=answer(None), forget=lambda it, names: None), {"how": "tag"}),
    Broken("a deleted entry stays", "test_what_is_invalidated_is_found_nowhere",
           _regions(delete=answer(None)), {"how": "delete"}),
    Broken("a tag takes everything", "test_a_change_leaves_the_rest", _regions(invalidate=_clear_all)),
    Broken("a slow fill overwrites a change", "test_a_slow_fill_never_overwrites_a_newer_change",
           _regions(close_fill=_put_always), {"how": "tag", "by": "itself"}),
]  # fmt: skip
