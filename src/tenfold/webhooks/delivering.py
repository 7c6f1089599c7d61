"""The background work of outgoing webhooks: jobs, subscribers and a schedule like any other.

An event reaches :meth:`Delivering.fan_out` through a subscription, so the message that leads to its deliveries is
written in the event's own transaction. The fan-out writes the event's body once, a row per endpoint, and a job per
endpoint, together with its inbox row: once, however often it runs.

An attempt is made outside of any transaction; what came of it, and what follows (the next attempt, the end of the
endpoint), is written in one that proves that the job still holds its lease. A job says which attempt of which round
it is for: one that finds its attempt recorded already does nothing.

A job stands in a line of its endpoint while it runs (see :func:`~tenfold.webhooks.policy.line_of`), so that an
endpoint gets no more at a time than it can take. Waiting for the next attempt happens outside of the line, unless
order matters: then in it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Struct

from tenfold._core.clock import Clock
from tenfold._core.container import Depends, injected
from tenfold._core.sections import Settings
from tenfold.db.database import Tx
from tenfold.errors import RetryLater
from tenfold.events.subscription import Subscription
from tenfold.events.topic import Topic
from tenfold.http.adapters import encode_json
from tenfold.jobs.job import Job
from tenfold.mail.mailer import Mailer
from tenfold.queue.context import current_job
from tenfold.queue.retry import Retry
from tenfold.schedules.schedule import Schedule
from tenfold.webhooks import policy, signature, store
from tenfold.webhooks.contract import Answer, Sender
from tenfold.webhooks.store import DeliveryState, Endpoint, EndpointDisabled, Replayed, Target, Task

if TYPE_CHECKING:
    from tenfold.webhooks.outgoing import Webhooks

USER_AGENT = "Tenfold-Webhooks/1"
PIECE = 500
"""Events that are replayed in one transaction."""
SAID_MAX = 500
"""Characters of an answer that the log keeps."""

_OURS = Retry(attempts=20, base_s=1.0, max_s=600.0)
"""For our own trouble (the database is away, say); what receivers do is not a failure of the job."""


async def http_sender(settings: Settings, clock: Clock) -> AsyncGenerator[Sender]:
    """Makes the sender of the process when the first webhook is sent. Override it in tests:
    ``t.override(http_sender, lambda: fake)``."""
    from tenfold.webhooks.transport import HttpSender

    sender = HttpSender(settings.webhooks, clock)
    try:
        yield sender
    finally:
        await sender.stop()


TheSender = Annotated[Sender, Depends(http_sender, "singleton")]


class Step(Struct, frozen=True):
    """What a delivery job is about: one attempt of one round."""

    endpoint_id: str
    event_id: str
    round: int
    attempt: int
    line: str
    ordered: bool


class Delivering:
    """Declarations for one :class:`~tenfold.webhooks.outgoing.Webhooks`, and the functions behind them."""

    def __init__(self, hooks: Webhooks) -> None:
        self._hooks = hooks
        service = hooks.service
        self.deliver_job: Job[..., None] = Job(service, self.deliver, name="webhook-delivery", retry=_OURS)
        self.again_job: Job[..., None] = Job(service, self.again, name="webhook-retry", retry=_OURS)
        self.mail_job: Job[..., None] = Job(service, self.tell_owner, name="webhook-mail", retry=_OURS)
        self.jobs: list[Job[..., Any]] = [self.deliver_job, self.again_job, self.mail_job]
        self.subscriptions = [
            Subscription(service, topic, self._fan_out_of(topic), name=f"webhooks-of-{topic.name}")
            for topic in hooks.topics
        ]
        self.schedules = [Schedule(service, self.sweep, "23 * * * *", name="webhook-sweep")]

    # ── from an event to deliveries ──

    def _fan_out_of(self, topic: Topic[Any]) -> Callable[..., Any]:
        async def fan_out(event: Any, tx: Tx) -> None:
            await self.fan_out(topic, event, tx)

        fan_out.__annotations__ = {"event": topic.type, "tx": Tx, "return": None}
        return fan_out

    async def fan_out(self, topic: Topic[Any], event: Any, tx: Tx) -> None:
        """Write the event, and one delivery for each endpoint that wants it."""
        job, service = current_job(), self._hooks.service
        wanted = [one for one in await self._hooks.endpoints(tx) if one.wants(topic.name)]
        if not wanted:
            return
        event_id = job.event_id or job.idempotency_key
        written = {"topic": topic.name, "created_at": job.enqueued_at}
        body = body_of(topic.name, job.enqueued_at, event)
        await tx.execute(
            store.add_event,
            {"service": service, "id": event_id, "order_key": job.key, "body": body, **written},
        )
        await tx.execute(
            store.add_delivery,
            [
                {
                    "endpoint_id": one.id,
                    "event_id": event_id,
                    "state": "pending" if one.state == "enabled" else "held",
                    "position": job.id,
                    "attempts": 0,
                    "round": 0,
                    "said": "",
                    **written,
                }
                for one in wanted
            ],
        )
        for one in wanted:
            if one.state == "enabled":
                await self._stand_in_line(tx, _first_step(one, event_id, job.key, 0))

    async def _stand_in_line(self, tx: Tx, step: Step) -> None:
        await self.deliver_job.options(key=step.line).enqueue(tx, step=step)

    # ── one attempt ──

    async def deliver(self, step: Step, sender: TheSender = injected(), clock: Clock = injected()) -> None:
        """Make one attempt and write down what follows."""
        which = {"endpoint_id_": step.endpoint_id, "event_id_": step.event_id}
        task = await self._hooks.database.read(consistency="strong").maybe(store.task, Task, **which)
        if task is None or task.round != step.round or task.delivery_state != "pending":
            return  # removed, replayed meanwhile, or settled by a run whose acknowledgement was lost
        if task.state == "disabled":
            async with self._hooks.database.tx() as tx:
                await tx.execute(store.hold, **which)
            return
        if step.ordered:
            if task.next_at is not None and task.next_at > clock.now():
                raise RetryLater(task.next_at - clock.now(), "the receiver has time until its next attempt")
        elif task.attempts + 1 != step.attempt:
            return
        step = msgspec.structs.replace(step, attempt=task.attempts + 1)
        answer = await self.post(task, step.endpoint_id, step.event_id, task.body, sender, clock)
        wait_s = await self._conclude(step, answer, clock)
        if wait_s is not None and step.ordered:
            raise RetryLater(wait_s, answer.sentence)

    async def again(self, step: Step, tx: Tx) -> None:
        """The wait is over: stand in line for the next attempt."""
        await self._stand_in_line(tx, step)

    async def post(
        self, target: Target, endpoint_id: str, id_: str, body: str, sender: Sender, clock: Clock
    ) -> Answer:
        """Sign and send once."""
        try:
            place = self._hooks.place_of(target.url)
        except ValueError as error:  # the rules have changed since it was entered
            return Answer(error=f"The URL cannot be used: {error}")
        secrets, content = self._hooks.secrets_of(target, endpoint_id), body.encode()
        return await sender.post(place, headers_of(secrets, id_, clock.now(), content), content)

    async def _conclude(self, step: Step, answer: Answer, clock: Clock) -> float | None:
        """Record the attempt and what follows from it, together; the seconds until the next one, if there is one."""
        hooks, now = self._hooks, clock.now()
        verdict = policy.judge(answer, step.attempt, hooks.patience)
        wait_s: float | None = None
        if verdict == "retry":
            wait_s = policy.wait_s(answer, step.attempt, hooks.patience, now, clock.random)
        async with hooks.database.tx() as tx:
            await current_job().fence(tx)
            await tx.execute(store.note_attempt, _row(step, answer, verdict, now, wait_s))
            if verdict == "delivered":
                await tx.execute(store.note_success, id_=step.endpoint_id, service_=hooks.service)
            else:
                await self._note_failure(tx, step.endpoint_id, verdict == "gone", now)
            if wait_s is not None and not step.ordered:
                following = msgspec.structs.replace(step, attempt=step.attempt + 1)
                await self.again_job.options(delay=wait_s).enqueue(tx, step=following)
        return wait_s

    # ── the end of an endpoint ──

    async def _note_failure(self, tx: Tx, endpoint_id: str, gone: bool, now: float) -> None:
        hooks = self._hooks
        which = {"id_": endpoint_id, "service_": hooks.service}
        if not await tx.execute(store.note_failure, {**which, "now_": now}):
            return  # removed meanwhile
        endpoint = await hooks.get(endpoint_id, tx)
        reason = hooks.patience.is_dead(endpoint.failures, endpoint.failing_since, now)
        if gone:
            reason = "It answered 410: it wants no more webhooks."
        if not reason or not await tx.execute(store.disable, {**which, "why": reason}):
            return
        told = EndpointDisabled(endpoint.id, endpoint.url, endpoint.owner, reason, now)
        await hooks.disabled.publish(tx, told, key=endpoint.id)
        if endpoint.owner:
            await self.mail_job.enqueue(tx, told=told)

    async def tell_owner(self, told: EndpointDisabled, mailer: Mailer = injected()) -> None:
        """Tell the endpoint's owner that it was given up."""
        text = (
            f"The webhook endpoint\n\n    {told.url}\n\nwas disabled and gets no more events. {told.reason}\n\n"
            "Events are kept for a while. Once the endpoint works again, have it enabled and what it missed "
            f"replayed; its id is {told.endpoint_id}.\n"
        )
        key = current_job().idempotency_key
        await mailer.send(told.owner, "Your webhook endpoint was disabled", text, key=key)

    # ── replays and age ──

    async def replay(
        self, endpoint: Endpoint, since: float, until: float, states: Sequence[DeliveryState]
    ) -> int:
        """Begin a new round for each delivery in one of ``states``; how many."""
        count, after = 0, -1
        while found := await self._replay_some(endpoint, since, until, states, after):
            count += len(found)
            after = found[-1].position
        return count

    async def _replay_some(
        self, endpoint: Endpoint, since: float, until: float, states: Sequence[DeliveryState], after: int
    ) -> list[Replayed]:
        """Those that were begun, in their order."""
        where = {"service_": self._hooks.service, "endpoint_id_": endpoint.id, "since": since, "until": until}
        async with self._hooks.database.tx() as tx:
            found = await tx.all(
                store.to_replay, Replayed, **where, states=list(states), after=after, limit_=PIECE
            )
            for one in found:
                await tx.execute(store.begin_round, endpoint_id_=endpoint.id, event_id_=one.event_id)
                await self._stand_in_line(
                    tx, _first_step(endpoint, one.event_id, one.order_key, one.round + 1)
                )
        return found

    async def sweep(self, tx: Tx, settings: Settings, clock: Clock) -> None:
        """Forget events and deliveries whose time is over."""
        before = clock.now() - settings.webhooks.keep_s
        await tx.execute(store.expired_deliveries, before=before)
        await tx.execute(store.expired_events, before=before)


