"""``Projection``: a function that turns events into rows of other tables, or follows them for another purpose."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from tenfold._core.container import describe, hints_of
from tenfold._core.context import Context, current, use
from tenfold.db.database import Tx
from tenfold.errors import DeclarationError, UndecodableEvent
from tenfold.eventstore.record import Recorded
from tenfold.queue.handler import plan_for

if TYPE_CHECKING:
    import sqlalchemy as sa

    from tenfold._core.container import Container, Plan
    from tenfold.db.database import Database
    from tenfold.eventstore.aggregate import Aggregate
    from tenfold.eventstore.contract import EventRow
    from tenfold.eventstore.types import EventTypes

Mode = Literal["sync", "async"]
OnPoison = Literal["stop", "skip"]

BATCH = 500


class Projection:
    """``@inventory.projection(stock, tables=[stock_table])`` above ``async def keep(event: Recorded, tx: Tx) -> None``.

    The function takes one event, or several as ``events: list[Recorded]``, which is faster. It changes ``tables``
    through ``tx`` and nothing else, so that they can be rebuilt from the events.

    * ``mode="sync"``: it runs in the transaction that appends, after each append.
    * ``mode="async"``: it runs later, in one process at a time, up to ``batch`` events in a transaction that also
      holds how far it has come: each event has its effect once.

    An asynchronous projection that fails for an event three times stops there and says why (``on_poison="stop"``), or
    leaves the event out and says so (``"skip"``). Raise ``revision`` when old rows are not what the function would
    make of the events today: ``tenfold projections`` then asks for a rebuild.
    """

    def __init__(
        self,
        service: str,
        database: Database,
        fn: Callable[..., Any],
        aggregates: Sequence[Aggregate[Any, Any]] | None,
        *,
        mode: Mode = "async",
        tables: Sequence[sa.Table] = (),
        name: str | None = None,
        revision: int = 1,
        batch: int = BATCH,
        on_poison: OnPoison = "stop",
        from_now: bool = False,
    ) -> None:
        self.service = service
        self.name = f"{service}.{name or fn.__name__}"
        self.database = database
        self.fn = fn
        self.aggregates = aggregates
        """None: all of the app."""
        self.mode: Mode = mode
        self.tables = tuple(tables)
        self.revision = revision
        self.batch = batch
        self.on_poison: OnPoison = on_poison
        self.from_now = from_now
        """It begins with what comes after its first start, not with the first event there ever was."""
        self._check()

    def __repr__(self) -> str:
        return f"Projection({self.name!r})"

    def bind(self, container: Container, aggregates: Sequence[Aggregate[Any, Any]]) -> BoundProjection:
        """For the app, whose aggregates are ``aggregates``."""
        plan = plan_for(container, self.fn, self.name, self.database)
        parameter, many = self._parameter(set(plan.wanted))
        if self.tables and not plan.uses(Tx):
            raise DeclarationError(
                "it fills tables but takes no Tx.",
                where=f"{self.name}, {describe(self.fn)}",
                remedy="Take `tx: Tx`, and change the tables through it: rows and position commit together.",
            )
        followed = aggregates if self.aggregates is None else self.aggregates
        return BoundProjection(self, plan, parameter, many, {a.name: a.types for a in followed})

    def _parameter(self, injected: set[str]) -> tuple[str, bool]:
        left = [name for name in inspect.signature(self.fn).parameters if name not in injected]
        where = f"{self.name}, {describe(self.fn)}"
        if len(left) != 1:
            raise DeclarationError(
                f"of its parameters, {left or 'none'} would be the event; nothing provides more than one.",
                where=where,
                remedy="Take `event: Recorded` or `events: list[Recorded]`, and let the container inject the others.",
            )
        hint = hints_of(self.fn).get(left[0], Recorded)
        many = get_origin(hint) in (list, Sequence)
        of = get_args(hint)[0] if many else hint
        if (get_origin(of) or of) not in (Recorded, Any):
            raise DeclarationError(
                f"its parameter {left[0]!r} is a {getattr(hint, '__name__', hint)}.",
                where=where,
                remedy="Write `event: Recorded` (its data is the event), or `events: list[Recorded]`.",
            )
        return left[0], many

    def _check(self) -> None:
        if not inspect.iscoroutinefunction(self.fn):
            raise DeclarationError(
                "it is not an async function.", where=self.name, remedy="Write `async def`."
            )
        if not 1 <= self.batch <= 10_000:
            raise DeclarationError(
                f"its batch is {self.batch}.", where=self.name, remedy="Give 1 to 10,000 events."
            )
        if self.aggregates is not None and not self.aggregates:
            raise DeclarationError("it names no aggregate.", where=self.name)


class BoundProjection:
    """A projection with its dependencies resolved."""

    def __init__(
        self,
        projection: Projection,
        plan: Plan,
        parameter: str,
        many: bool,
        types: Mapping[str, EventTypes],
    ) -> None:
        self.declared = projection
        self.name = projection.name
        self._plan = plan
        self._parameter = parameter
        self._many = many
        self._types = types

    @property
    def categories(self) -> list[str]:
        """The aggregates whose events it gets."""
        return sorted(self._types)

    def decode(self, row: EventRow) -> Recorded[Any]:
        """The event of a row that was followed; raises UndecodableEvent and UnknownVersion."""
        types = self._types.get(row.category)
        if types is None:
            raise UndecodableEvent(f"{self.name}: no aggregate {row.category!r} is part of the app.")
        return types.decode(row, position=row.id)

    async def apply(self, tx: Tx, events: Sequence[Recorded[Any]]) -> None:
        """Run the function for the events, in their order, in ``tx``."""
        async with AsyncExitStack() as stack:
            context = current()
            given = await self._plan.resolve({Tx: tx, Context: context}, stack) if self._plan else {}
            if self._many:
                await self.declared.fn(**{self._parameter: list(events)}, **given)
                return
            for event in events:
                await self.declared.fn(**{self._parameter: event}, **given)

    async def apply_apart(self, tx: Tx, events: Sequence[Recorded[Any]]) -> None:
        """As :meth:`apply`, as work of its own: in a context that names the projection."""
        with use(Context(service=self.declared.service, operation=self.name)):
            await self.apply(tx, events)
