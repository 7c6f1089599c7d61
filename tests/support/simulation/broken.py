"""Fleets that do not keep a promise, for the judge to notice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tenfold.conformance._altered import Altered, alter
from tenfold.queue.contract import Inbox
from tenfold.schedules.ticker import Ticker

Inbox.register(Altered)  # a changed queue is one still


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Breaks:
    """What is replaced; a sound fleet replaces nothing."""

    name: str = "nothing"
    queue: Callable[[Any], Any] = _same
    handler: Callable[[Any], Any] = _same
    relay: Callable[[Any], Any] = _same
    publish: Callable[[Any], Any] = _same
    ticker: Callable[[Any, Any], Any] = lambda schedules, queue: None


SOUND = Breaks()


def _no_fence(queue: Any) -> Any:
    """Who lost its lease does not hear of it, and commits its effect."""

    async def settle(it: Any, *args: Any) -> set[int]:
        await it.inner.settle(*args)
        return set()

    return alter(queue, settle=settle)


async def _claim_and_acknowledge(it: Any, tx: Any, *args: Any) -> Any:
    from tenfold.queue.message import Settlement

    claimed = await it.inner.claim(tx, *args)
    await it.inner.settle(
        tx, [Settlement(m.id, m.fence, "done") for m in claimed], args[-2], it.memory["keep"]
    )
    return claimed


def _acknowledge_first(queue: Any) -> Any:
    """A message is done before it has run."""
    from tenfold.queue.contract import USUAL_KEEP

    async def settle(it: Any, tx: Any, settlements: Any, *args: Any) -> Any:
        await it.inner.settle(tx, settlements, *args)
        return set()

    changed = alter(queue, claim=_claim_and_acknowledge, settle=settle)
    changed.memory["keep"] = USUAL_KEEP
    return changed


class _Forgetful(Ticker):
    """Every process has ticks of its own: nothing is written down."""

    async def _tick(self, tx: Any, schedule: Any, now: float) -> float:
        every, start = 5.0, getattr(self, "_last", now)
        self._last = start
        while self._last + every <= now:
            self._last += every
            at = self._last // every * every
            self._queue.put_all(tx, [self._queue.message("tick", schedule.name, f'{{"at":{at!r}}}')])
        return self._last + every


def _without_inbox(handler: Any) -> Any:
    """A repeated delivery is handled again."""
    return dataclasses.replace(handler, inbox=False)


def _marks_first(relay: Any) -> Any:
    """Rows are marked as sent before the broker has them."""

    async def turn() -> bool:
        rows = await relay._outbox.unsent(relay._settings.batch)
        if not rows:
            return False
        await relay._declare(rows)
        await relay._outbox.record([row.id for row in rows], {}, relay._clock.now())
        await relay._publish(rows)
        return True

    relay.turn = turn
    return relay


def _backwards(events: Any) -> Any:
    """A batch is published from its end."""
    return list(reversed(events))


def _own_clock(queue: Any) -> Any:
    """What the database's clock says is not heard: each process counts leases and ticks by its own."""

    async def look(it: Any, *args: Any) -> Any:
        return (await it.inner.look(*args))._replace(server_at=None)

    return alter(queue, look=look)


BROKEN = [
    Breaks("no fence", queue=_no_fence),
    Breaks("acknowledged before it ran", queue=_acknowledge_first),
    Breaks("a ticker without its table", ticker=_Forgetful),
    Breaks("no inbox", handler=_without_inbox),
    Breaks("marked before it is confirmed", relay=_marks_first),
    Breaks("published backwards", publish=_backwards),
    Breaks("time by its own clock", queue=_own_clock),
]