def _first_step(to: Endpoint, event_id: str, key: str | None, round_: int) -> Step:
    ordered = to.ordered and key is not None
    line = policy.line_of(to.id, to.concurrency, key if to.ordered and key is not None else event_id)
    return Step(to.id, event_id, round_, 1, line, ordered)


def _row(
    step: Step, answer: Answer, verdict: policy.Verdict, now: float, wait_s: float | None
) -> dict[str, Any]:
    states: dict[policy.Verdict, DeliveryState] = {"delivered": "delivered", "retry": "pending"}
    return {
        "endpoint_id_": step.endpoint_id,
        "event_id_": step.event_id,
        "state": states.get(verdict, "failed"),
        "attempts": step.attempt,
        "status": answer.status,
        "said": "" if answer.delivered else answer.sentence[:SAID_MAX],
        "duration_ms": answer.duration_ms,
        "tried_at": now,
        "next_at": None if wait_s is None else now + wait_s,
    }


def body_of(type_: str, at: float, data: Any) -> str:
    """The JSON that is sent: type, time and data, as the specification recommends."""
    stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    raw = msgspec.Raw(encode_json(data))
    return msgspec.json.encode({"type": type_, "timestamp": stamp, "data": raw}).decode()


def headers_of(secrets: Sequence[str], id_: str, now: float, body: bytes) -> dict[str, str]:
    """The headers of one attempt; its time is that of the attempt, not of the event."""
    at = int(now)
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": id_,
        "webhook-timestamp": str(at),
        "webhook-signature": signature.sign(secrets, id_, at, body),
    }
