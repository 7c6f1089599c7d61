"""The suite of :mod:`tenfold.queue.contract`, on the database backend of the same URL.

::

    class TestMine(QueueConformance):
        @pytest.fixture(scope="class")
        @classmethod
        def url(cls):
            with empty_database() as url:
                yield url

Two workers on two instances of the database stand for two processes. Every time is given: nothing waits.
"""

from __future__ import annotations

from tenfold.conformance._queue_claims import ClaimClaims, InsertClaims, OrderKeyClaims
from tenfold.conformance._queue_machine import MachineClaims
from tenfold.conformance._queue_settling import KeepingClaims, LeaseClaims, SettleClaims
from tenfold.conformance._queue_turns import LimitClaims, PauseClaims, TurnClaims


class QueueConformance(
    InsertClaims,
    ClaimClaims,
    OrderKeyClaims,
    TurnClaims,
    PauseClaims,
    LimitClaims,
    SettleClaims,
    LeaseClaims,
    KeepingClaims,
    MachineClaims,
):
    """Everything a queue backend promises; see the module's docstring."""
