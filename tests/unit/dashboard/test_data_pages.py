"""Caches, the database, limits, mails, settings, the log and the profiler on the dashboard."""

from __future__ import annotations

import asyncio
import html
import io
import logging
import re
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from http_calls import acall

from support.looking import Looks, looking, text
from tenfold import App, Mailer, Service, public
from tenfold._core.clock import SystemClock
from tenfold._core.sections import LogSettings
from tenfold.cache.hot import HotKeys
from tenfold.errors import NotFound
from tenfold.telemetry import log

pytestmark = pytest.mark.anyio

metadata = sa.MetaData()
books = sa.Table(
    "books",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("author", sa.String(40), nullable=False),
)
BY_AUTHOR = sa.select(books.c.id).where(books.c.author == sa.bindparam("author"))


class OwnSettings(msgspec.Struct):
    api_key: str = "wren-canary-22"
    colour: str = "green"


class World:
    """A library of books with a cache, limits and mails."""

    def __init__(self) -> None:
        shop = Service("shop", auth=public, settings=OwnSettings)
        self.db = shop.database(metadata)
        self.cache = shop.cache(ttl_s=60, stale_s=30)
        shop.http("payments", "https://payments.example")

        @shop.get("/books", limit="30/minute", concurrency=5)
        async def listed(author: str) -> list[int]:
            return await self.db.read().all(BY_AUTHOR, int, author=author)

        @shop.on_start
        async def write(mailer: Mailer) -> None:
            await mailer.send("ann@example.com", "<b>Hi</b>", "1 < 2", html="<p>1 &lt; 2</p>")

        self.app = App("shop", [shop])


Both = tuple[World, Looks]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Both]:
    made = World()
    async with looking(made.app, tmp_path_factory.mktemp("data")) as looks:
        yield made, looks


# ── cache ──


async def test_the_hit_rate_and_the_hottest_keys_of_a_cache_are_shown(world: Both) -> None:
    it, looks = world
    it.cache.stats.reset()
    it.cache.hot = HotKeys()
    await it.cache.clear()
    it.cache._looks_left = 0
    it.cache.sample(64)

    async def load() -> int:
        return 1

    for n in range(8):
        await it.cache.get_or_load("popular" if n % 4 else f"rare:{n}", load)
    shown = await looks.read("/cache")
    assert "popular 75.0 %" in shown
    assert "62.5 %" in shown  # five of eight reads found something


async def test_a_cache_is_cleared_by_name(world: Both) -> None:
    it, looks = world
    await it.cache.clear()
    await it.cache.set("a", 1)
    assert await looks.act("/cache", "clear", cache="shop") == (
        200,
        "shop is empty: 1 entries of this process are gone.",
    )
    assert len(it.cache) == 0
    assert (await looks.act("/cache", "clear", cache="elsewhere"))[0] == 404


# ── database ──


async def test_a_missing_index_is_shown_with_the_statement_that_makes_it(world: Both) -> None:
    it, looks = world
    async with it.db.tx() as tx:
        await tx.execute(sa.insert(books), [{"id": n, "author": f"a{n % 400}"} for n in range(2_000)])
    for _ in range(12):
        assert (await acall(it.app, "GET", "/books?author=a7")).status == 200
    await looks.act("/database", "look_again")
    shown = await looks.read("/database", part="findings")
    assert "Reads a whole table" in shown
    assert "CREATE INDEX ix_books_author ON books (author);" in shown
    assert "the planner would use it" in shown
    page = await looks.read("/database")
    assert "SELECT books.id FROM books WHERE books.author = ?" in page
    assert "a7" not in page


async def test_the_planner_is_asked_once_a_minute_or_when_somebody_wants_it(world: Both) -> None:
    it, looks = world
    finder = it.app.assembly.databases.finder
    assert finder is not None
    asked = 0
    before = finder.report

    async def report() -> object:
        nonlocal asked
        asked += 1
        return await before()

    await looks.act("/database", "look_again")
    finder.report = report  # type: ignore[method-assign,assignment]
    for _ in range(3):
        await looks.read("/database", part="findings")
    assert asked == 1
    assert (await looks.act("/database", "look_again"))[0] == 200
    await looks.read("/database", part="findings")
    assert asked == 2
    del finder.report


