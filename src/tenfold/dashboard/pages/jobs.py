"""The queues and what is in them: what waits, what runs and how far it is, what failed for good."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final, cast, get_args

from tenfold._core.text import plural
from tenfold.dashboard import shown, ui
from tenfold.dashboard.html import Child, Html, join, tag
from tenfold.dashboard.page import Choices, Page, action, live
from tenfold.dashboard.view import View
from tenfold.errors import InvalidInput
from tenfold.queue.admin import Admin
from tenfold.queue.info import Filter
from tenfold.queue.message import State
from tenfold.telemetry import names

if TYPE_CHECKING:
    from tenfold.queue.info import MessageInfo, QueueInfo
    from tenfold.queue.queue import Queue

SHOWN: Final = 30
"""Messages of one page of the list."""
STATES: Final = ("running", "ready", "delayed", "waiting", "parked", "dead", "cancelled", "done")
MOODS: Final[dict[str, ui.Mood]] = {
    "dead": "bad", "running": "good", "parked": "warn", "delayed": "warn", "lost": "bad", "crash": "bad", "retry": "warn",
}  # fmt: skip
"""Of states, and of outcomes of runs."""


def queue_of(view: View) -> Queue:
    """The queue of the app's database."""
    return view.assembly.background.queues.of(view.app.databases[0])


def admin_of(view: View) -> Admin:
    """What can be done with its messages."""
    return Admin(queue_of(view))


def progress(info: MessageInfo) -> Child:
    """How far a job says it is."""
    how_far = info.how_far
    if how_far is None:
        return None
    share = how_far.done / how_far.total if how_far.total else 0.0
    said = f"{how_far.done:,g} of {how_far.total:,g}" + (f", {how_far.note}" if how_far.note else "")
    return ui.meter(share, said, "good")


def state_of(info: MessageInfo) -> Html:
    """Its state as a badge; of one that failed and waits to be tried again, that."""
    if info.state == "running" and info.cancel:
        return ui.badge("stopping", "warn", info.cancel)
    again = info.state == "delayed" and info.attempts > 0
    return ui.badge("retrying" if again else info.state, MOODS.get(info.state, ""))


