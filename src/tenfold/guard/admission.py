"""Who is let in, waits at the door, or is told 503: the overload control of one instance.

Refusing is the cheapest answer there is, so it comes first. So many requests run as the instance can serve in time
(:mod:`tenfold.guard.shedding.limit`); a few wait (:mod:`tenfold.guard.shedding.line`); the rest are refused at once,
the least urgent first:

    place = admission.enter(priority) or await admission.wait(priority)    # raises Overloaded (503), Retry-After
    try: ...
    finally: admission.leave(place)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from tenfold._core.context import Priority
from tenfold.errors import ConfigError, Overloaded
from tenfold.guard.shedding.limit import FixedLimit, LearnedLimit, Limit
from tenfold.guard.shedding.line import LEAD_MAX, Line, Place
from tenfold.guard.shedding.observation import Observation, Station

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.fairness import WeightOf

log = logging.getLogger("tenfold.admission")

RETRY_AFTER_S = 1
EPOCH_S = 0.1
"""Who has been in progress for one to two of these, and for many times what the queues inside take, is waiting for
something outside."""
EPOCH_WAITS = 8
SHARES = (2.0, 1.0, 0.9, 0.5)
"""Of the limit, by priority: how many may be in progress for one more of that priority to enter. Critical work goes
beyond it, so that it never waits for places that others hold."""

Epoch = list[int]
"""How many of those that entered in one stretch of time are still in progress. A list of one number, because the
endpoints' generated code counts in it without a call."""
Turn = asyncio.Future[Epoch]


