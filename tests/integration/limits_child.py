"""Takes from one cell in every store it is told of, as fast as it can; run by test_limits_fleet.py.

    python limits_child.py TAKES COST ROOM URL…

Writes one line of JSON per store: its decisions, as [admitted, at, ahead]. Starts on a line from stdin.
"""

from __future__ import annotations

import asyncio
import json
import sys

from support.guards import opened


async def main(takes: int, cost: int, room: int, urls: list[str]) -> None:
    for url in urls:
        async with opened(url) as (stores, _):
            limits = stores.limits()
            await limits.take(())
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.readline)

            async def client(mine=limits) -> list[list[int]]:
                log = [await mine.take([("one", cost, room)]) for _ in range(takes // 4)]
                return [[taken.admitted, taken.at_us, taken.ahead_us[0]] for taken in log]

            logs = await asyncio.gather(*(client() for _ in range(4)))
            print(json.dumps([line for log in logs for line in log]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:4]), sys.argv[4:]))
