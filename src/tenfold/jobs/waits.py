"""What a flow waits for: times, signals, events, other jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from tenfold.errors import CallsFailed, DeclarationError, WaitTimedOut, WrongArguments
from tenfold.events.topic import order_key
from tenfold.jobs import groups, records
from tenfold.jobs.course import FOREVER
from tenfold.jobs.groups import Ending, Outcome
from tenfold.jobs.records import Mail, StepRow
from tenfold.queue.arguments import Codec

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx
    from tenfold.events.topic import Topic
    from tenfold.jobs.call import Call
    from tenfold.jobs.course import Course, Park
    from tenfold.jobs.steps import Steps
    from tenfold.queue.message import Message
    from tenfold.queue.queue import Queue

SIGNAL = "s:"
"""Before the name of a signal, where it stands among other things that a flow waits for."""

SLACK_S = 5.0
"""An event that was published so long before its flow was enqueued may be its own: clocks of machines differ."""

_encode = msgspec.json.Encoder().encode
_outcomes = msgspec.json.Decoder(list[Outcome])


class Waits:
    """The waits of one run. ``routes`` maps topics to the names of the subscriptions that bring their events."""

    def __init__(self, course: Course, steps: Steps, queue: Queue, routes: Mapping[str, str]) -> None:
        self.course = course
        self.clock = queue.clock
        self._steps = steps
        self._queue = queue
        self._routes = routes

    # ── times ──

    async def until(self, due_at: float, name: str) -> None:
        """Until the recorded time; ``due_at`` the first time."""
        name = self.course.name(name)
        row = await self.course.recorded(name, "sleep")
        known = row is not None
        row = row or self._steps.new_row(name, kind="sleep", state="waiting", due_at=due_at)
        assert row.due_at is not None
        while self.clock.now() < row.due_at:
            await self.course.park(row, row.due_at, recorded=known)
        if not known:
            await self._steps.record(row, is_new=True)

    # ── signals and events ──

    async def signal(self, name: str, type_: Any, timeout_s: float | None) -> Any:
        """The oldest signal of the name."""
        flow = self.course.message
        codec = Codec(type_, f"{flow.handler} {flow.id}, signal {name!r}")

        async def first(reader: Reader) -> Mail | None:
            return await records.first_signal(reader, flow.id, name)

        async def take(tx: Tx, mail: Mail) -> bool:
            return await records.take_signal(tx, mail.id)

        row = await self._mail(f"signal {name}", "signal", SIGNAL + name, timeout_s, first, take)
        return self.course.decoded(codec.decode, row)

    async def event(self, topic: Topic[Any], key: str, timeout_s: float | None) -> Any:
        """The next event of the key."""
        flow, route = self.course.message, self._routes.get(topic.name)
        if route is None:
            raise DeclarationError(
                f"it waits for events of {topic.name} without saying so in its declaration.",
                where=flow.handler,
                remedy="Declare the job with events=[…], so that the events are brought to its flows.",
            )
        awaits = order_key(route, key)

        async def first(reader: Reader) -> Mail | None:
            return await records.first_arrival(
                reader, awaits, self.course.taken(awaits), flow.created_at - SLACK_S
            )

        async def take(tx: Tx, mail: Mail) -> bool:
            await records.no_longer_wait(tx, flow.id, awaits)
            return True

        row = await self._mail(f"event {topic.name}", "event", awaits, timeout_s, first, take)
        return self.course.decoded(topic.decode, row)

    async def _mail(
        self,
        name: str,
        kind: records.StepKind,
        awaits: str,
        timeout_s: float | None,
        first: Callable[[Reader], Awaitable[Mail | None]],
        take: Callable[[Tx, Mail], Awaitable[bool]],
    ) -> StepRow:
        """The row of what came, recorded. Raises :class:`WaitTimedOut`."""
        course = self.course
        name = course.name(name)
        row = await course.recorded(name, kind)
        known = row is not None
        if row is None:
            due_at = None if timeout_s is None else self.clock.now() + timeout_s
            row = self._steps.new_row(name, kind=kind, state="waiting", awaits=awaits, due_at=due_at)
        while row.state == "waiting":
            if await self._take(row, known, first, take):
                break
            due_at = FOREVER if row.due_at is None else row.due_at
            if due_at <= self.clock.now():
                row.state, row.finished_at = "late", self._queue.now()
                await self._steps.record(row, is_new=not known)
                course.keep(row)
                break
            await course.park(row, due_at, recorded=known)
        if row.state == "late":
            raise WaitTimedOut(f"{course.message.handler}: {name!r} did not come in time.", step=name)
        return row

    async def _take(
        self,
        row: StepRow,
        known: bool,
        first: Callable[[Reader], Awaitable[Mail | None]],
        take: Callable[[Tx, Mail], Awaitable[bool]],
    ) -> bool:
        """Take what has come and record that, in one transaction; False when nothing has."""
        course, database = self.course, self._queue.database
        course.begin()
        try:
            while (mail := await first(database.read(consistency="strong"))) is not None:
                done = msgspec.structs.replace(
                    row, state="done", result=mail.body, position=mail.id, finished_at=self._queue.now()
                )
                async with database.tx() as tx:
                    if not await take(tx, mail):  # by a wait beside this one
                        continue
                    await (records.change if known else records.add)(tx, course.message, done)
                row.state, row.result, row.position = "done", done.result, done.position
                course.keep(row)
                return True
            return False
        finally:
            course.end()

    # ── other jobs ──

    async def calls(self, calls: list[Call[Any]], name: str, return_exceptions: bool) -> list[Any]:
        """What all of ``calls`` returned."""
        if open_ := [call for call in calls if call.entry.takes is not None]:
            raise WrongArguments(f"{open_[0]} has an argument left open; use call(…) with all arguments.")
        course = self.course
        name = course.name(name)
        row = await course.recorded(name, "calls")
        if row is None or row.state == "failing":
            row = await self._begin(row, name, calls)
        while row.state == "waiting":
            if await self._collect(row, len(calls), return_exceptions):
                break
            await course.park(row, FOREVER, recorded=True)
        outcomes = _outcomes.decode(row.result or "[]")
        if len(outcomes) != len(calls):
            course.fail(f"{name!r} is recorded with {len(outcomes)} jobs, not {len(calls)}")
        return self._results(row, calls, outcomes, return_exceptions)

    async def _begin(self, row: StepRow | None, name: str, calls: list[Call[Any]]) -> StepRow:
        """Enqueue the calls, those that are not done already, and record that."""
        course, queue = self.course, self._queue
        known = row is not None
        group_id = groups.new_id(queue, results=True)
        row = row or self._steps.new_row(name, kind="calls")
        row.state, row.awaits, row.error, row.finished_at = "waiting", group_id, None, None
        before = _outcomes.decode(row.result) if row.result else [Outcome(None, "")] * len(calls)
        entries = [
            call.entry for call, outcome in zip(calls, before, strict=False) if outcome.error is not None
        ]
        course.begin()
        try:
            async with queue.database.tx() as tx:
                await groups.put_group(tx, queue, group_id, entries, Ending(flow_id=course.message.id))
                await (records.change if known else records.add)(tx, course.message, row)
            course.keep(row)
        finally:
            course.end()
        return row

    async def _collect(self, row: StepRow, expected: int, return_exceptions: bool) -> bool:
        """Record what became of the calls; False while some have no end."""
        assert row.awaits is not None
        course = self.course
        course.begin()
        try:
            reader = self._queue.database.read(consistency="strong")
            if await groups.is_open(reader, row.awaits):
                return False
            found = iter(await groups.outcomes(reader, row.awaits))
            before = _outcomes.decode(row.result) if row.result else [Outcome(None, "")] * expected
            merged = [outcome if outcome.error is None else next(found, outcome) for outcome in before]
            failed = any(outcome.error is not None for outcome in merged)
            row.state = "failed" if failed and not return_exceptions else "done"
            row.result, row.finished_at = _encode(merged).decode(), self._queue.now()
            await self._steps.record(row, is_new=False)
            return True
        finally:
            course.end()

    def _results(
        self, row: StepRow, calls: list[Call[Any]], outcomes: list[Outcome], return_exceptions: bool
    ) -> list[Any]:
        failures = {n: outcome.error for n, outcome in enumerate(outcomes) if outcome.error is not None}
        if failures and not return_exceptions:
            raise self._calls_failed(row.name, calls, failures)
        return [
            self._calls_failed(row.name, calls, {n: failures[n]})
            if n in failures
            else self.course.decoded(call.decode, row, outcome.result)
            for n, (call, outcome) in enumerate(zip(calls, outcomes, strict=True))
        ]

    def _calls_failed(self, name: str, calls: list[Call[Any]], failures: dict[int, str]) -> CallsFailed:
        n, error = next(iter(failures.items()))
        return CallsFailed(
            f"{self.course.message.handler}: {len(failures)} of {len(calls)} jobs of {name!r} failed; "
            f"{calls[n].entry.handler} {error}",
            step=name,
            failures=failures,
        )


async def has_come(tx: Tx, flow: Message, taken: Callable[[str], int], park: Park) -> bool:
    """Whether what the flow waits for at ``park`` is there, as ``tx`` sees it."""
    row = park.row
    if row.awaits is None:
        return False
    if row.kind == "signal":
        return await records.first_signal(tx, flow.id, row.awaits.removeprefix(SIGNAL)) is not None
    if row.kind == "event":
        since = flow.created_at - SLACK_S
        return await records.first_arrival(tx, row.awaits, taken(row.awaits), since) is not None
    return row.kind == "calls" and not await groups.is_open(tx, row.awaits)
