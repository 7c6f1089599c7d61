"""A worker process for fault tests: ``Forked("support.queue_worker", FOLDER, DATABASE, MODE, LEASE_S, *FLAGS)``.

MODE is ``right``, or how the build is broken: ``ack-first`` acknowledges before the effect, ``ack-later``
commits the effect by itself and acknowledges afterwards, ``unfenced`` does not look whether the lease is held,
``no-rescue`` leaves to nobody what a dead worker held,
``no-inbox`` does not look whether the event was handled before, ``cursor`` claims only what comes after the last
id it has seen, ``no-hold`` moves the line of a key on without holding the key.
FLAGs: ``quarantine`` gives up on messages that kill their worker, as without this harness; ``silent`` sends no
heartbeats, so that only the fence can tell that a lease is lost; ``wide`` handles many messages at a time;
``linger=N`` has one in N jobs stay where a kill does most; ``skew=SECONDS`` is by how much its clock is wrong. The mode ``ticks`` has a schedule too, and ``every-ticks`` one that
does not look whether another instance has made the tick.
On SIGTERM it drains and prints its counters as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from support.queues import Rig, counters, effects, rig
from tenfold._core.clock import SystemClock
from tenfold.db import Tx
from tenfold.events import Subscription, Topic
from tenfold.jobs import Job, current_job
from tenfold.queue import outcome
from tenfold.queue.contract import Keep
from tenfold.queue.keeper import Keeper
from tenfold.queue.message import Message
from tenfold.queue.runner import Runner
from tenfold.queue.runs import Runs
from tenfold.schedules import Schedule, Tick, Ticker

CONCURRENCY = 8
"""Messages that a worker handles at a time."""
WIDE = 100
"""The same with the flag ``wide``."""
WORK_S = 0.02
LINGER_S = 20.0
REDELIVERED = 5
"""Every so many are delivered twice."""
LINGERING = 50
"""Every so many jobs, one stays in its first run where a kill does most, and says so in a file."""

held: dict[str, Any] = {}
add = sa.insert(effects)
count = sa.update(counters).where(counters.c.id == sa.bindparam("which")).values(value=counters.c.value + 1)


async def linger(n: int) -> None:
    if n % held.get("lingering", LINGERING) == 0 and current_job().attempt == 1:
        folder: Path = held["folder"]
        (folder / f"lingers-{os.getpid()}").touch()
        await asyncio.sleep(LINGER_S)
    else:
        await asyncio.sleep(WORK_S)


async def record(n: int, tx: Tx) -> None:
    """The right way: effect and acknowledgement in one transaction."""
    await asyncio.sleep(WORK_S)
    await tx.execute(add, what=str(n))
    await linger(n)


async def record_ack_first(n: int) -> None:
    r: Rig = held["rig"]
    async with r.db.tx() as tx:
        done = outcome.done(current_job()._message)
        await r.queue.backend.settle(tx, [done], r.clock.now(), Keep(600, 600))
    await linger(n)
    async with r.db.tx() as tx:
        await tx.execute(add, what=str(n))


async def record_ack_later(n: int) -> None:
    r: Rig = held["rig"]
    async with r.db.tx() as tx:
        await tx.execute(add, what=str(n))
    await linger(n)


async def gated(n: int, tx: Tx) -> None:
    """Says that it has started and, in its first run, waits for a file before its effect."""
    folder: Path = held["folder"]
    attempt = current_job().attempt
    (folder / f"started-{n}-{attempt}").touch()
    if attempt == 1:
        while not (folder / "go").exists():  # noqa: ASYNC110 - another process makes the file
            await asyncio.sleep(0.01)
        (folder / f"goes-on-{n}").touch()
    await tx.execute(add, what=f"{n} by attempt {attempt}")


async def crash(how: str) -> None:
    """Ends its worker: by itself, as the kernel does that is out of memory, or by a mistake in native code."""
    if how == "exit":
        os._exit(3)
    if how == "memory":
        os.kill(os.getpid(), signal.SIGKILL)
    import ctypes

    ctypes.string_at(0)


async def tick(tick: Tick, tx: Tx) -> None:
    """Writes which tick it is, and by how much it is late on the database's clock."""
    now = held["rig"].queue.now()
    await tx.execute(add, what=f"{tick.at.timestamp():.0f} {now - tick.at.timestamp():.3f}")


class Skewed(SystemClock):
    """A machine whose clock is wrong."""

    def __init__(self, by_s: float) -> None:
        super().__init__()
        self.now = lambda: time.time() + by_s


async def innocent(n: int, tx: Tx) -> None:
    await asyncio.sleep(0.005)
    await tx.execute(add, what=str(n))


async def bump(n: int, tx: Tx) -> None:
    """Those that are to be handed out again while they run take longer in their first run."""
    await asyncio.sleep(0.8 if n % REDELIVERED == 0 and current_job().attempt == 1 else 0.005)
    await tx.execute(count, which=n)


class Counted(msgspec.Struct):
    n: int


counted = Topic("s", "counted", Counted)


