"""The suite of :mod:`tenfold.eventstore.contract`, on the database backend of the same URL.

::

    class TestMine(EventStoreConformance):
        @pytest.fixture(scope="class")
        @classmethod
        def url(cls):
            with empty_database() as url:
                yield url

Two instances of the database stand for two processes.
"""

from __future__ import annotations

from tenfold.conformance._eventstore_order import GateClaims, OrderClaims
from tenfold.conformance._eventstore_streams import AppendClaims, ReadClaims, SnapshotClaims


class EventStoreConformance(AppendClaims, ReadClaims, SnapshotClaims, OrderClaims, GateClaims):
    """Everything an event store's backend promises; see the module's docstring."""
