"""``Schedule``: a function that runs at every tick of a cron expression or an interval, once in the fleet."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from tenfold._core.container import describe, hints_of
from tenfold.db.database import Tx
from tenfold.errors import DeclarationError, WrongArguments
from tenfold.queue.handler import Handler, plan_for
from tenfold.queue.retry import Retry
from tenfold.schedules.calendar import MISSED_MAX, Calendar, Cron, Interval, Missed

if TYPE_CHECKING:
    from tenfold._core.container import Container
    from tenfold.db.database import Database


class Tick(msgspec.Struct, frozen=True):
    """The tick that a run is for. A schedule's function may take one: ``async def report(tick: Tick)``."""

    at: datetime
    """When the schedule was due, in UTC; the run may be later."""


class _Payload(msgspec.Struct):
    at: float


_decoder = msgspec.json.Decoder(_Payload)


class Schedule:
    """``when`` is a cron expression ("0 3 * * *"), or an interval in seconds or as a timedelta.

    Cron runs on the wall clock of ``timezone``; see :mod:`tenfold.schedules.calendar` for what happens when the
    clocks change. ``missed`` says what becomes of ticks that nobody was there for: ``once`` (default) runs the
    newest of them, ``all`` runs each of the newest ``missed_max``, ``skip`` runs none that is late by a minute or more.
    What is not run is counted: ``tenfold schedules list`` shows it.
    """

    def __init__(
        self,
        service: str,
        fn: Callable[..., Any],
        when: str | float | timedelta,
        *,
        timezone: str = "UTC",
        missed: Missed = "once",
        missed_max: int = MISSED_MAX,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = 60.0,
        queue: str = "default",
    ) -> None:
        self.service = service
        self.fn = fn
        self.name = f"{service}.{name or fn.__name__}"
        self.calendar = _calendar(when, timezone, f"{self.name}, {describe(fn)}")
        self.missed: Missed = missed
        self.missed_max = missed_max
        self.retry = retry or Retry()
        self.timeout_s = timeout
        self.queue = queue
        if missed not in ("skip", "once", "all"):
            raise DeclarationError(f"missed is {missed!r}; it is 'skip', 'once' or 'all'.", where=self.name)

        if missed_max < 1:
            raise DeclarationError(
                f"missed_max is {missed_max}.", where=self.name, remedy="missed='skip' makes up for none."
            )

    def __repr__(self) -> str:
        return f"Schedule({self.name!r}, {self.calendar.spec!r})"

    def bind(self, container: Container, database: Database | None) -> Handler:
        """For the app: what a worker needs. ``database`` is the service's."""
        plan = plan_for(container, self.fn, self.name, database)
        parameter = self._tick_parameter(set(plan.wanted))

        def decode(payload: str) -> dict[str, Any]:
            try:
                at = _decoder.decode(payload).at
            except msgspec.DecodeError as error:
                raise WrongArguments(f"{self.name}: {error}.") from None
            return {parameter: Tick(datetime.fromtimestamp(at, UTC))} if parameter else {}

        return Handler(
            self.name,
            "tick",
            self.fn,
            decode,
            plan,
            database=database,
            retry=self.retry,
            timeout_s=self.timeout_s,
            transaction="given" if plan.uses(Tx) else "none",
        )

    def _tick_parameter(self, injected: set[str]) -> str | None:
        hints = hints_of(self.fn)
        found: str | None = None
        for name, parameter in inspect.signature(self.fn).parameters.items():
            if name in injected or parameter.default is not parameter.empty:
                continue
            if hints.get(name) is not Tick or found is not None:
                raise DeclarationError(
                    f"nothing provides its parameter {name!r}.",
                    where=f"{self.name}, {describe(self.fn)}",
                    remedy="A schedule's function takes a Tick and what the container injects.",
                )
            found = name
        return found


def _calendar(when: str | float | timedelta, timezone: str, where: str) -> Calendar:
    try:
        if isinstance(when, str):
            return Cron.parse(when, timezone)
        return Interval(when.total_seconds() if isinstance(when, timedelta) else float(when))
    except DeclarationError as error:
        raise DeclarationError(error.what, where=where, remedy=error.remedy) from None
