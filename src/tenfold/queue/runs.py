"""The messages that one worker holds: waiting for a slot, running, or ended and not yet recorded."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from tenfold._core.time_limits import TimeLimits
from tenfold.queue import outcome, policy
from tenfold.queue.context import Holder, JobContext
from tenfold.queue.lanes import WHOLE, Lanes, bare
from tenfold.queue.message import FINISHED
from tenfold.queue.runner import Run, Runner, stopped

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.queue.handler import Handler
    from tenfold.queue.message import Message, Settlement
    from tenfold.queue.options import QueueOptions

log = logging.getLogger("tenfold.queue")

_AVERAGE_WEIGHT = 0.05


class Observer(Protocol):
    """Told about every message that ended here (metrics, traces)."""

    def settled(self, run: Run, verdict: str, seconds: float, error: str) -> None:
        """``verdict`` is that of the settlement, or ``lost``; ``seconds`` is how long it ran; ``error`` says what it failed
        of, if it did."""
        ...


class Runs:
    """See the module's docstring. ``changed`` is called when something has ended; ``blocking`` says whether it
    may have been in the way of other messages (a concurrency limit, a key). ``ended`` is called with the group of
    jobs that have an end, and how many these are, once that is committed. ``queues`` may have limits too."""

    def __init__(
        self,
        runner: Runner,
        handlers: Mapping[str, Handler],
        clock: Clock,
        concurrency: int,
        changed: Callable[[bool], None],
        observer: Observer | None,
        ended: Callable[[str, int], None] | None = None,
        queues: Mapping[str, QueueOptions] | None = None,
        lanes: Lanes = WHOLE,
    ) -> None:
        self._runner = runner
        self._handlers = handlers
        self._clock = clock
        self._concurrency = concurrency
        self._changed, self._lanes = changed, lanes
        self._observer = observer
        self._ended = ended
        self._limited = {name: said.lane for name, said in (queues or {}).items() if said.limited}
        self._groups: dict[int, str] = {}
        """Of the messages whose end is not recorded yet."""
        self.held: dict[int, Run] = {}
        """Waiting and running, by message id."""
        self.waiting: deque[Run] = deque()
        self.running = 0
        self.ended = 0
        """Runs that have come to an end here, whichever."""
        self.outbox: list[Settlement] = []
        self.progress: dict[int, str] = {}
        """Reported since the last heartbeat."""
        self.average_s = 2 * policy.FAST_S
        self.counts = dict.fromkeys(
            ("claimed", "done", "retry", "wait", "dead", "cancelled", "park", "release", "crash", "lost"), 0
        )
        self.lag_s = 0.0
        self._limits: TimeLimits[Run] = TimeLimits(lambda run: self.interrupt(run, "late"))

    def accept(self, messages: Iterable[Message], holder: Holder, causal: str = "") -> None:
        """Take over claimed messages and start as many as there are slots for. ``causal`` is the token of the claim,
        which comes after all that the messages' senders had written."""
        for message in messages:
            self._accept(message, holder, causal)
        self.begin()

    def _accept(self, message: Message, holder: Holder, causal: str) -> None:
        self.counts["claimed"] += 1
        self.lag_s = max(0.0, self._clock.now() - message.run_at)
        handler = self._handlers.get(message.handler)
        if handler is None and (right := self._lanes.astray(message.handler, message.lane)):
            self._post(outcome.moved(message, right))  # for another process
            return
        if handler is None:
            reason = f"no {message.kind} named {message.handler!r} exists in the code that is running"
            log.warning(
                "message %d is parked: %s",
                message.id,
                reason,
                extra={"event": "queue.parked", "handler": message.handler, "message_id": message.id},
            )
            self._post(outcome.parked(message, reason))
            return
        if not bare(message.lane) and (lane := handler.lane or self._limited.get(message.queue)):
            # its limit is younger than the message
            self._post(outcome.moved(message, self._lanes.of(message.handler, lane)))
            return
        if (older := self.held.get(message.id)) is not None:
            self.interrupt(older, "lost")  # this process was stopped until its own lease ran out
        run = Run(message, handler, JobContext(message, holder, self._clock), causal)
        self.held[message.id] = run
        self.waiting.append(run)

    def begin(self) -> None:
        """Start what waits, as far as there are slots."""
        while self.waiting and self.running < self._concurrency:
            run = self.waiting.popleft()
            if not run.stop:
                self.running += 1
                run.task = asyncio.create_task(self._run(run))

    def interrupt(self, run: Run, stop: str, reason: str = "") -> None:
        """Tell a run to stop; one that has not begun is concluded here. ``reason`` is who wants it, and why."""
        if run.stop:
            return
        run.stop = stop
        run.reason = reason or run.reason
        if stop == "cancelled":
            run.context.mark_cancelled()
        if run.task is not None:
            run.task.cancel()
        if run.begun_at is not None:
            return
        self.running -= run.task is not None
        self._forget(run)
        if (settlement := stopped(run)) is not None:
            self._post(settlement)

    def give_back_waiting(self, queues: Collection[str] | None = None) -> None:
        """Release what was claimed and has not begun: all of it, or that of some queues."""
        if queues is not None and not queues:
            return
        for run in list(self.waiting):
            if queues is None or run.message.queue in queues:
                self.interrupt(run, "drain")
                self.waiting.remove(run)

    def abandon(self) -> None:
        """Release what does not end although it was cancelled; its fence keeps it from committing."""
        self.outbox += [outcome.released(run.message) for run in self.held.values()]

    def count(self, settlements: Sequence[Settlement], lost: set[int]) -> None:
        """Count what was recorded, and tell of members of groups that have ended."""
        for settlement in settlements:
            self.counts["lost" if settlement.id in lost else settlement.verdict] += 1
        if self._groups and self._ended is not None:
            groups = Counter(self._groups.pop(settlement.id, "") for settlement in settlements)
            del groups[""]
            for group, members in groups.items():
                self._ended(group, members)

    async def _run(self, run: Run) -> None:
        run.begun_at = self._clock.monotonic()
        if (limit_s := self._runner.left_s(run)) is not None:
            self._limits.add(run, limit_s)
        try:
            settlement = await self._runner.run(run)
        finally:
            self.running -= 1
            self.ended += 1
            self._limits.remove(run)
            self._forget(run)
        self._conclude(run, settlement, self._clock.monotonic() - run.begun_at)

    def _conclude(self, run: Run, settlement: Settlement | None, seconds: float) -> None:
        self.average_s += _AVERAGE_WEIGHT * (seconds - self.average_s)
        progress = self.progress.pop(run.message.id, None) if self.progress else None
        if settlement is not None:
            settlement.progress = progress
            verdict: str = settlement.verdict
            self.outbox.append(settlement)
            if (group := run.message.group) is not None and verdict in FINISHED:
                self._groups[settlement.id] = group
        else:
            verdict = "lost" if run.recorded is None else run.recorded.verdict
            self.counts[verdict] += 1
            if (group := run.message.group) is not None and verdict in FINISHED and self._ended is not None:
                self._ended(group, 1)
        if self._observer is not None:
            error = None if settlement is None else settlement.error
            self._observer.settled(run, verdict, seconds, error or "")
        self.begin()
        message = run.message
        waited_for = message.order_key is not None and (run.recorded is None or run.recorded.frees)
        self._changed(waited_for or bool(bare(message.lane)) or message.queue in self._limited)

    def _forget(self, run: Run) -> None:
        if self.held.get(run.message.id) is run:
            del self.held[run.message.id]

    def _post(self, settlement: Settlement) -> None:
        self.outbox.append(settlement)
        self._changed(True)
