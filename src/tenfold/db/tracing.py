"""Statements and commits as spans, while the work in hand is recorded. What is not pays one C call a statement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from tenfold.telemetry import names
from tenfold.telemetry.trace import Active, recorded

if TYPE_CHECKING:
    from tenfold.db.contract import Args, Channel, DatabaseBackend
    from tenfold.db.plan import Plan

T = TypeVar("T")
SQL_MAX = 4_000
"""Characters of a statement that its span keeps. Values are no part of it: they stand beside the statement."""


def ask(backend: DatabaseBackend, channel: Channel, plan: Plan, args: Args, limit: int) -> Any:
    """``channel``'s rows, a list, where it has them at once, or else what to await for them; timed, and recorded where
    anything is."""
    if recorded() is None:
        if backend.times_fetches:
            return channel.fetch(plan, args, limit)
        rows = channel.fetch_now(plan, args, limit)
    else:
        rows = at_once(channel.fetch_now, plan, args, limit)
    if rows is not None:
        return rows
    return timed(channel.fetch(plan, args, limit), plan, args, kept=backend.times_fetches)


def at_once(run: Callable[..., T | None], plan: Plan, *given: object) -> T | None:
    """What ``run(plan, …)`` answers without waiting; None, and no span, where it does not."""
    active = recorded()
    if active is None:
        return run(plan, *given)
    began = active.tracer.monotonic()
    answer = run(plan, *given)
    if answer is not None:
        ended(active, plan, active.tracer.monotonic() - began)
    return answer


def timed(running: Awaitable[T], plan: Plan, args: Args, *, kept: bool = False) -> Awaitable[T]:
    """What is awaited, and how long that takes kept in the plan, unless it is already, and, where one is recorded, in a
    span. Statements that run inline are not timed: they are those that are known to be fast."""
    active = recorded()
    timer = None if kept or plan.cache is None else plan.cache.timer
    if timer is None and active is None:
        return running
    return _timed(running, plan, args, timer, active)


async def _timed(
    running: Awaitable[T], plan: Plan, args: Args, timer: Callable[[], float] | None, active: Active | None
) -> T:
    clock = timer or active.tracer.monotonic  # type: ignore[union-attr]
    started, error = clock(), ""
    try:
        return await running
    except BaseException as failure:
        error = f"{type(failure).__name__}: {failure}"
        raise
    finally:
        took_s = clock() - started
        if timer is not None:
            plan.ran(took_s, args)
        if active is not None:
            ended(active, plan, took_s, error)


def ended(active: Active, plan: Plan, seconds: float, error: str = "") -> None:
    """A statement has run."""
    active.ended(names.SPAN_DB_STATEMENT, "client", seconds, error, **{names.SQL: sql_of(plan)})


def sql_of(plan: Plan) -> str:
    """The statement as its span has it."""
    return plan.sql if len(plan.sql) <= SQL_MAX else f"{plan.sql[:SQL_MAX]}…"


async def committed(active: Active, committing: Awaitable[T]) -> T:
    """What was awaited: the commit of a transaction, which is where its writes become durable."""
    began, error = active.tracer.monotonic(), ""
    try:
        return await committing
    except BaseException as failure:
        error = f"{type(failure).__name__}: {failure}"
        raise
    finally:
        active.ended(names.SPAN_DB_COMMIT, "client", active.tracer.monotonic() - began, error)
