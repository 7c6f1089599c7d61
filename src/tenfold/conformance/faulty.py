"""Backends that fail on purpose: seeded faults for whoever uses a backend, broken variants for whoever judges one.

* :func:`troubled` wraps any backend. Its calls are delayed, dropped, done twice, or overtaken by the next one, as
  a seed says; the same seed gives the same faults for the same calls.
* :class:`Broken` is one way not to keep a contract, and the test of its suite that must notice. The lists are
  :data:`DATABASE`, :data:`EVENTSTORE`, :data:`QUEUE`, :data:`BROKER`, :data:`CACHE`, :data:`LIMITS`, :data:`LEASES`, :data:`IDEMPOTENCY` and
  :data:`SESSIONS`. A suite that lets one of them pass is no suite.

:mod:`~tenfold.conformance.convicting` tries them on your backend.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tenfold.conformance._altered import Broken, alter
from tenfold.conformance._broken_brokers import BROKER
from tenfold.conformance._broken_database import DATABASE
from tenfold.conformance._broken_eventstore import EVENTSTORE
from tenfold.conformance._broken_queue import QUEUE
from tenfold.conformance._broken_stores import CACHE, IDEMPOTENCY, LEASES, LIMITS, SESSIONS

__all__ = [
    "BROKER", "CACHE", "DATABASE", "EVENTSTORE", "IDEMPOTENCY", "LEASES", "LIMITS", "QUEUE", "SESSIONS", "Broken", "Faults",
    "alter", "troubled",
]  # fmt: skip


class Faults:
    """Which calls are in trouble. The shares are between 0 and 1; ``counts`` says what happened.

    * ``delay``: the call begins up to ``delay_s`` later.
    * ``drop``: it is not made, and answered as if it had been (see ``answers`` of :func:`troubled`).
    * ``duplicate``: it is made twice; the second answer counts.
    * ``reorder``: it is answered as if made, and made after the next call.
    * ``fail``: it is made, and raises ``error()`` nevertheless: done, but reported failed.
    """

    def __init__(
        self,
        seed: int,
        *,
        delay: float = 0.0,
        drop: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        fail: float = 0.0,
        delay_s: float = 0.005,
        error: Callable[[], Exception] = lambda: ConnectionResetError("the connection broke"),
    ) -> None:
        self._random = random.Random(seed)
        self._shares = {"drop": drop, "duplicate": duplicate, "reorder": reorder, "fail": fail}
        self._delay, self._delay_s = delay, delay_s
        self.error = error
        self.counts = dict.fromkeys(("delay", *self._shares), 0)

    def pause_s(self) -> float:
        """How long the call at hand is delayed."""
        if self._random.random() >= self._delay:
            return 0.0
        self.counts["delay"] += 1
        return self._random.uniform(0, self._delay_s)

    def strike(self) -> str:
        """What happens to the call at hand: the name of a fault, or an empty string."""
        dice = self._random.random()
        for name, share in self._shares.items():
            if dice < share:
                self.counts[name] += 1
                return name
            dice -= share
        return ""


def troubled(inner: Any, faults: Faults, answers: Mapping[str, Any]) -> Any:
    """``inner`` with ``faults`` in its coroutine methods that ``answers`` names; the value is the answer of a call
    that is dropped or overtaken, or a function of its arguments that makes one."""
    late: list[Callable[[], Awaitable[Any]]] = []

    def trouble(name: str) -> Callable[..., Any]:
        async def call(it: Any, *args: Any, **kw: Any) -> Any:
            async def make() -> Any:
                return await getattr(it.inner, name)(*args, **kw)

            await asyncio.sleep(faults.pause_s())
            fault = faults.strike()
            if fault in ("drop", "reorder"):
                if fault == "reorder":
                    late.append(make)
                answer = answers[name]
                return answer(*args, **kw) if callable(answer) else answer
            answer = await make()
            if fault == "duplicate":
                answer = await make()
            while late:
                await late.pop(0)()
            if fault == "fail":
                raise faults.error()
            return answer

        return call

    return alter(inner, **{name: trouble(name) for name in answers})
