"""What a client and its server do together about one Idempotency-Key, in the processes that tests kill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from tenfold._core.context import Context, enter
from tenfold.errors import RequestInProgress
from tenfold.guard.idempotency import Claim, IdempotencyGuard
from tenfold.guard.keys import Replay, StoredReply


async def ask(
    guard: IdempotencyGuard, key: str, work: Callable[[], Awaitable[int]], *, again_s: float
) -> None:
    """Repeat until there is a reply, whose body is what ``work`` returned, and print the two as JSON: it goes out
    after ``finish`` returned, so it is what the client has seen."""
    enter(Context())
    outcome = await _begun(guard, key, again_s)
    if isinstance(outcome, Replay):
        reply = outcome.reply
    else:
        reply = StoredReply(201, (), b"%d" % await work())
        await outcome.finish(reply)
    print(json.dumps([key, reply.body.decode()]), flush=True)


async def _begun(guard: IdempotencyGuard, key: str, again_s: float) -> Replay | Claim:
    while True:
        try:
            return await guard.begin(key, "orders.place", "same")
        except RequestInProgress:
            await asyncio.sleep(again_s)