async def bump_by_event(event: Counted, tx: Tx) -> None:
    await tx.execute(count, which=event.n)


def jobs(mode: str) -> dict[str, Any]:
    fn = {"ack-first": record_ack_first, "ack-later": record_ack_later}.get(mode, record)
    return {
        "record": Job("s", fn, name="record"),
        "gated": Job("s", gated),
        "crash": Job("s", crash),
        "innocent": Job("s", innocent),
        "bump": Job("s", bump),
        "by_event": Subscription("s", counted, bump_by_event),
        **({"tick": Schedule("s", tick, 1.0, missed="all")} if "ticks" in mode else {}),
    }


async def main(folder: Path, database: str, mode: str, lease_s: float, flags: Sequence[str]) -> None:
    if "silent" in flags:
        pytest.MonkeyPatch().setattr(Keeper, "beat", no_beat)
    if "quarantine" not in flags:
        for bound in ("CRASHES_MAX", "CRASHES_UNTIL_SUSPECT"):
            pytest.MonkeyPatch().setattr(outcome, bound, 10**6)
    for flag in flags:
        if flag.startswith("linger="):
            held["lingering"] = int(flag.removeprefix("linger="))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    clock = Skewed(sum(float(flag.removeprefix("skew=")) for flag in flags if flag.startswith("skew=")))
    async with rig(folder, *jobs(mode).values(), clock=clock, database=database, make=False) as r:
        held["rig"], held["folder"] = r, folder
        break_build(r, mode)
        worker = r.worker(
            settings={
                "lease_s": lease_s,
                "concurrency": WIDE if "wide" in flags else CONCURRENCY,
                "poll_s": 0.1,
            }
        )
        await worker.start()
        (folder / f"works-{os.getpid()}").touch()
        await stop.wait()
        await worker.stop()
        print(json.dumps(worker.stats()))


# ── broken on purpose ──


def break_build(r: Rig, mode: str) -> None:
    """Make the build wrong as ``mode`` says."""
    patch = pytest.MonkeyPatch()  # never undone: the process is the build
    if mode == "unfenced":
        patch.setattr(Runner, "_acknowledge_last", unfenced)
        patch.setattr(Runs, "interrupt", unless_lost(Runs.interrupt))
    elif mode == "no-inbox":
        patch.setattr(Runner, "_is_new", always_new)
    elif mode == "no-rescue":
        patch.setattr(r.queue.backend, "expired", none_expired)
    elif mode == "every-ticks":
        patch.setattr(Ticker, "_tick", tick_whoever_has)
    elif mode == "cursor":
        patch.setattr(r.queue.backend, "claim", only_newer(r.queue.backend.claim))
    elif mode == "no-hold":
        patch.setattr(r.queue.backend, "_hold", hold_nothing)
        patch.setattr(r.queue.backend, "hold_keys", hold_no_key)
        for name in ("FINISH", "FINISH_DONE"):  # PostgreSQL holds in the statement that finishes
            holding = vars(vars(type(r.queue.backend))["sql"])
            if name in holding:
                without = re.sub(r"pg_advisory_xact_lock\(\d+, bucket\)", "bucket", holding[name].text)
                holding[name] = sa.text(without)


def unfenced(self: Runner, tx: Tx, settlement: Any) -> bool:
    async def settle(tx: Tx) -> None:
        await self.queue.backend.settle(tx, (settlement,), self._clock.now(), self.keep)

    tx.before_commit(settle)
    return True


def unless_lost(interrupt: Callable[..., None]) -> Any:
    def interrupt_others(self: Runs, run: Any, reason: str) -> None:
        if reason != "lost":
            interrupt(self, run, reason)

    return interrupt_others


async def no_beat(self: Keeper) -> None: ...


async def hold_no_key(tx: Tx, keys: Sequence[str]) -> None: ...


async def none_expired(tx: Tx, now: float, limit: int) -> list[Any]:
    return []


async def tick_whoever_has(self: Any, tx: Tx, schedule: Schedule, now: float) -> float:
    """In place of a ticker's ``_tick``: it does not look whether another instance has made the tick."""
    at = float(int(now))
    self._queue.put(tx, self._queue.message("tick", schedule.name, f'{{"at":{at!r}}}', queue=schedule.queue))
    return at + 1.0


async def always_new(self: Runner, run: Any, tx: Tx) -> bool:
    return True


def only_newer(claim: Callable[..., Awaitable[list[Message]]]) -> Any:
    """As if it claimed what comes after the last id it has seen."""
    seen = 0

    async def claim_newer(*args: Any) -> list[Message]:
        nonlocal seen
        messages = await claim(*args)
        newer = [message for message in messages if message.id > seen]
        seen = max([seen, *(message.id for message in newer)])
        return newer

    return claim_newer


async def hold_nothing(tx: Tx, space: str, names: Any) -> str:
    """In place of a backend's ``_hold``: nobody waits for anybody."""
    return "read committed"


def child(folder: str, database: str, mode: str, lease_s: str, *flags: str) -> None:
    asyncio.run(main(Path(folder), database, mode, float(lease_s), flags))
