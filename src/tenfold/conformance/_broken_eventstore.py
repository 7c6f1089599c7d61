"""Event stores that do not keep their contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tenfold.conformance._altered import Altered, Broken, alter, answer
from tenfold.db.contract import Capabilities
from tenfold.eventstore.contract import ANY_VERSION, Bounds, EventRow, Write


async def _whatever_the_version(
    it: Altered, tx: Any, category: str, writes: Sequence[Write], *a: Any, **kw: Any
) -> Any:
    return await it.inner.append(tx, category, [w._replace(expected=ANY_VERSION) for w in writes], *a, **kw)


async def _whatever_the_last(
    it: Altered, tx: Any, category: str, writes: Sequence[Write], *a: Any, **kw: Any
) -> Any:
    return await it.inner.append(tx, category, [w._replace(last=None) for w in writes], *a, **kw)


async def _again_behind_the_other(
    it: Altered, tx: Any, category: str, writes: Sequence[Write], *a: Any, **kw: Any
) -> Any:
    newest = await it.inner.append(tx, category, writes, *a, **kw)
    refused = [w._replace(expected=ANY_VERSION) for w in writes if w.stream not in newest]
    return {**newest, **(await it.inner.append(tx, category, refused, *a, **kw) if refused else {})}


async def _claims_that_it_appended(
    it: Altered, tx: Any, category: str, writes: Sequence[Write], *a: Any, **kw: Any
) -> Any:
    newest = await it.inner.append(tx, category, writes, *a, **kw)
    return {w.stream: newest.get(w.stream, w.expected + len(w.events)) for w in writes}


async def _first_only(
    it: Altered, tx: Any, category: str, writes: Sequence[Write], *a: Any, **kw: Any
) -> Any:
    await it.inner.append(tx, category, [w._replace(events=w.events[:1]) for w in writes], *a, **kw)
    return {w.stream: len(w.events) for w in writes}


async def _twice(it: Altered, tx: Any, category: str, writes: Sequence[Write], *a: Any, **kw: Any) -> Any:
    await it.inner.append(tx, category, writes, *a, **kw)
    return await it.inner.append(tx, category, [w._replace(expected=ANY_VERSION) for w in writes], *a, **kw)


async def _without_metadata(it: Altered, tx: Any, category: str, writes: Any, stamp: Any, **kw: Any) -> Any:
    return await it.inner.append(tx, category, writes, stamp._replace(metadata=None), **kw)


async def _all_or_none(
    it: Altered, tx: Any, category: str, writes: Sequence[Write], *a: Any, **kw: Any
) -> Any:
    versions = await it.inner.versions(tx, category, [w.stream for w in writes])
    if any(w.expected not in (ANY_VERSION, versions.get(w.stream, 0)) for w in writes):
        return {}
    return await it.inner.append(tx, category, writes, *a, **kw)


def _read_with(**bounds: Any) -> Callable[[Any], Any]:
    async def read(it: Altered, reader: Any, category: str, wants: Any, given: Any, limit: int) -> Any:
        return await it.inner.read(reader, category, wants, given._replace(**bounds), limit)

    return lambda store: alter(store, read=read)


async def _read_in_lower_case(it: Altered, reader: Any, category: str, wants: Any, *args: Any) -> Any:
    lower = [want._replace(stream=want.stream.lower().strip()) for want in wants]
    rows = await it.inner.read(reader, category, lower, *args)
    return [row._replace(stream=wants[0].stream) for row in rows]


async def _one_too_many(it: Altered, reader: Any, category: str, wants: Any, bounds: Any, limit: int) -> Any:
    return await it.inner.read(reader, category, wants, bounds, limit + 1)


async def _snapshot_of_the_version_before(
    it: Altered, tx: Any, category: str, fingerprint: str, rows: Any
) -> Any:
    await it.inner.save(tx, category, fingerprint, [row._replace(version=row.version - 1) for row in rows])


async def _oldest_wins(it: Altered, tx: Any, category: str, fingerprint: str, rows: Any) -> Any:
    for row in rows:
        await it.inner.save(tx, category, "", [row])
        await it.inner.save(tx, category, fingerprint, [row])


async def _horizon_too_far(it: Altered, tx: Any) -> int:
    return int(await it.inner.horizon(tx)) + 1_000


async def _followed_backwards(it: Altered, *args: Any) -> list[EventRow]:
    return list(reversed(await it.inner.follow(*args)))


async def _followed_with_all(it: Altered, reader: Any, categories: Any, *args: Any) -> Any:
    return await it.inner.follow(reader, (), *args)


async def _follow_from_the_next_but_one(
    it: Altered, reader: Any, categories: Any, after: int, *args: Any
) -> Any:
    return await it.inner.follow(reader, categories, after + (after > 0), *args)


def _with(**changes: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda store: alter(store, **changes)


def _parallel(capabilities: Capabilities) -> bool:
    return capabilities.parallel_writers


EVENTSTORE = [
    Broken("the expected version does not count", "test_only_the_expected_version_is_appended_to",
           _with(append=_whatever_the_version), {"expected": 1, "count": 1}),
    Broken("another last event does not count", "test_only_the_known_event_is_appended_to",
           _with(append=_whatever_the_last), {"count": 1}),
    Broken("two of one version", "test_of_two_with_the_same_version_one_is_appended",
           _with(append=_again_behind_the_other), {"count": 1}),
    Broken("a stream begins twice", "test_a_stream_that_must_not_exist_is_begun_once",
           _with(append=_whatever_the_version)),
    Broken("an event is lost on a conflict", "test_nothing_is_lost_where_many_append_to_one_stream",
           _with(append=_claims_that_it_appended), concerns=_parallel),
    Broken("a refusal is not told", "test_a_stream_that_must_not_exist_is_begun_once",
           _with(append=_claims_that_it_appended)),
    Broken("a part is appended", "test_events_of_a_stream_have_versions_without_gaps", _with(append=_first_only)),
    Broken("an event is doubled", "test_an_event_exists_if_and_only_if_its_transaction_commits",
           _with(append=_twice)),
    Broken("one refused write takes the others along", "test_a_refused_write_leaves_the_others_of_its_call",
           _with(append=_all_or_none)),
    Broken("metadata are lost", "test_an_event_comes_back_as_it_went_in", _with(append=_without_metadata)),
    Broken("case does not count", "test_names_are_told_apart_to_the_last_bit", _with(read=_read_in_lower_case)),
    Broken("a page is too long", "test_a_page_has_the_first_rows", _with(read=_one_too_many)),
    Broken("the bound does not count", "test_streams_are_read_from_a_version_to_a_version",
           _read_with(version=2**62)),
    Broken("a snapshot of the wrong version", "test_a_snapshot_stands_for_the_events_before_it",
           _with(save=_snapshot_of_the_version_before)),
    Broken("the fingerprint does not count", "test_a_snapshot_that_does_not_fit_is_passed_over",
           _read_with(fingerprint="f"), {"bounds": Bounds()}),
    Broken("a snapshot is lost", "test_a_snapshot_stands_for_the_events_before_it", _with(save=answer(None))),
    Broken("an old snapshot replaces a newer one", "test_the_newest_snapshot_wins", _with(save=_oldest_wins)),
    Broken("late commits are skipped", "test_what_commits_late_is_not_skipped",
           _with(horizon=_horizon_too_far), {"count": 1}, concerns=_parallel),
    Broken("late commits are skipped in a history", "test_random_commits_are_followed_without_loss",
           _with(horizon=_horizon_too_far), {"seed": 0}),
    Broken("the horizon stands still", "test_the_horizon_reaches_what_is_committed", _with(horizon=answer(0))),
    Broken("positions fall", "test_everything_is_followed_in_one_order", _with(follow=_followed_backwards)),
    Broken("a page leaves one out", "test_everything_is_followed_in_one_order",
           _with(follow=_follow_from_the_next_but_one)),
    Broken("categories do not count", "test_a_follower_gets_the_categories_it_names",
           _with(follow=_followed_with_all)),
    Broken("a held category is not held", "test_who_holds_a_category_sees_all_of_it", _with(hold=answer(None)),
           concerns=_parallel),
]  # fmt: skip