async def test_a_statement_of_a_trace_is_planned_when_somebody_asks_without_its_values(
    tmp_path: Path,
) -> None:
    it = World()
    async with looking(it.app, tmp_path, telemetry__store=True) as looks:
        assert (await acall(it.app, "GET", "/books?author=wren-canary-7")).status == 200
        async with it.db.tx() as tx:
            await tx.execute(sa.insert(books), [{"id": n, "author": "a"} for n in range(3)])
        store = it.app.assembly.telemetry.store
        assert store is not None
        await asyncio.to_thread(store.writer.turn)
        (kept,) = (await store.records.traces()).items
        page = await looks.page(f"/traces/{kept.trace_id}")
        links = re.findall(r'hx-get="([^"]*part=plan[^"]*)"', page)
        shown = " ".join([await looks.read(html.unescape(link)) for link in links])
        assert "SCAN books" in shown
        assert "It reads the whole of books." in shown
        assert "wren-canary-7" not in page + shown
        nobody = await looks.ask(f"/traces/{kept.trace_id}", part="plan", span="0" * 16)
        assert nobody.status == 404
        assert await it.db.read().scalar(sa.select(sa.func.count()).select_from(books)) == 3
        finder = it.app.assembly.databases.finder
        assert finder is not None
        with pytest.raises(NotFound, match="has not run the statement"):
            await finder.steps("DELETE FROM books", str)


async def test_scripts_still_get_findings_and_policies_as_json(world: Both) -> None:
    it, _ = world
    for path in ("/database", "/policies", "/mailbox"):
        answer = await acall(
            it.app.ops, "GET", path, headers=[(b"host", b"localhost")], client=("127.0.0.1", 1)
        )
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), path


# ── limits ──


async def test_a_policy_is_changed_and_taken_back_while_the_app_runs(world: Both) -> None:
    it, looks = world
    limit = "shop.listed.limit"
    changed = await looks.act("/policies", "change", name=limit, value="1/hour", why="a flood", until="1h")
    assert changed == (200, f"{limit} is 1/hour in all instances within two seconds.")
    statuses = [
        (await acall(it.app, "GET", "/books?author=x", client=("10.0.0.1", 1))).status for _ in range(2)
    ]
    assert statuses == [200, 429]
    shown = await looks.read("/policies")
    assert "1/hour" in shown
    assert "a flood" in shown
    assert await looks.act("/policies", "take_back", name=limit) == (200, f"{limit} is as declared.")
    assert "Every policy is as code and settings say." in await looks.read("/policies")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "shop.listed.limit", "value": "often", "why": "x"}, "often"),
        ({"name": "shop.listd.limit", "value": "1/hour", "why": "x"}, "shop.listed.limit"),
        ({"name": "shop.listed.limit", "value": "1/hour", "why": ""}, "why"),
        ({"name": "shop.listed.timeout_s", "value": "none", "why": "x"}, "deadline"),
    ],
)
async def test_a_change_that_cannot_be_is_refused_with_a_sentence(
    world: Both, fields: dict[str, str], said: str
) -> None:
    status, sentence = await world[1].act("/policies", "change", **fields)
    assert status in (404, 422)
    assert said in sentence


async def test_what_is_let_in_and_every_policy_is_shown(world: Both) -> None:
    shown = await world[1].read("/policies")
    for words in (
        "In progress",
        "learned",
        "limit 30/minute",
        "0 of 5",
        "Breakers",
        "Nothing was called yet.",
    ):
        assert words in shown


# ── mails ──


async def test_mails_are_listed_and_shown_with_everything_escaped(world: Both) -> None:
    it, looks = world
    listed = await looks.page("/mailbox")
    [id_] = {path.stem for path in (it.app.data_dir / "mailbox").glob("*.eml")}
    letter = await looks.page(f"/mailbox/{id_}")
    for page in (listed, letter):
        assert "&lt;b&gt;Hi&lt;/b&gt;" in page
        assert "<b>Hi</b>" not in page
    assert f'src="/mailbox/{id_}/html" sandbox' in letter
    part = await looks.ask(f"/mailbox/{id_}/html")
    assert (part.status, part.body.strip()) == (200, b"<p>1 &lt; 2</p>")
    assert "sandbox" in part.headers["content-security-policy"]