class Jobs(Page):
    path = "/jobs"
    title = "Jobs"
    about = "Queues, what runs and how far it is, what is tried again, and what failed for good."
    group = "Work"
    key = "j"
    windowed = True
    choices: ClassVar[Choices] = {"state": get_args(State)}

    def present(self) -> bool:
        return bool(self.app.databases)

    async def body(self, view: View) -> Html:
        return join(
            await view.live(self.queues),
            await view.live(self.over_time),
            self._search(view),
            await view.live(self.messages),
        )

    # ── what is shown ──

    @live(every_s=2)
    async def queues(self, view: View) -> Html:
        admin = admin_of(view)
        found, lag_s = await asyncio.gather(admin.queues(), admin.lag_s())
        columns: list[str | ui.Column] = [
            "queue", *(ui.Column(state, number=True) for state in STATES[:6]), "limits", ui.Column("", wide=True), "",
        ]  # fmt: skip
        rows = [self._queue(view, info) for info in found]
        return join(
            _figures(view, found, lag_s),
            ui.card("Queues", ui.table(columns, rows, nothing="", caption="Queues"), flush=True),
        )

    def _queue(self, view: View, info: QueueInfo) -> tuple[Child, ...]:
        limits = [info.rate, f"{info.concurrency} at a time" if info.concurrency is not None else ""]
        limits.append("" if info.fair else "oldest first")
        paused = info.paused_at is not None
        said = "" if info.paused_at is None else join(f"{info.paused_by}, ", ui.ago(info.paused_at, view.now))
        return (
            join(
                view.a(info.name, "/jobs", queue=info.name), " ", ui.badge("paused", "warn") if paused else ""
            ),
            *(_count(view, info, state) for state in STATES[:6]),
            ui.muted(", ".join(filter(None, limits))),
            ui.muted(said),
            view.button(self.resume if paused else self.pause, queue=info.name),
        )

    @live(every_s=5)
    async def over_time(self, view: View) -> Html:
        records = view.records
        handled, depth, oldest = await asyncio.gather(
            records.series(names.QUEUE_HANDLED, since=view.since, by=(names.OUTCOME,)),
            records.series(names.QUEUE_MESSAGES, since=view.since, by=("state",)),
            records.series(names.QUEUE_OLDEST, since=view.since, by=()),
        )
        times = shown.times_of(handled)
        of = {each.labels.get(names.OUTCOME, ""): each for each in handled}
        failed = [of[name] for name in ("retry", "crash", "lost") if name in of]
        runs = ui.chart(
            "Runs per second", view.time, times,
            ui.Line("done", shown.per_s([of["done"]] if "done" in of else [], times), fill=True),
            ui.Line("failed", shown.per_s(failed, times), "warn"),
            ui.Line("died", shown.per_s([of["dead"]] if "dead" in of else [], times), "bad"),
            unit="/s",
        )  # fmt: skip
        moments = shown.times_of([*depth, *oldest])
        by_state = {each.labels.get("state", ""): each for each in depth}
        waiting = ui.chart(
            "Messages that wait", view.time, moments,
            *(
                ui.Line(state, shown.counts([by_state[state]] if state in by_state else [], moments), fill=state == "ready")
                for state in ("ready", "delayed", "waiting")
            ),
        )  # fmt: skip
        ages = shown.times_of(oldest)
        age = ui.chart(
            "Oldest ready message",
            view.time,
            ages,
            ui.Line("due for", shown.gauge(oldest, ages), fill=True),
            unit="s",
        )
        return ui.grid(
            ui.card("Runs", runs), ui.card("Waiting", waiting), ui.card("Oldest ready", age), columns=3
        )

    def _search(self, view: View) -> Html:
        kept = {name: view.query.get(name, "") for name in ("state", "window")}
        return ui.filters(
            view.link(self.path),
            *(tag("input", type="hidden", name=name, value=value) for name, value in kept.items() if value),
            ui.field(
                "Job, subscriber or schedule", "handler", view.query.get("handler", ""), list="handlers"
            ),
            tag("datalist", [tag("option", value=name) for name in _handlers(view)], id="handlers"),
            ui.field("Queue", "queue", view.query.get("queue", "")),
            ui.field("Tenant", "tenant", view.query.get("tenant", "")),
            ui.field("Error has in it", "error", view.query.get("error", ""), type_="search"),
            label="Filter",
        )

    @live(every_s=2)
    async def messages(self, view: View) -> Html:
        where = filter_of(view)
        before = view.query.get("before", "")
        found = await admin_of(view).list(where, before=int(before) if before else None, limit=SHOWN + 1)
        older = view.here(before=found[SHOWN - 1].id) if len(found) > SHOWN else ""
        columns = (
            ui.Column("id", number=True), "state", ui.Column("what", wide=True), ui.Column("failed attempts", number=True), "queue",
            "put in", "",
        )  # fmt: skip
        rows = [self._message(view, info) for info in found[:SHOWN]]
        listed = ui.table(columns, rows, nothing=_nothing(where), caption="Messages")
        choices = [("all", ""), *((state, state) for state in STATES)]
        tabs = ui.tabs(
            "State",
            *((text, view.here(state=key, before=None), (where.state or "") == key) for text, key in choices),
        )
        return ui.card("Messages", listed, ui.older(older), self._bulk(view, where), aside=tabs, flush=True)

    def _message(self, view: View, info: MessageInfo) -> tuple[Child, ...]:
        below = progress(info) or (shown.line(view, info.first_error_line) if info.error else "")
        return (
            tag("a", str(info.id), href=view.link(f"/jobs/{info.id}")),
            state_of(info),
            join(
                tag("a", info.handler, href=view.link(f"/jobs/{info.id}")), tag("span", below, class_="below")
            ),
            f"{info.attempts}" if info.attempts else ui.muted("0"),
            info.queue,
            ui.ago(info.created_at, view.now),
            tag("span", self._buttons(view, info), class_="actions"),
        )

    def _buttons(self, view: View, info: MessageInfo) -> list[Html]:
        match info.state:
            case "dead" | "cancelled":
                return [view.button(self.retry, id=info.id), view.button(self.discard, id=info.id)]
            case "delayed" | "parked":
                return [view.button(self.retry, "Run now", id=info.id), view.button(self.cancel, id=info.id)]
            case "done":
                return []
            case _:
                return [] if info.cancel else [view.button(self.cancel, id=info.id)]

    def _bulk(self, view: View, where: Filter) -> Html | None:
        """Of what failed for good: the same for all that fit the filter."""
        if where.state != "dead":
            return None
        fields = {
            name: view.query[name] for name in ("handler", "queue", "tenant", "error") if view.query.get(name)
        }
        return tag(
            "p", "All that fit: ", view.button(self.retry_all, **fields), " ", view.button(self.discard_all, **fields),
            class_="actions",
        )  # fmt: skip

    # ── what can be done ──

    @action("Pause", confirm="Start no more messages of the queue {queue}?")
    async def pause(self, view: View) -> str:
        name = view.field("queue")
        paused = await admin_of(view).pause(name, by=view.visitor.name)
        return (
            f"The queue {name} is paused; what runs goes on."
            if paused
            else f"The queue {name} was paused already."
        )

    @action("Resume")
    async def resume(self, view: View) -> str:
        name = view.field("queue")
        resumed = await admin_of(view).resume(name)
        return f"The queue {name} goes on." if resumed else f"The queue {name} was not paused."

    @action("Retry")
    async def retry(self, view: View) -> str:
        id_ = id_of(view)
        await admin_of(view).retry(id_)
        return f"Message {id_} runs again."

    @action("Cancel", confirm="Take message {id} off, or ask it to stop?")
    async def cancel(self, view: View) -> str:
        id_ = id_of(view)
        done = await admin_of(view).cancel(id_, by=view.visitor.name)
        return (
            f"Message {id_} is cancelled, or stops soon." if done else f"Message {id_} had finished already."
        )

    @action("Discard", confirm="Remove message {id} for good?", danger=True)
    async def discard(self, view: View) -> str:
        id_ = id_of(view)
        await admin_of(view).discard(id_)
        return f"Message {id_} is removed."

    @action("Retry all", confirm="Run all dead messages that fit again?")
    async def retry_all(self, view: View) -> str:
        again = await admin_of(view).retry_all(_dead(view))
        return f"{plural(again, 'message')} will run again."

    @action("Discard all", confirm="Remove all dead messages that fit for good?", danger=True)
    async def discard_all(self, view: View) -> str:
        removed = await admin_of(view).discard_all(_dead(view))
        return f"{plural(removed, 'message')} removed."


