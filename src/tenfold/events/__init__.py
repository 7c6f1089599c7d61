"""Events: what has happened, published in the transaction that made it so."""

from __future__ import annotations

from tenfold.events.schema import EventSchema
from tenfold.events.subscription import Subscription
from tenfold.events.topic import Topic

__all__ = ["EventSchema", "Subscription", "Topic"]
