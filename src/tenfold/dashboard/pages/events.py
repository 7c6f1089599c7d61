"""Events on their way: what is not published yet, who listens, and what nobody could handle."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tenfold._core.text import plural
from tenfold.dashboard import shown, ui
from tenfold.dashboard.html import Child, Html, join, tag
from tenfold.dashboard.page import Page, action, live
from tenfold.dashboard.pages.jobs import id_of, queue_of
from tenfold.dashboard.view import View
from tenfold.errors import InvalidInput
from tenfold.guard.overrides import moment
from tenfold.queue.admin import Admin
from tenfold.telemetry import names

if TYPE_CHECKING:
    from tenfold.events.admin import EventsAdmin, SubscriptionInfo, TopicInfo
    from tenfold.queue.info import MessageInfo

QUARANTINE_SHOWN: Final = 50
LATE_S: Final = 10.0
"""From so many seconds on, events that wait to be published are worth a colour."""
AGES: Final = {
    "15m": "the last 15 minutes",
    "1h": "the last hour",
    "6h": "the last 6 hours",
    "1d": "the last day",
}


class Events(Page):
    path = "/events"
    title = "Events"
    about = "What is published and what waits to be, who listens, and what could not be handled."
    group = "Work"
    key = "e"
    windowed = True

    def present(self) -> bool:
        events = self.app.assembly.background.events
        return bool(self.app.databases and (events.topics or events.feeds))

    def _admin(self, view: View) -> EventsAdmin:
        return view.assembly.background.events.admin(queue_of(view))

    async def body(self, view: View) -> Html:
        broker = view.assembly.background.events.broker is not None
        return join(
            await view.live(self.flow),
            await view.live(self.lag) if broker else None,
            await view.live(self.quarantine),
            self._replay(view) if broker else None,
        )

    @live(every_s=2)
    async def flow(self, view: View) -> Html:
        events = view.assembly.background.events
        found = await self._admin(view).overview(events.topics, events.feeds)
        unsent = sum(topic.unsent for topic in found.topics)
        oldest_s = max((topic.oldest_s for topic in found.topics), default=0.0)
        pending = sum(each.pending for each in found.subscriptions)
        dead = sum(each.dead for each in found.subscriptions)
        late: ui.Mood = "bad" if oldest_s > 60 else "warn" if oldest_s > LATE_S else ""
        broker = events.broker is not None
        sent = ui.figure("Not published yet", unsent, _waits(oldest_s), late) if broker else None
        return join(
            ui.note(join("The broker does not answer; events wait in the outbox. ", shown.line(view, found.trouble)), "bad")
            if found.trouble else None,
            ui.figures(
                sent,
                ui.figure("To be handled", pending, "in the queue"),
                ui.figure("In quarantine", dead, "attempts used up", "bad" if dead else ""),
                ui.figure("Carried by", _carrier(view), "and kept in the outbox until it has them" if broker else "no broker is set"),
            ),
            ui.grid(
                ui.card("Topics", _topics(view, found.topics, broker=broker), flush=True),
                ui.card("Subscriptions", _subscriptions(view, found.subscriptions, broker=broker), flush=True),
            ),
        )  # fmt: skip

    @live(every_s=5)
    async def lag(self, view: View) -> Html:
        unsent, oldest = await asyncio.gather(
            view.records.series(names.EVENTS_UNSENT, since=view.since, by=(names.TOPIC,)),
            view.records.series(names.EVENTS_OLDEST, since=view.since, by=(names.TOPIC,)),
        )
        times, ages = shown.times_of(unsent), shown.times_of(oldest)
        waiting = [
            ui.Line(each.labels.get(names.TOPIC, ""), shown.gauge([each], times)) for each in unsent[:6]
        ]
        age = [ui.Line(each.labels.get(names.TOPIC, ""), shown.gauge([each], ages)) for each in oldest[:6]]
        return ui.grid(
            ui.card("Not published yet", ui.chart("Events not published yet", view.time, times, *waiting)),
            ui.card("Lag of the relay", ui.chart("Age of the oldest event", view.time, ages, *age, unit="s")),
        )

    @live(every_s=5)
    async def quarantine(self, view: View) -> Html:
        subscription = view.query.get("subscription") or None
        found = await self._admin(view).quarantine(subscription, QUARANTINE_SHOWN)
        columns = (
            ui.Column("id", number=True), "subscription", ui.Column("error", wide=True), ui.Column("attempts", number=True),
            "died", "",
        )  # fmt: skip
        rows = [self._dead(view, info) for info in found]
        nothing = "Nothing is in quarantine: every event could be handled."
        fields = {"subscription": subscription} if subscription else {}
        aside: Child = view.button(self.replay_all, **fields) if found else None
        if subscription:
            aside = join(view.a("Of all subscriptions", "/events"), aside)
        title = f"Quarantine of {subscription}" if subscription else "Quarantine"
        return ui.card(
            title, ui.table(columns, rows, nothing=nothing, caption="Quarantine"), aside=aside, flush=True
        )

    def _dead(self, view: View, info: MessageInfo) -> tuple[Child, ...]:
        error = shown.line(view, info.first_error_line)
        payload = tag("details", tag("summary", "The event"), ui.pre(shown.json(view, info.payload), "Event"))
        return (
            tag("a", str(info.id), href=view.link(f"/jobs/{info.id}")),
            info.handler,
            join(error, payload),
            info.attempts,
            ui.ago(info.finished_at or info.created_at, view.now),
            tag("span", view.button(self.replay, id=info.id), view.button(self.discard, id=info.id), class_="actions"),
        )  # fmt: skip

    def _replay(self, view: View) -> Html:
        topics = view.assembly.background.events.topics
        return ui.card(
            "Publish again",
            tag(
                "p",
                "Subscriptions that have handled an event, or given it up, do not handle it again; new ones, and consumers "
                "elsewhere, do.",
            ),
            view.form_of(
                self.publish_again,
                ui.select("Topic", "topic", "", [("", "all topics"), *((name, name) for name in topics)]),
                ui.select("Published in", "age", "1h", list(AGES.items())),
            ),
        )  # fmt: skip

    @action("Replay")
    async def replay(self, view: View) -> str:
        id_ = id_of(view)
        await self._admin(view).retry([id_])
        return f"Event {id_} is handled again."

    @action("Replay all", confirm="Handle everything in quarantine again?")
    async def replay_all(self, view: View) -> str:
        again = await self._admin(view).retry_all(view.form.get("subscription") or None)
        return f"{plural(again, 'event')} will be handled again."

    @action(
        "Discard", confirm="Remove event {id} for good? Its subscription will never handle it.", danger=True
    )
    async def discard(self, view: View) -> str:
        id_ = id_of(view)
        await Admin(queue_of(view)).discard(id_)
        return f"Event {id_} is removed."

    @action("Publish again", confirm="Have the relay publish those events again?")
    async def publish_again(self, view: View) -> str:
        age = view.field("age")
        if age not in AGES:
            raise InvalidInput(f"{age!r} is no span of time to choose.")
        now = view.now
        until = moment(age, now)
        assert until is not None
        put_back = 0
        async for count in self._admin(view).replay(2 * now - until, now, view.form.get("topic") or None):
            put_back = count
        return f"{plural(put_back, 'event')} of {AGES[age]} will be published again."


def _carrier(view: View) -> str:
    url = view.app.settings.events.url
    return url.partition(":")[0] if url else "the database"


def _waits(oldest_s: float) -> str:
    return f"the oldest for {ui.duration(oldest_s)}" if oldest_s >= 1 else "none waits for long"


def _topics(view: View, found: list[TopicInfo], *, broker: bool) -> Html:
    if not broker:
        rows: list[tuple[Child, ...]] = [(topic.name,) for topic in found]
        return ui.table(
            (ui.Column("topic", wide=True),), rows, nothing="No topic is declared.", caption="Topics"
        )
    rows = [
        (
            join(topic.name, tag("span", shown.line(view, topic.error), class_="below text-bad") if topic.error else None),
            topic.unsent or ui.muted("0"),
            ui.duration(topic.oldest_s) if topic.unsent else ui.muted("–"),
            topic.kept or ui.muted("0"),
        )
        for topic in found
    ]  # fmt: skip
    columns = (
        ui.Column("topic", wide=True), ui.Column("unpublished", number=True), ui.Column("oldest", number=True),
        ui.Column("kept for replay", number=True),
    )  # fmt: skip
    return ui.table(columns, rows, nothing="No topic is declared.", caption="Topics")


def _subscriptions(view: View, found: list[SubscriptionInfo], *, broker: bool) -> Html:
    rows: list[tuple[Child, ...]] = []
    for each in found:
        named = join(view.a(each.name, "/jobs", handler=each.name), tag("span", each.topic, class_="below"))
        dead: Child = ui.muted("0")
        if each.dead:
            link = view.link("/events", subscription=each.name)
            dead = tag("a", ui.badge(f"{each.dead:,}", "bad"), href=link)
        row: tuple[Child, ...] = (named, each.pending or ui.muted("0"), each.parked or ui.muted("0"), dead)
        rows.append((*row, ui.muted("–") if each.at_broker is None else each.at_broker) if broker else row)
    columns = [
        ui.Column("subscription", wide=True), ui.Column("pending", number=True), ui.Column("parked", number=True),
        ui.Column("quarantine", number=True),
    ]  # fmt: skip
    if broker:
        columns.append(ui.Column("at the broker", number=True))
    return ui.table(columns, rows, nothing="Nobody subscribes to a topic here.", caption="Subscriptions")