def _figures(view: View, found: Sequence[QueueInfo], lag_s: float) -> Html:
    """All queues together."""

    def of(state: str) -> int:
        return sum(info.messages.get(state, 0) for info in found)

    dead = of("dead")
    late: ui.Mood = "bad" if lag_s > 300 else "warn" if lag_s > 30 else ""
    return ui.figures(
        ui.figure("Ready", of("ready"), _oldest(lag_s), late),
        ui.figure("Running", of("running")),
        ui.figure("Delayed", of("delayed"), "for later, or to be tried again"),
        ui.figure("Waiting", of("waiting"), "behind another of their key"),
        ui.figure(
            "Dead",
            dead,
            "until retried or discarded",
            "bad" if dead else "",
            view.here(state="dead", before=None),
        ),
    )


def filter_of(view: View) -> Filter:
    """What the query asks for."""
    asked = view.query
    state = asked.get("state", "")
    return Filter(
        state=cast("State", state) if state else None,
        handler=asked.get("handler") or None,
        queue=asked.get("queue") or None,
        tenant=asked.get("tenant") or None,
        error=asked.get("error") or None,
    )


def id_of(view: View) -> int:
    """The message that an action is about. Raises InvalidInput."""
    given = view.field("id")
    if not given.isdecimal():
        raise InvalidInput(f"{given!r} is no id of a message.")
    return int(given)


def _dead(view: View) -> Filter:
    form = view.form
    return Filter(
        state="dead",
        handler=form.get("handler") or None,
        queue=form.get("queue") or None,
        tenant=form.get("tenant") or None,
        error=form.get("error") or None,
    )


def _handlers(view: View) -> list[str]:
    return sorted(view.assembly.background.handlers)


def _count(view: View, info: QueueInfo, state: str) -> Child:
    count = info.messages.get(state, 0)
    if not count:
        return ui.muted("·")
    return view.a(f"{count:,}", "/jobs", queue=info.name, state=state)


def _oldest(lag_s: float) -> str:
    return f"the oldest due for {ui.duration(lag_s)}" if lag_s >= 1 else "none waits for long"


def _nothing(where: Filter) -> str:
    if where == Filter():
        return "Nothing was put into a queue yet, or everything that was is done and forgotten."
    if where == Filter(state="dead"):
        return "Nothing is dead: no message has used up its attempts."
    return "No message fits."
