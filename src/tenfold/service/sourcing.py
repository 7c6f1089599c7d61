"""How a service declares what is kept as events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tenfold.events.topic import Topic
from tenfold.eventstore.aggregate import Aggregate
from tenfold.eventstore.deciding import Decide
from tenfold.eventstore.projection import BATCH, Mode, OnPoison, Projection
from tenfold.eventstore.record import Event, Recorded
from tenfold.service.declarations import Declarations

if TYPE_CHECKING:
    import sqlalchemy as sa


S = TypeVar("S")
C = TypeVar("C")
F = TypeVar("F", bound=Callable[..., Any])


class Sourcing(Declarations):
    """Aggregates, projections, followers of everything."""

    def aggregate(
        self,
        name: str,
        *,
        events: Sequence[type[Any] | Event[Any]],
        state: type[S],
        evolve: Callable[[S, Any], S],
        decide: Decide[S, C] | None = None,
        initial: Callable[[], S] | None = None,
        snapshot_every: int | None = None,
        revision: int = 1,
        publish: Mapping[type[Any], Topic[Any] | tuple[Topic[Any], Callable[[Recorded[Any]], Any]]]
        | None = None,
    ) -> Aggregate[S, C]:
        """Entities whose state is what their events have made of them, kept in the service's database.

        The options are described in :class:`~tenfold.eventstore.aggregate.Aggregate`.
        """
        aggregate: Aggregate[S, C] = Aggregate(
            self.name,
            name,
            self._own_database(f"{self.name}.{name}"),
            events=events,
            state=state,
            evolve=evolve,
            decide=decide,
            initial=initial,
            snapshot_every=snapshot_every,
            revision=revision,
            publish=publish,
        )
        self.aggregates.append(aggregate)
        return aggregate

    def projection(
        self,
        *aggregates: Aggregate[Any, Any],
        mode: Mode = "async",
        tables: Sequence[sa.Table] = (),
        name: str | None = None,
        revision: int = 1,
        batch: int = BATCH,
        on_poison: OnPoison = "stop",
    ) -> Callable[[F], F]:
        """Fill ``tables`` of the service from the events of ``aggregates``: in the transaction that appends
        (``mode="sync"``), or later and once (``"async"``).

        The options are described in :class:`~tenfold.eventstore.projection.Projection`.
        """

        def declare(fn: F) -> F:
            self.projections.append(
                Projection(
                    self.name,
                    self._own_database(f"{self.name}.{name or fn.__name__}"),
                    fn,
                    aggregates,
                    mode=mode,
                    tables=tables,
                    name=name,
                    revision=revision,
                    batch=batch,
                    on_poison=on_poison,
                )
            )
            return fn

        return declare

    def subscribe_all(
        self,
        *aggregates: Aggregate[Any, Any],
        since: Literal["beginning", "now"] = "beginning",
        name: str | None = None,
        batch: int = BATCH,
        on_poison: OnPoison = "stop",
    ) -> Callable[[F], F]:
        """Follow the events of ``aggregates``, or of all there are in the app, in their one order.

        The function takes ``event: Recorded`` or ``events: list[Recorded]``. What it does through ``tx: Tx`` happens
        once per event; what it does elsewhere, at least once. ``since`` says where it begins the first time.
        """

        def declare(fn: F) -> F:
            self.projections.append(
                Projection(
                    self.name,
                    self._own_database(f"{self.name}.{name or fn.__name__}"),
                    fn,
                    aggregates or None,
                    name=name,
                    batch=batch,
                    on_poison=on_poison,
                    from_now=since == "now",
                )
            )
            return fn

        return declare
