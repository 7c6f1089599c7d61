"""Databases that do not keep their contract."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa

from tenfold import errors
from tenfold._core.context import Context, use
from tenfold.conformance._altered import Altered, Broken, alter
from tenfold.conformance._database_case import line


def _never(it: Altered, *args: Any) -> None:
    """The short cut is closed, so that the changed method is on the only way."""


def transactions(**changes: Callable[..., Any]) -> Callable[[Any], Any]:
    """Break the transactions of a backend."""

    def open_(it: Altered, **options: Any) -> Any:
        return alter(it.inner.transaction(**options), run_now=_never, fetch_now=_never, **changes)

    return lambda backend: alter(backend, transaction=open_)


def readers(**changes: Callable[..., Any]) -> Callable[[Any], Any]:
    """Break the reads outside of transactions."""

    def reader(it: Altered) -> Any:
        if "reader" not in it.memory:
            it.memory["reader"] = alter(it.inner.reader(), fetch_now=_never, **changes)
        return it.memory["reader"]

    return lambda backend: alter(backend, reader=reader)


async def _undo_and_acknowledge(it: Altered) -> bool:
    await it.inner.rollback()
    return False


async def _commit_and_deny(it: Altered) -> bool:
    await it.inner.commit()
    raise errors.SerializationFailure("it collided")


async def _commit(it: Altered) -> Any:
    return await it.inner.commit()


async def _release(it: Altered) -> None:
    await it.inner.release()


async def _rollback_to(it: Altered) -> None:
    await it.inner.rollback_to()


async def _skip(it: Altered, plan: Any, args: Any) -> int:
    return 1


async def _twice(it: Altered, plan: Any, args: Any) -> int:
    await it.inner.run(plan, args)
    return int(await it.inner.run(plan, args))


async def _after_the_next(it: Altered, plan: Any, args: Any) -> int:
    late, it.memory["late"] = it.memory.get("late"), (plan, args)
    if late is not None:
        await it.inner.run(*late)
    return 1


async def _uncounted(it: Altered, plan: Any, args: Any) -> int:
    await it.inner.run(plan, args)
    return 0


async def _forgiven(it: Altered, plan: Any, args: Any) -> int:
    await it.inner.savepoint()
    try:
        changed = int(await it.inner.run(plan, args))
    except BaseException:
        await it.inner.rollback_to()
        raise
    await it.inner.release()
    return changed


async def _nameless(it: Altered, plan: Any, args: Any) -> int:
    try:
        return int(await it.inner.run(plan, args))
    except errors.IntegrityError as error:
        raise type(error)(str(error)) from error


async def _vendors_error(it: Altered, plan: Any, args: Any, limit: int) -> Any:
    try:
        return await it.inner.fetch(plan, args, limit)
    except errors.DatabaseError as error:
        raise RuntimeError(str(error)) from error


async def _trimmed(it: Altered, plan: Any, args: Any, limit: int) -> Any:
    kept = tuple(arg.rstrip() if isinstance(arg, str) else arg for arg in args)
    return await it.inner.fetch(plan, kept, limit)


async def _without_deadline(it: Altered, plan: Any, args: Any, limit: int) -> Any:
    with use(Context()):
        return await it.inner.fetch(plan, args, limit)


async def _load_less(it: Altered, plan: Any, columns: Any, many: Any) -> int:
    await it.inner.load(plan, columns, many[:-1])
    return len(many)


async def _stale(it: Altered, plan: Any, args: Any, limit: int) -> Any:
    key = (plan.sql, args)
    if key not in it.memory:
        it.memory[key] = await it.inner.fetch(plan, args, limit)
    return it.memory[key]


async def _as_they_come(it: Altered, plan: Any, many: Any, limit: int) -> Any:
    found = await it.inner.fetch_each(plan, many, limit)
    return sorted(found, key=len, reverse=True)


async def _without_the_last(it: Altered, plan: Any, args: Any, chunk: int) -> AsyncIterator[Any]:
    held = None
    async for rows in it.inner.stream(plan, args, chunk):
        if held is not None:
            yield held
        held = rows


@asynccontextmanager
async def _moving(it: Altered) -> AsyncGenerator[Any]:
    yield it.inner.reader()


@asynccontextmanager
async def _nothing_undone(it: Altered) -> AsyncGenerator[None]:
    yield


def _weaker(it: Altered, **options: Any) -> Any:
    return it.inner.transaction()


def _no_hint(it: Altered, topic: str) -> None:
    return None


DATABASE = [
    Broken("a commit is acknowledged and not done", "test_a_block_that_ends_commits_and_one_that_raises_leaves_nothing",
           transactions(commit=_undo_and_acknowledge)),
    Broken("a commit is done and denied", "test_an_acknowledged_commit_is_there_for_everybody",
           transactions(commit=_commit_and_deny)),
    Broken("a rollback commits", "test_a_block_that_ends_commits_and_one_that_raises_leaves_nothing",
           transactions(rollback=_commit)),
    Broken("a savepoint that failed is kept", "test_a_savepoint_that_raises_undoes_its_part_only",
           transactions(rollback_to=_release)),
    Broken("a savepoint that ended well is undone", "test_a_transaction_may_begin_with_a_savepoint_and_hold_many",
           transactions(release=_rollback_to)),
    Broken("a statement is dropped", "test_a_change_that_names_no_value_read_before_is_never_lost",
           transactions(run=_skip)),
    Broken("a statement is done twice", "test_a_change_that_names_no_value_read_before_is_never_lost",
           transactions(run=_twice)),
    Broken("statements change places", "test_statements_run_in_the_order_in_which_they_were_awaited",
           transactions(run=_after_the_next)),
    Broken("matched rows are not counted", "test_execute_counts_the_rows_that_matched", transactions(run=_uncounted)),
    Broken("a failed statement is forgiven", "test_a_failed_statement_makes_the_transaction_unusable",
           transactions(run=_forgiven)),
    Broken("constraints lose their names", "test_a_constraint_is_named_with_its_columns",
           transactions(run=_nameless),
           {"statement": sa.insert(line), "values": {"order_id": 404, "product": "p"},
            "kind_": errors.ForeignKeyViolation, "columns": ("order_id",)}),
    Broken("a vendor's error leaves the backend", "test_a_check_is_named", transactions(fetch=_vendors_error)),
    Broken("text is trimmed", "test_what_goes_in_comes_out", transactions(fetch=_trimmed),
           {"column": "text", "value": "trailing blanks  "}),
    Broken("a bulk load loses its last row", "test_a_great_many_rows_go_in_with_load", transactions(load=_load_less)),
    Broken("a deadline does not stop a statement", "test_a_statement_stops_at_the_deadline",
           readers(fetch=_without_deadline), timeout_s=1.5),
    Broken("a read is stale", "test_nobody_sees_what_is_not_committed", readers(fetch=_stale)),
    Broken("answers are not told apart", "test_each_value_gets_its_own_answer_in_order", readers(fetch_each=_as_they_come)),
    Broken("a stream loses its end", "test_stream_gives_every_row_in_order_of_one_state",
           readers(stream=_without_the_last)),
    Broken("a snapshot moves", "test_statements_of_a_snapshot_see_one_state",
           lambda backend: alter(backend, snapshot=_moving)),
    Broken("serializable is a word", "test_serializable_transactions_prevent_write_skew",
           lambda backend: alter(backend, transaction=_weaker),
           concerns=lambda declared: declared.isolation != "serializable"),
    Broken("hints are lost", "test_a_hint_wakes_those_who_wait_for_its_topic",
           lambda backend: alter(backend, hint=_no_hint), timeout_s=1.5),
    Broken("a sandbox keeps what was done in it", "test_in_a_sandbox_commits_are_seen_and_then_undone",
           lambda backend: alter(backend, sandbox=_nothing_undone)),
]  # fmt: skip
