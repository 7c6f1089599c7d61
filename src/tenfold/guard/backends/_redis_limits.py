"""Rate limits in Redis: one script per check, which leaves with all other commands of the moment."""

from __future__ import annotations

from collections.abc import Sequence

from tenfold.guard.backends._redis_connection import Connection
from tenfold.guard.backends._redis_scripts import GIVE_BACK, TAKE
from tenfold.guard.gcra import Cell, Taken
from tenfold.guard.leasing import Unused
from tenfold.guard.limits import LimitStore


class RedisLimits(LimitStore):
    """Exact over all processes; cells that are used up again vanish by themselves."""

    shared = True
    bounded = True
    gives_back = True

    def __init__(self, connection: Connection) -> None:
        self._redis = connection

    async def take(self, cells: Sequence[Cell]) -> Taken:
        keys = [self._redis.name("limit", key) for key, _, _ in cells]
        numbers = [number for _, cost, room in cells for number in (cost, room)]
        admitted, at_us, *ahead = await self._redis.run(TAKE, keys, *numbers)
        return Taken(admitted == 1, at_us, tuple(ahead))

    async def prune(self, limit: int) -> int:
        return 0

    async def give_back(self, unused: Sequence[Unused]) -> int:
        keys = [self._redis.name("limit", each.key) for each in unused]
        numbers = [number for each in unused for number in (each.end_us, each.unused_us)]
        moved: int = await self._redis.run(GIVE_BACK, keys, *numbers)
        return moved
