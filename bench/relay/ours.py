"""Tenfold's outbox and relay, as relay_rounds.py calls them; settings come from the environment.

python ours.py fill N | drain | late RATE SECONDS
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import Any

import msgspec
import sqlalchemy as sa
import uvloop

from tenfold import App, Service, Tx
from tenfold.events.relay import Relay

PER_TX = 1_000
KEYS = 1_000


class Placed(msgspec.Struct):
    """As large as the peers' events: about 100 bytes."""

    number: int
    at: float
    customer: str
    note: str


service = Service("bench")
db = service.database(sa.MetaData())
placed = service.topic("placed", Placed)
app = App("bench", [service])
_late: dict[int, float] = {}
PATIENCE_S = 15.0
"""After the last event was to be published; what is not handled by then counts as late by all the time there was."""


def event(number: int, at: float = 0.0) -> Placed:
    """A numbered event."""
    return Placed(number, at, f"customer-{number % KEYS}", "x" * 40)


async def fill(count: int) -> dict[str, Any]:
    """Publish into the outbox; nothing leaves it."""
    await app.start(worker=False)
    begun = time.perf_counter()
    for start in range(0, count, PER_TX):
        async with db.tx() as tx:
            for number in range(start, min(start + PER_TX, count)):
                await placed.publish(tx, event(number), key=f"k{number % KEYS}")
    seconds = time.perf_counter() - begun
    await app.stop()
    return {"n": count, "seconds": seconds}


async def drain() -> dict[str, Any]:
    """Relay everything to a declared subscription that nobody consumes: what FastStream does, and the outbox. Measured
    from the first mark to the last, the first batch not counted."""
    await app.start(worker=False)
    relays = [part for part in app.assembly.background.events.parts if isinstance(part, Relay)]
    for relay in relays:
        await relay.start()
    cpu = time.process_time()
    left = 1
    while left:
        await asyncio.sleep(0.2)
        left = await db.read().one(sa.text("SELECT count(*) FROM tenfold_outbox WHERE sent_at IS NULL"), int)
    cpu_s = time.process_time() - cpu
    query = "SELECT sent_at, count(*) FROM tenfold_outbox GROUP BY sent_at ORDER BY sent_at"
    for relay in relays:
        await relay.stop()
    rows = await db.read().all(sa.text(query), tuple)
    await app.stop()
    total = sum(count for _, count in rows)
    after = total - rows[0][1]
    return {"n": after, "seconds": rows[-1][0] - rows[0][0], "cpu_us": cpu_s / total * 1e6}


@service.on(placed)
async def handle(event: Placed, tx: Tx) -> None:
    """Notes how long after the moment it was meant to be published it is handled."""
    if event.at:
        _late[event.number] = time.time() - event.at


async def late(rate: float, seconds: float) -> dict[str, Any]:
    """Publish at a rate, whatever becomes of it, each event in its own transaction; worker in the same process."""
    await app.start(worker=True)
    gc.collect()
    gc.freeze()  # as `tenfold run` does once it has started
    await asyncio.sleep(3)  # consumers join
    cpu, count, begun = time.process_time(), int(rate * seconds), time.time() + 0.2
    end = begun + seconds + PATIENCE_S
    tasks = await _publish_all(begun, rate, count)
    await asyncio.wait(tasks, timeout=max(0.0, end - time.time()))
    while len(_late) < count and time.time() < end:  # noqa: ASYNC110 - nobody tells of the last one
        await asyncio.sleep(0.05)
    now, cpu_s, handled = time.time(), time.process_time() - cpu, len(_late)
    # The first fifth warms up. Who is not handled is not left out: that would flatter the others.
    kept = sorted(_late.get(n, now - (begun + n / rate)) for n in range(count // 5, count))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await app.stop()
    return {
        "n": count,
        "handled": handled,
        "cpu_us": cpu_s / count * 1e6,
        "p50": kept[len(kept) // 2] * 1e3,
        "p99": kept[int(len(kept) * 0.99)] * 1e3,
    }


async def _publish_all(begun: float, rate: float, count: int) -> list[asyncio.Task[None]]:
    """Each at its moment, whether or not those before it are through."""
    tasks: list[asyncio.Task[None]] = []
    while len(tasks) < count:
        due = min(count, int((time.time() - begun) * rate) + 1)
        tasks += [asyncio.create_task(_publish(begun + n / rate, n)) for n in range(len(tasks), due)]
        await asyncio.sleep(max(0.0, begun + len(tasks) / rate - time.time()))
    return tasks


async def _publish(at: float, number: int) -> None:
    async with db.tx() as tx:
        await placed.publish(tx, event(number, at), key=f"k{number % KEYS}")


def main() -> None:
    mode, *rest = sys.argv[1:]
    work = {
        "fill": lambda: fill(int(rest[0])),
        "drain": drain,
        "late": lambda: late(float(rest[0]), float(rest[1])),
    }
    gc.freeze()  # as `tenfold run` does once the program is loaded
    print(json.dumps(uvloop.run(work[mode]())))


if __name__ == "__main__":
    main()
