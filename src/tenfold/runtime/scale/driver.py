"""Asks the instances how busy they are, and the scaler how many there are to be.

    numbers = Numbers(clock, token)
    ...every 2 s:
    await numbers.look("web", [("web.1", 9001), ("web.2", 9002)])
    decision = scaler.decide(numbers.samples("web"), low, high, clock.monotonic())

Pages are read in threads of its own, all of a look at the same time and for ``TIMEOUT_S`` at most, so that an instance that
hangs holds up nobody. One that does not answer is missing in the sample, which says so by what it leaves out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from tenfold.runtime.scale.policy import Sample
from tenfold.runtime.scale.signals import Load, Reading, load_between, read, sample_of
from tenfold.telemetry import ops_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenfold._core.clock import Clock

log = logging.getLogger("tenfold.scale")

TIMEOUT_S = 1.5
"""Shorter than the time between two looks."""
KEPT = 64
"""Samples of a role."""
THREADS = 32
"""Made as they are needed: so many instances may hang, and the others are still heard."""


class Asked(NamedTuple):
    """One instance: its name, and the port of its operations listener."""

    name: str
    ops_port: int


def _ask(url: str, token: str) -> ops_client.Answer:
    return ops_client.ask(url, token, timeout_s=TIMEOUT_S)


class Numbers:
    """What the instances of a fleet said lately. One per supervisor; :meth:`close` at its end.

    ``ask`` is how a page is fetched: URL and token in, answer out; it may block.
    """

    def __init__(
        self,
        clock: Clock,
        token: str = "",
        *,
        host: str = "127.0.0.1",
        ask: Callable[[str, str], ops_client.Answer] = _ask,
    ) -> None:
        self._clock, self.token, self._host, self._ask = clock, token, host, ask
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="tenfold-scale")
        self._readings: dict[str, Reading] = {}
        self._samples: dict[str, deque[Sample]] = {}
        self._underway: set[str] = set()
        self._silent: set[str] = set()

    def samples(self, role: str) -> Sequence[Sample]:
        """The latest, in the order of their times."""
        return tuple(self._samples.get(role, ()))

    async def look(self, role: str, ready: Iterable[tuple[str, int]]) -> None:
        """Ask the ready instances of ``role``, and keep a sample if enough of them answer. Raises nothing: what goes
        wrong is logged once, until it goes right."""
        asked = [Asked(name, port) for name, port in ready]
        known = sum(
            one.name in self._readings for one in asked
        )  # a newcomer says something from its second page on
        loads = await asyncio.gather(*(self._load(one) for one in asked))
        self._forget(role, {one.name for one in asked})
        sample = sample_of([load for load in loads if load is not None], known, self._clock.monotonic())
        if sample is not None:
            self._samples.setdefault(role, deque(maxlen=KEPT)).append(sample)

    def close(self) -> None:
        """Threads that still wait for an answer end with it."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _load(self, one: Asked) -> Load | None:
        page = await self._page(one)
        if page is None:
            return None
        after = read(page, self._clock.monotonic())
        before, self._readings[one.name] = self._readings.get(one.name), after
        return None if before is None else load_between(before, after)

    async def _page(self, one: Asked) -> str | None:
        """None where it does not come in time. One that hangs is not asked again until its thread is back."""
        if one.name in self._underway:
            return None
        self._underway.add(one.name)
        url = f"http://{self._host}:{one.ops_port}/metrics"
        asking = self._threads.submit(self._ask, url, self.token)
        loop = asyncio.get_running_loop()
        asking.add_done_callback(lambda _: _on(loop, self._underway.discard, one.name))
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await asyncio.wrap_future(asking)
        except (OSError, ValueError) as error:
            self._tell(one, str(error) or "it did not answer in time")
            return None
        if answer.status != 200:
            self._tell(one, f"it answered {answer.status}")
            return None
        self._silent.discard(one.name)
        return answer.body.decode(errors="replace")

    def _tell(self, one: Asked, why: str) -> None:
        if one.name not in self._silent:
            self._silent.add(one.name)
            log.warning("no numbers of %s: %s", one.name, why)

    def _forget(self, role: str, there: set[str]) -> None:
        """Names come back with other processes, whose counters begin anew."""
        gone = {name for name in self._readings if name.rpartition(".")[0] == role and name not in there}
        for name in gone:
            del self._readings[name]
            self._silent.discard(name)


def _on(loop: asyncio.AbstractEventLoop, do: Callable[[str], None], name: str) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(do, name)
