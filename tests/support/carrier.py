"""A process that relays, takes in and handles: :class:`Carrier`.

Failpoints say where it is killed. MODE is ``right``, or how the build is broken: ``mark-first``
marks events as sent before they are, ``acknowledge-first`` tells the broker that it has what it did not write yet, ``no-lines``
lets the events of a key run beside each other.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from support.carried import Carried
from support.forked import Forked
from tenfold._core.failpoints import failpoints
from tenfold.events import intake
from tenfold.events.contract import Incoming
from tenfold.events.intake import Intake
from tenfold.events.outbox import Row
from tenfold.events.relay import Relay
from tenfold.events.tables import outbox

BATCH = 20
"""Small, so that a failpoint is visited more than once."""
LEASE_S = 1.0
"""What a dead process was handling waits for so long."""


class Carrier:
    """Such a process, killed at its ``point`` (``name@visit``) when one is given."""

    def __init__(
        self,
        folder: Path,
        database: str,
        broker: str,
        prefix: str,
        mode: str = "right",
        point: str = "",
        *,
        fails: int = 0,
    ) -> None:
        """``fails``: every such event fails in its first run."""
        name, _, visit = point.partition("@")
        self._process = Forked(
            "support.carrier", str(folder), database, broker, prefix, mode, str(fails),
            failpoints=f"{name}=kill@{visit}" if point else "", app="support.carried",
        )  # fmt: skip

    @property
    def ended(self) -> bool:
        """Whether it is dead. Raises RuntimeError when nobody killed it: a start that failed is no kill, and loses
        nothing."""
        code = self._process.poll()
        if code is None:
            return False
        if code != -signal.SIGKILL:
            raise RuntimeError(f"the carrier ended by itself, with code {code}:\n{self._process.errors()}")
        return True

    def kill(self) -> None:
        """SIGKILL. Idempotent."""
        self._process.kill()
        self._process.wait()


async def main(folder: Path, database: str, broker: str, prefix: str, mode: str, fails: str) -> None:
    if mode == "mark-first":
        break_relay()
    elif mode == "acknowledge-first":
        break_intake()
    elif mode == "no-lines":
        break_lines()
    settings: dict[str, Any] = {"events__prefix": prefix, "events__batch": BATCH, "worker__lease_s": LEASE_S}
    async with Carried(int(fails)).running(folder, database, broker, **settings):
        await asyncio.Event().wait()


# ── broken on purpose ──


def break_relay() -> None:
    """Mark, be killed, publish."""
    right = Relay._publish

    async def publish(self: Relay, rows: Sequence[Row]) -> dict[int, str]:
        await self._outbox.record([row.id for row in rows], {}, self._clock.now())
        failpoints.visit("events.published")
        return await right(self, rows)

    Relay._publish = publish  # type: ignore[method-assign]


def break_intake() -> None:
    """Acknowledge, be killed, write. Killed no sooner than the relay has marked the events: what it has not marked it
    publishes again, and nothing would be lost on a machine where that comes late."""
    right = Intake._store

    async def store(self: Intake, events: Sequence[Incoming]) -> None:
        assert self._consumer is not None
        await self._consumer.acknowledge(events)
        unsent = sa.select(sa.func.count()).where(
            outbox.c.sent_at.is_(None), outbox.c.event_id.in_([event.event_id for event in events])
        )
        while await self._queue.database.read().scalar(unsent):  # noqa: ASYNC110 - the relay tells nobody
            await asyncio.sleep(0.01)
        failpoints.visit("events.taken")
        await right(self, events)

    Intake._store = store  # type: ignore[method-assign]


def break_lines() -> None:
    """The queue takes every event for the only one of its key."""
    numbers = count()
    intake.order_key = lambda subscription, key: f"{subscription} {next(numbers)}"


def child(folder: str, *words: str) -> None:
    asyncio.run(main(Path(folder), *words))
