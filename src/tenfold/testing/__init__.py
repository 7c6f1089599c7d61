"""Testing a backend: the whole app in the test's own process, with nothing left behind.

``TestApp`` is what the pytest fixture ``test_app`` gives::

    async def test_an_order_is_announced(test_app):
        answer = await test_app.client.post("/orders", json={"sku": "tea", "quantity": 2})
        assert answer.status == 201
        assert [event.topic for event in test_app.events] == ["orders.placed"]
"""

from __future__ import annotations

from tenfold.testing.app import TestApp
from tenfold.testing.client import Answer, Client
from tenfold.testing.outward import Fake, Sent
from tenfold.testing.records import Enqueued, Mail, Published

__all__ = ["Answer", "Client", "Enqueued", "Fake", "Mail", "Published", "Sent", "TestApp"]