async def test_a_mail_that_does_not_exist_is_404(world: Both) -> None:
    assert (await world[1].ask("/mailbox/nothing")).status == 404


async def test_an_app_that_sends_mails_has_no_mailbox(tmp_path: Path) -> None:
    service = Service("a", auth=public)
    async with looking(App("a", [service]), tmp_path, mail__url="smtp://127.0.0.1:1") as looks:
        assert (await looks.ask("/mailbox")).status == 404


# ── settings ──


async def test_settings_say_where_they_come_from_and_hide_secrets(world: Both) -> None:
    shown = await world[1].read("/settings")
    assert "app.data_dir" in shown
    assert "command line" in shown
    assert "services.shop.colour green default" in shown
    assert "services.shop.api_key hidden default" in shown
    assert "canary" not in shown


async def test_settings_are_found_by_words_and_by_being_set(world: Both) -> None:
    looks = world[1]
    found = await looks.read("/settings", q="colour")
    assert "services.shop.colour" in found
    assert "http.port" not in found
    chosen = await looks.read("/settings", only="set")
    assert "app.data_dir" in chosen
    assert "http.port" not in chosen


# ── profiler ──


async def test_a_profile_is_made_on_request_and_shown_as_a_flame_graph(world: Both) -> None:
    looks = world[1]
    over = threading.Event()

    def burn_for_the_test() -> None:
        while not over.is_set():
            sum(range(500))

    thread = threading.Thread(target=burn_for_the_test, name="burner")
    thread.start()
    try:
        status, _ = await looks.act("/profiler", "start", seconds=5, kind="wall")
        assert status == 200
        assert (await looks.act("/profiler", "start", seconds=5, kind="wall"))[0] == 409
        async with asyncio.timeout(5):
            while " of 5 s, 0 looks" in (read := await looks.read("/profiler")):  # noqa: ASYNC110  the page is all that tells
                await asyncio.sleep(0.02)
        assert " of 5 s, " in read
        assert (await looks.act("/profiler", "stop"))[0] == 200
    finally:
        over.set()
        thread.join()
    page = await looks.page("/profiler", profile=1)
    assert '<svg class="flame"' in page
    assert "burn_for_the_test" in page
    assert "test_data_pages.py" in text(page)
    frames = page.count("at=")
    assert frames > 5
    assert '<svg class="flame"' in await looks.page("/profiler", profile=1, at=3)
    assert (await looks.ask("/profiler", profile=99)).status == 404


@pytest.mark.parametrize(
    "fields", [{"seconds": "86400", "kind": "cpu"}, {"seconds": "5", "kind": "evil"}, {}]
)
async def test_a_profile_is_bounded(world: Both, fields: dict[str, str]) -> None:
    assert (await world[1].act("/profiler", "start", **fields))[0] == 422


# ── log ──


async def test_the_log_is_searched_by_words_and_level(tmp_path: Path) -> None:
    made = World()
    made.app.logging = log.configure(LogSettings(), SystemClock(), stream=io.StringIO())
    try:
        async with looking(made.app, tmp_path) as looks:
            logging.getLogger("shop.stock").warning("stock is low", extra={"fields": {"sku": "P-7"}})
            logging.getLogger("shop.stock").info("counted the stock")
            for _ in range(100):
                shown = await looks.read("/logs", text="stock")
                if "counted the stock" in shown:
                    break
                await asyncio.sleep(0.05)
            assert "stock is low" in shown
            assert "P-7" in shown
            worse = await looks.read("/logs", text="stock", level="warning")
            assert "stock is low" in worse
            assert "counted the stock" not in worse
            assert "Nothing of that kind was said" in await looks.read("/logs", text="giraffe")
    finally:
        made.app.logging.close()
