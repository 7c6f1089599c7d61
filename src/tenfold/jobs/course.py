"""``Course``: one run of a flow. It knows what is recorded, what goes on now, and what the flow waits for.

A flow's function is run from its beginning each time. What it asks of the course that is recorded is answered at once, so
that it comes to where it was; what is new is done and recorded. When nothing goes on any more but waiting, the function is
cancelled, its message given back until the earliest of what it waits for, and the worker is free.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from tenfold.errors import FlowChanged, QueueError, WrongArguments
from tenfold.jobs.records import StepKind, StepRow
from tenfold.jobs.tables import NAME_MAX_CHARS

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.queue.message import Message

FOREVER = 253_402_300_799.0
"""The end of the year 9999: when a flow is due that waits without a time-out."""

TURNS = 20
"""Of the event loop without anything of the flow going on, before it is taken to wait: for tasks that have just been
started, or woken, and have not come to their steps yet."""

FOLLOW_S = 1.0
"""For the other tasks of a flow to come to what they have recorded, before a new step is taken for a changed path."""


class Park(NamedTuple):
    """A place where the function waits."""

    row: StepRow
    due_at: float
    recorded: bool
    """The row stands in the database already."""
    woken: asyncio.Future[None]


class Course:
    """See the module's docstring. ``history`` is what is recorded, by name."""

    def __init__(self, message: Message, clock: Clock, history: dict[str, StepRow]) -> None:
        self.message = message
        self.history = history
        self.task: asyncio.Task[object] | None = None
        """That runs the function."""
        self.asleep = False
        """The function was cancelled, since it does nothing but wait."""
        self.parks: list[Park] = []
        """What it waits for then."""
        self.changed: FlowChanged | None = None
        self._clock = clock
        self._unseen = dict.fromkeys(history)
        self._seen_all = asyncio.Event()
        self._names: Counter[str] = Counter()
        self._parked: dict[str, Park] = {}
        self._seq = len(history)
        self._closed = False
        self._active = 0
        self._stir = 0
        """Raised by everything that goes on."""

    # ── names ──

    def name(self, name: str) -> str:
        """The recorded name of the next use of ``name``: the second is ``name#2``. Raises WrongArguments."""
        self.refuse_when_closed()
        if not 1 <= len(name) <= NAME_MAX_CHARS or "#" in name or not name.isprintable():
            raise WrongArguments(
                f"{self.message.handler}: {name!r} is no name of a step: 1 to {NAME_MAX_CHARS} visible characters, "
                "none of them '#'."
            )
        self._names[name] += 1
        n = self._names[name]
        return name if n == 1 else f"{name}#{n}"

    async def recorded(self, name: str, kind: StepKind) -> StepRow | None:
        """What is recorded under the name; None when it is new. Raises :class:`FlowChanged` when the code that is
        running takes another way than the one that is recorded."""
        row = self.history.get(name)
        if row is not None:
            if row.kind != kind:
                self.fail(f"{name!r} is recorded as a {row.kind}; the code that is running makes it a {kind}")
            self._see(name)
            return row
        if self._unseen:
            await self._follow(name)
        return None

    def next_seq(self) -> int:
        """The number of the next row."""
        self._seq += 1
        return self._seq

    def keep(self, row: StepRow) -> None:
        """The row is recorded now."""
        self.history[row.name] = row

    def taken(self, awaits: str) -> int:
        """The number of the event of this key that the flow took last."""
        return max((row.position or 0 for row in self.history.values() if row.awaits == awaits), default=0)

    def decoded(self, decode: Callable[[str], Any], row: StepRow, text: str | None = None) -> Any:
        """The recorded result; ``text`` where it is a part of it."""
        try:
            return decode((row.result if text is None else text) or "null")
        except QueueError as error:
            self.fail(f"the result of {row.name!r} does not fit any more: {error}")

    def check_complete(self) -> None:
        """Raise :class:`FlowChanged` when something is recorded that the function has not come to."""
        if self.changed is not None:
            raise self.changed
        if self._unseen:
            self.fail(f"the function did not come to the recorded step {self._first_unseen()!r}")

    async def _follow(self, name: str) -> None:
        """A new step while recorded ones are not reached: other tasks of the flow may be on their way to them."""
        self.begin()
        try:
            async with asyncio.timeout(FOLLOW_S):
                await self._seen_all.wait()
        except TimeoutError:
            self.fail(f"{self._first_unseen()!r} is recorded, but the code that is running came to {name!r}")
        finally:
            self.end()

    def _see(self, name: str) -> None:
        self._stir += 1
        self._unseen.pop(name, None)
        if not self._unseen:
            self._seen_all.set()

    def _first_unseen(self) -> str:
        return next(iter(self._unseen))

    def fail(self, what: str) -> NoReturn:
        """The recorded steps are not those of the code that is running."""
        message = self.message
        self.changed = self.changed or FlowChanged(
            f"{message.handler} {message.id} does not follow the steps that it has recorded: {what}. Put the steps back "
            "in their order (new ones may be added behind them) and retry it, or discard it."
        )
        raise self.changed

    # ── what goes on ──

    def begin(self) -> None:
        """Something of the flow goes on: it does not merely wait."""
        self.refuse_when_closed()
        self._active += 1

    def end(self) -> None:
        """The other end of :meth:`begin`."""
        self._active -= 1
        self._stir += 1
        self._watch()

    async def park(self, row: StepRow, due_at: float, *, recorded: bool) -> None:
        """Wait until ``due_at`` or to be woken: mostly by an end of this run, sometimes in it."""
        self.refuse_when_closed()
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parked[row.name] = Park(row, due_at, recorded, woken)
        self._stir += 1
        self._watch()
        try:
            await woken
        finally:
            self._parked.pop(row.name, None)

    def close(self) -> None:
        """The function has ended; tasks that it left behind get no further."""
        self._closed = True
        for park in list(self._parked.values()):
            park.woken.cancel()

    def refuse_when_closed(self) -> None:
        """What a function still asks for while it is being cancelled is not done."""
        if self._closed:
            raise asyncio.CancelledError

    def _watch(self) -> None:
        if not self._active and self._parked and not self._closed:
            asyncio.get_running_loop().call_soon(self._turn, 1, self._stir)

    def _turn(self, turn: int, stir: int) -> None:
        if self._active or stir != self._stir or self._closed:
            return
        if turn < TURNS:
            asyncio.get_running_loop().call_soon(self._turn, turn + 1, stir)
            return
        now = self._clock.now()
        due = [park for park in self._parked.values() if park.due_at <= now]
        for park in due:
            if not park.woken.done():
                park.woken.set_result(None)
        if not due and self._parked:
            self._fall_asleep()

    def _fall_asleep(self) -> None:
        assert self.task is not None
        self.asleep, self.parks = True, list(self._parked.values())
        self.task.cancel()
        self.close()
