"""Event sourcing: streams of events, aggregates as plain functions, projections and followers of everything."""

from tenfold.eventstore.aggregate import Aggregate
from tenfold.eventstore.projection import Projection
from tenfold.eventstore.record import ANY, NONE, Event, Loaded, Recorded

__all__ = ["ANY", "NONE", "Aggregate", "Event", "Loaded", "Projection", "Recorded"]
