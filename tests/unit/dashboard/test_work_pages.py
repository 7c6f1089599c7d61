"""Jobs, schedules and events on the dashboard: what is shown, and what can be done."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from support.looking import Looks, looking
from tenfold import App, Retry, Service, public
from tenfold.dashboard.pages import pages
from tenfold.queue.admin import Admin, Filter
from tenfold.queue.testing import run_pending

pytestmark = pytest.mark.anyio


class Placed(msgspec.Struct):
    order_id: int
    note: str = ""


class World:
    """An app with a job that fails, a subscriber that cannot, and a schedule; its dashboard; what ran."""

    def __init__(self) -> None:
        self.fails = True
        self.sent: list[int] = []
        shop = Service("shop", auth=public)
        self.db = shop.database(sa.MetaData())
        self.placed = shop.topic("placed", Placed)

        @shop.job(retry=Retry(attempts=1))
        async def send(order_id: int, password: str = "") -> str:
            if self.fails:
                raise OSError(f"no route to the printer of order {order_id}")
            self.sent.append(order_id)
            return "printed"

        @shop.on(self.placed, retry=Retry(attempts=1))
        async def reserve(event: Placed) -> None:
            if self.fails:
                raise ValueError(f"order {event.order_id} cannot be reserved")
            self.sent.append(event.order_id)

        @shop.every("0 3 * * *", timezone="Europe/London")
        async def report() -> None:
            self.sent.append(0)

        self.send = send
        self.app = App("shop", [shop])

    @property
    def admin(self) -> Admin:
        return Admin(self.app.assembly.background.queues.of(self.db))

    async def work(self) -> None:
        """Let a worker run all there is."""
        await run_pending(self.app.assembly.background.workers[0])

    async def dead(self) -> int:
        """The id of the one message that is dead."""
        [info] = await self.admin.list(Filter(state="dead"))
        return info.id

    async def reset(self) -> None:
        """As new, but for the ids of messages."""
        self.fails = True
        self.sent.clear()
        await self.admin.resume("default")
        await self.admin.discard_all(Filter())


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[tuple[World, Looks]]:
    made = World()
    async with looking(made.app, tmp_path_factory.mktemp("work")) as looks:
        yield made, looks


@pytest.fixture
async def world(running: tuple[World, Looks]) -> tuple[World, Looks]:
    await running[0].reset()
    return running


Both = tuple[World, Looks]


async def died(world: World, order_id: int = 7) -> int:
    """A job that used up its attempts; its id."""
    await world.send.enqueue(world.db, order_id=order_id, password="kestrel-canary-11")
    await world.work()
    return await world.dead()


async def test_dead_jobs_are_listed_with_their_error_and_can_be_run_again(world: Both) -> None:
    it, looks = world
    id_ = await died(it)
    shown = await looks.read("/jobs", state="dead")
    assert "no route to the printer of order 7" in shown
    it.fails = False
    assert await looks.act("/jobs?state=dead", "retry", id=id_) == (200, f"Message {id_} runs again.")
    await it.work()
    assert it.sent == [7]
    assert "Nothing is dead" in await looks.read("/jobs", state="dead")


async def test_a_job_is_shown_with_arguments_and_error_and_without_its_secrets(world: Both) -> None:
    it, looks = world
    id_ = await died(it)
    shown = await looks.read(f"/jobs/{id_}")
    assert '"order_id": 7' in shown
    assert "OSError: no route to the printer of order 7" in shown
    assert "canary" not in shown


async def test_a_job_can_be_discarded_for_good(world: Both) -> None:
    it, looks = world
    id_ = await died(it)
    assert await looks.act(f"/jobs/{id_}", "discard", id=id_) == (200, f"Message {id_} is removed.")
    gone = await looks.ask(f"/jobs/{id_}")
    assert gone.status == 404
    assert f"There is no message {id_}" in gone.body.decode()


async def test_all_dead_jobs_that_fit_are_run_again_or_removed_together(world: Both) -> None:
    it, looks = world
    for n in range(4):
        await it.send.enqueue(it.db, order_id=n)
    await it.work()
    assert await looks.act("/jobs?state=dead", "discard_all", error="order 3") == (200, "1 message removed.")
    it.fails = False
    assert await looks.act("/jobs?state=dead", "retry_all", handler="shop.send") == (
        200,
        "3 messages will run again.",
    )
    await it.work()
    assert sorted(it.sent) == [0, 1, 2]


async def test_a_queue_is_paused_by_whom_and_goes_on(world: Both) -> None:
    it, looks = world
    it.fails = False
    assert (await looks.act("/jobs", "pause", queue="default"))[0] == 200
    shown = await looks.read("/jobs")
    assert "paused by this machine" in shown
    await it.send.enqueue(it.db, order_id=1)
    await it.work()
    assert it.sent == []
    assert await looks.act("/jobs", "resume", queue="default") == (200, "The queue default goes on.")
    await it.work()
    assert it.sent == [1]


async def test_a_message_that_waits_can_be_taken_off(world: Both) -> None:
    it, looks = world
    handle = await it.send.enqueue(it.db, order_id=1)
    assert (await looks.act("/jobs", "cancel", id=handle.id))[0] == 200
    await it.work()
    assert (await it.admin.show(handle.id)).state == "cancelled"
    assert "cancelled" in await looks.read(f"/jobs/{handle.id}")


@pytest.mark.parametrize("given", ["", "seven", "7; DROP"])
async def test_an_id_that_is_none_is_said_to_be_so(world: Both, given: str) -> None:
    status, said = await world[1].act("/jobs", "retry", id=given)
    assert status == 422
    assert "id" in said


async def test_lists_of_many_messages_go_on_on_older_pages(world: Both) -> None:
    it, looks = world
    for n in range(35):
        await it.send.enqueue(it.db, order_id=n)
    first = await looks.page("/jobs", state="ready")
    assert first.count("shop.send</a>") == 30
    older = (await it.admin.list(Filter(state="ready"), limit=30))[-1].id
    assert f"before={older}" in first
    assert (await looks.page("/jobs", state="ready", before=older)).count("shop.send</a>") == 5


async def test_schedules_are_shown_before_and_after_a_worker_has_looked(tmp_path: Path) -> None:
    made = World()
    async with looking(made.app, tmp_path) as looks:
        before = await looks.read("/schedules")
        assert "shop.report" in before
        assert "when a worker has started" in before
        await made.work()
        shown = await looks.read("/schedules")
        assert "0 3 * * * Europe/London" in shown
        assert "the newest missed tick is made up for" in shown


async def test_events_in_quarantine_are_shown_and_handled_again(world: Both) -> None:
    it, looks = world
    async with it.db.tx() as tx:
        await it.placed.publish(tx, Placed(5, note="by the door"))
    await it.work()
    shown = await looks.read("/events")
    assert "order 5 cannot be reserved" in shown
    assert "by the door" in shown
    it.fails = False
    id_ = await it.dead()
    assert await looks.act("/events", "replay", id=id_) == (200, f"Event {id_} is handled again.")
    await it.work()
    assert it.sent == [5]
    assert "Nothing is in quarantine" in await looks.read("/events")


async def test_everything_in_quarantine_of_a_subscription_is_handled_again(world: Both) -> None:
    it, looks = world
    async with it.db.tx() as tx:
        for n in range(3):
            await it.placed.publish(tx, Placed(n))
    await it.work()
    it.fails = False
    status, said = await looks.act(
        "/events?subscription=shop.reserve", "replay_all", subscription="shop.reserve"
    )
    assert (status, said) == (200, "3 events will be handled again.")
    await it.work()
    assert sorted(it.sent) == [0, 1, 2]


async def test_a_job_is_not_replayed_as_an_event(world: Both) -> None:
    it, looks = world
    status, said = await looks.act("/events", "replay", id=await died(it))
    assert status == 404
    assert "is no event but a job" in said


async def test_an_app_without_a_database_has_none_of_these_pages(tmp_path: Path) -> None:
    bare = Service("bare", auth=public)

    @bare.get("/hello")
    async def hello() -> str:
        return "hello"

    async with looking(App("bare", [bare]), tmp_path) as looks:
        home = await looks.page("/settings")
        assert not any(
            f'href="{path}"' in home for path in ("/jobs", "/schedules", "/events", "/database", "/cache")
        )
        assert (await looks.ask("/jobs")).status == 404


async def test_who_may_only_read_can_do_nothing_on_any_page(tmp_path: Path) -> None:
    made = World()
    async with looking(made.app, tmp_path, token="0perate-token", ops__read_token="re4d-token") as looks:
        await made.send.enqueue(made.db, order_id=1)
        reader = Looks(made.app, "re4d-token")
        tried = [(page.path, name) for page in pages() if page(made.app).present() for name in page.actions]
        assert len(tried) > 20
        for path, name in tried:
            fields = {
                "id": 1,
                "queue": "default",
                "seconds": 5,
                "kind": "wall",
                "name": "http.concurrency",
                "value": 1,
            }
            address = re.sub(r"\{[^}]*\}", "1", path)
            status, said = await reader.act(address, name, **fields, why="x", cache="shop")
            assert (status, said) == (403, "You may read here, not operate."), (path, name)
        assert (await looks.read("/jobs", state="ready")).count("shop.send") == 1
        assert "Profile 1" not in await looks.read("/profiler")


async def test_with_a_broker_the_lag_of_the_relay_is_shown_and_a_time_published_again(tmp_path: Path) -> None:
    made = World()
    made.fails = False
    async with looking(made.app, tmp_path, events__url="memory:dashboard-events") as looks:
        async with made.db.tx() as tx:
            await made.placed.publish(tx, Placed(5))
        waiting = await looks.read("/events")
        assert "Not published yet 1" in waiting
        assert "Carried by memory" in waiting
        assert "Lag of the relay" in waiting
        await made.app.assembly.background.events.pump()
        sent = await looks.read("/events")
        assert "Not published yet 0" in sent
        again = await looks.act("/events", "publish_again", topic="shop.placed", age="1h")
        assert again == (200, "1 event of the last hour will be published again.")
        assert "Not published yet 1" in await looks.read("/events")
        status, said = await looks.act("/events", "publish_again", topic="", age="1e9 years")
        assert (status, "no span of time" in said) == (422, True)
