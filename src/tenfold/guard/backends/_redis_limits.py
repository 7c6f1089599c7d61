"""Rate limits in Redis: one script per check, which leaves with all other commands of the moment."""

from __future__ import annotations

from collections.abc import Sequence

from tenfold.guard.backends._redis_connection import Connection
from tenfold.guard.backends._redis_scripts import TAKE
from tenfold.guard.gcra import Cell, Taken
from tenfold.guard.limits import LimitStore


class RedisLimits(LimitStore):
    """Exact over all processes; cells that are used up again vanish by themselves."""

    shared = True
    bounded = True

    def __init__(self, connection: Connection) -> None:
        self._redis = connection

    async def take(self, cells: Sequence[Cell]) -> Taken:
        keys = [self._redis.name("limit", key) for key, _, _ in cells]
        numbers = [number for _, cost, room in cells for number in (cost, room)]
        admitted, at_us, *ahead = await self._redis.run(TAKE, keys, *numbers)
        return Taken(admitted == 1, at_us, tuple(ahead))

    async def prune(self, limit: int) -> int:
        return 0
