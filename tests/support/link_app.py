"""One link of a chain of services, for ``tenfold run``: it asks the next one, and has an operation that needs nobody.

``LINK_BROKEN=retries`` makes a build that tries again without a budget, and tells nobody that it does.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from tenfold import App, Service, public
from tenfold.client import outward
from tenfold.guard.retry_budget import RetryBudget

service = Service("link", auth=public)
following = service.http("next", "http://127.0.0.1")


@service.get("/")
async def ask() -> dict[str, Any]:
    found: dict[str, Any] = await following.get("/", type=dict)
    return found


@service.get("/other")
async def other() -> dict[str, Any]:
    await asyncio.sleep(0.01)
    return {}


app = App("link", [service])

if os.environ.get("LINK_BROKEN") == "retries":
    RetryBudget.take = lambda _: True  # type: ignore[method-assign]
    outward.RETRIES = "Not-Said"  # type: ignore[misc]
