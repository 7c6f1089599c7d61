"""Ending a task from outside."""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_S = 2.0
"""Longer than a part cleans up for."""


async def end_tasks(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel ``tasks`` (None is over already) and wait until they are over, however they end.

    One that lives on is cancelled again every two seconds: a cancellation is lost when ``asyncio.wait_for`` before
    Python 3.12, which many clients use, is given its result in the same moment.
    """
    left = {task for task in tasks if task is not None}
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=AGAIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # seen
