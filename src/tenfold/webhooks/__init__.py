"""Webhooks: events sent to other people's servers, and other people's events taken in.

Out: :meth:`Service.webhooks <tenfold.service.Service.webhooks>` gives a
:class:`~tenfold.webhooks.outgoing.Webhooks`. In: :meth:`Service.webhook <tenfold.service.Service.webhook>`
declares a handler, which may take a :class:`Received`. Both follow the Standard Webhooks specification 1.0
(https://www.standardwebhooks.com).
"""

from __future__ import annotations

from tenfold.webhooks.received import Received

__all__ = ["Received"]