class Admission:
    """One per process; used on one event loop.

    ``limit`` decides how many run; ``most`` bounds everybody in progress, also those that only wait for something
    outside. ``waiting_max`` wait, for ``wait_s`` seconds at most. The counts are plain attributes, to be read at any
    time. The endpoints' generated code does what :meth:`enter` and :meth:`leave` do, without the calls.

    Between critical and the other priorities: whoever is more urgent takes the next place, and under overload the
    place of the less urgent in line.
    """

    __slots__ = (
        "_before",
        "_bound",
        "_cpu_others_s",
        "_epoch_began",
        "_limit",
        "_loop",
        "_monotonic",
        "_most",
        "_observation",
        "_others_s",
        "_parked",
        "_set_by_hand",
        "_told",
        "admitted",
        "epoch",
        "in_flight",
        "line",
        "over_share",
        "pressure",
        "refused",
        "rooms",
    )

    def __init__(
        self,
        limit: Limit,
        clock: Clock,
        *,
        most: int | None = None,
        waiting_max: int = 0,
        wait_s: float = 0.5,
        weight_of: WeightOf | None = None,
        others_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        if limit.value < 1 or waiting_max < 0 or wait_s <= 0:
            raise ConfigError(
                f"limit={limit.value}, waiting_max={waiting_max}, wait_s={wait_s:g} admit nobody.",
                where="admission",
                remedy="At least one must run, none or more may wait, and for longer than 0 s.",
            )
        self._limit = limit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._set_by_hand: Limit | None = None
        self._monotonic = clock.monotonic
        self._most = most
        self._others_s = others_s
        self._cpu_others_s = others_s()
        self.line: Line[Turn] = Line(waiting_max, wait_s, weight_of)
        self.in_flight = 0
        self.admitted = 0
        self.refused = [0] * len(Priority)
        """By priority."""
        self.over_share = 0
        """Of those, the ones whose tenant had had more than its share."""
        self.rooms = [0] * len(Priority)
        """By priority: who finds as many in progress does not enter."""
        self.pressure = 0.0
        """From 0 (idle) to 1 (requests are refused): how much other work should hold back."""
        self.epoch: Epoch = [0]
        self._before: Epoch = [0]
        self._epoch_began = clock.monotonic()
        self._parked = 0
        self._bound = False
        self._told = False
        self._observation = Observation(self._epoch_began)
        self._arrange()

    # ── what it tells ──

    @property
    def limit(self) -> int:
        """How many may run now."""
        return self._now().value

    @property
    def learned(self) -> bool:
        """Whether the limit is learned, and not a number somebody chose."""
        return self._now().learned

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return self.line.size

    @property
    def parked(self) -> int:
        """How many in progress wait for something outside, and so take no place."""
        return self._parked

    @property
    def overloaded(self) -> bool:
        """Whether the line stands, so that it is short and its newest are served first."""
        return self.line.overloaded

    # ── changes at run time ──

    def set_limit(self, limit: int | None) -> None:
        """So many run from now on, and nothing is learned; None: as it was configured. Raises ConfigError."""
        if limit is not None and limit < 1:
            raise ConfigError(
                f"{limit} admit nobody.", where="http.concurrency", remedy="Let at least 1 run."
            )
        self._set_by_hand = None if limit is None else FixedLimit(limit)
        self._arrange()
        self.hand_on()

    def add_station(self, station: Station) -> None:
        """Learn from that line inside the instance, too."""
        self._observation.add_station(station)

    # ── who comes and goes ──

    def enter(self, priority: int = Priority.DEFAULT) -> Epoch | None:
        """Enter if there is room and nobody waits. Who got an epoch gives it to :meth:`leave` at the end."""
        if self.in_flight >= self.rooms[priority] or (self.line.size and priority):
            return None
        return self._let_in()

    async def wait(self, priority: int = Priority.DEFAULT, share: str = "") -> Epoch:
        """Enter when it is our turn; then :meth:`leave` is due. ``share``: between whom turns are fair.

        Raises Overloaded (503, with Retry-After) when the line is full or the turn does not come in time.
        """
        return await self.turn(self.stand(priority, share))

    def stand(self, priority: int, share: str = "") -> Place[Turn]:
        """Stand in line now, and wait later: :meth:`turn` or :meth:`give_up` is due."""
        loop = self._loop
        if loop is None or loop.is_closed():  # kept, since asking for the running one costs a system call
            loop = self._loop = asyncio.get_running_loop()
        return self.queue_up(loop.create_future(), priority, share)

    async def turn(self, place: Place[Turn]) -> Epoch:
        """What :meth:`wait` does, for who stands in line already."""
        try:
            return await place.turn
        except asyncio.CancelledError:
            self.give_up(place)
            raise

    def give_up(self, place: Place[Turn]) -> None:
        """Nobody waits there any more."""
        turn = place.turn
        if turn.cancel() or turn.cancelled():
            self.line.discard(place)
        elif turn.exception() is None:
            self.leave(turn.result())  # it came in the very moment we gave up: pass it on

    def queue_up(self, turn: Turn, priority: int, share: str = "") -> Place[Turn]:
        """Give ``turn`` its place, now or when it comes, or the refusal."""
        self._bound = True
        now = self._monotonic()
        place = Place(turn, priority, share, now)
        if not self.line.size and self.in_flight < self.rooms[priority]:
            place.gone = True
            turn.set_result(self._let_in())
            return place
        displaced = self.line.add(place, self.limit)
        if displaced is not None:
            self._send_away(displaced, now)
        return place

    def leave(self, epoch: Epoch) -> None:
        """The work ended: the next in line takes the place."""
        epoch[0] -= 1
        self.in_flight -= 1
        if self.line.size:
            self.hand_on()

    # ── refusing ──

    def full(self, priority: int, share: str | None = None) -> bool:
        """Whether one more of that priority would be refused at once, without standing in line. One whose ``share`` is
        known may stand there in the place of another's that has many."""
        return (self.in_flight >= self.rooms[priority] or self.line.size > 0) and not self.line.takes(
            priority, self.limit, share
        )

    def settle(self, priority: int, guessed: str, share: str) -> None:
        """One that waited as ``guessed`` belongs to ``share``, as authentication has found. Raises Overloaded when that
        has had more than its share while others wait: by the credentials nobody knew yet, the line could not tell."""
        if self.line.settle(priority, guessed, share):
            return
        self.over_share += 1
        self.refused[priority] += 1
        raise Overloaded(
            "This instance is full, and your tenant has had more than its share of it while others wait; try again in "
            "a moment.",
            headers={"Retry-After": str(RETRY_AFTER_S)},
            limit="fair share",
            value=LEAD_MAX,
            priority=Priority(priority).name.lower(),
        )

    def count_refusal(self, priority: int) -> None:
        """Somebody was refused at the door."""
        self._bound = True
        self.refused[priority] += 1
        self.line.refused(self._monotonic())

    def refusal(self, priority: int) -> Overloaded:
        """What who is not let in is told."""
        how = "as many as it can serve in time" if self.learned else "as was set"
        limit, name = self.limit, Priority(priority).name.lower()
        return Overloaded(
            f"This instance runs {limit} requests at a time, {how}, and is full; try again in a moment.",
            headers={"Retry-After": str(RETRY_AFTER_S)},
            limit="http.concurrency",
            value=limit,
            priority=name,
        )

    # ── learning ──

    def observe(self, now: float, wait_s: float) -> None:
        """A probe stood in the event loop's queue for so long. To be called some hundred times a second while there
        is work: it also ends the patience of those in line."""
        observation = self._observation
        observation.probe(wait_s, self._now().tolerance_s)
        # Where the instance is idle, or busy with nothing that ends, a learned limit is about to rise; of one that
        # somebody chose, the line tells.
        idle = self.learned and (observation.idle or not observation.ended(self.admitted - self.in_flight))
        for place in self.line.late(now, idle=idle):
            self._send_away(place, now)
        if self.overloaded is not self._told:
            self._tell()
        observation.count(self.in_flight - self._parked)
        if now - self._epoch_began >= max(EPOCH_S, EPOCH_WAITS * observation.wait_s):
            self._turn_epoch(now)
        if observation.full(now, waiting=self.line.size > 0):
            self._learn(now)

    def _learn(self, now: float) -> None:
        others, self._cpu_others_s = self._cpu_others_s, self._others_s()
        window = self._observation.take(
            now, self.admitted - self.in_flight, self._bound, self._cpu_others_s - others
        )
        self._limit.update(window)
        self._bound = False
        if window.completed:
            self.line.service_s = window.latency_s
        busy = 1 - window.free / window.probes
        self.pressure = 1.0 if self.overloaded else busy * min(1.0, window.active / self.limit)
        self._arrange()
        self.hand_on()

    def _turn_epoch(self, now: float) -> None:
        """Those of two epochs ago that stand in no queue inside wait for something outside."""
        self._epoch_began = now
        young = self._before[0] + self.epoch[0]
        self._before, self.epoch = self.epoch, [0]
        if self._now().learned:
            self._parked = max(0, self.in_flight - young - self._observation.waiting)
            self._arrange()
            self.hand_on()

    # ── inside ──

    def _tell(self) -> None:
        """Once per overload, not once per refusal."""
        self._told = self.overloaded
        if self.overloaded:
            log.warning("overloaded: %d requests run, and the line does not empty", self.limit)
        else:
            log.warning("not overloaded any more: %s refused since the start", sum(self.refused))

    def _now(self) -> Limit:
        return self._set_by_hand or self._limit

    def _arrange(self) -> None:
        if not self._now().learned:
            self._parked = 0
        limit, most = self.limit, self._most
        for priority, share in enumerate(SHARES):
            room = max(1, int(limit * share)) + self._parked
            self.rooms[priority] = room if most is None else min(room, max(1, int(most * max(share, 1.0))))

    def _let_in(self) -> Epoch:
        self.in_flight += 1
        self.admitted += 1
        self.epoch[0] += 1
        return self.epoch

    def hand_on(self) -> None:
        """Whatever room there is goes to those in line."""
        line = self.line
        while (priority := line.first()) is not None and self.in_flight < self.rooms[priority]:
            turn = line.pop(priority).turn
            if not turn.done():
                turn.set_result(self._let_in())

    def _send_away(self, place: Place[Turn], now: float) -> None:
        self.refused[place.priority] += 1
        self.line.refused(now)
        if not place.turn.done():
            place.turn.set_exception(self.refusal(place.priority))


def admission_of(
    concurrency: int | str,
    clock: Clock,
    *,
    most: int,
    waiting_max: int,
    others_s: Callable[[], float],
    weight_of: WeightOf | None = None,
) -> Admission:
    """As the settings say: ``"adaptive"`` or a number, and at most ``most``."""
    limit: Limit = LearnedLimit(most) if isinstance(concurrency, str) else FixedLimit(min(concurrency, most))
    return Admission(limit, clock, most=most, waiting_max=waiting_max, weight_of=weight_of, others_s=others_s)
