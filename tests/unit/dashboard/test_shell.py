"""The dashboard's door and its manners: who gets in, who may act, what is written down, what never leaves."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from http_calls import acall

from support.looking import Looks, looking
from tenfold import Accounts, App, Service, Stream, public
from tenfold._core.clock import ManualClock
from tenfold.dashboard import explorer, signing
from tenfold.dashboard.dashboard import Dashboard
from tenfold.dashboard.router import Router
from tenfold.dashboard.static import _FOLDER, SCRIPTS, STYLES, read
from tenfold.http.deadline import TICK_S
from tenfold.telemetry.ops_access import Guesses, address_of

pytestmark = pytest.mark.anyio
TOKEN, READER = "0perate-token", "re4d-token"


def shop(**more: Any) -> App:
    service = Service("shop", auth=public, **more)

    @service.get("/books/{number}")
    async def book(number: int, loud: bool = False) -> dict[str, int]:
        """One book."""
        return {"number": number}

    @service.post("/books", status=201)
    async def add(title: str) -> str:
        return title

    return App("shop", [service])


async def ask(app: App, path: str, *, method: str = "GET", body: bytes = b"", **headers: str) -> Any:
    given = {
        "host": "ops.example",
        "accept": "text/html",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    raw = [(k.encode(), v.encode()) for k, v in given.items()]
    return await acall(app.ops, method, path, body, raw, client=("10.0.0.9", 5))


def headers_of(answer: Any) -> dict[str, str]:
    return dict(answer.headers)


# ── pages ──


async def test_a_page_has_no_inline_script_or_style_and_asks_nobody_else(tmp_path: Path) -> None:
    async with looking(shop(), tmp_path) as looks:
        answer = await looks.ask("/services")
        markup = answer.body.decode()
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=|<style", markup)
    assert not re.search(r"(src|href)=.(https?:)?//", markup)
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"


async def test_files_of_the_dashboard_may_be_kept_and_change_their_address_with_their_content(
    tmp_path: Path,
) -> None:
    async with looking(shop(), tmp_path, token=TOKEN) as looks:
        for name in (*SCRIPTS, *STYLES, "icon.svg"):
            found = await ask(looks.app, f"/static/any/{name}")
            assert found.status == 200
            assert "immutable" in headers_of(found)["cache-control"]
        for wrong in ("__init__.py", "../page.py", "htmx.LICENSE", "none.js", "%2e%2e%2fpage.py"):
            assert (await ask(looks.app, f"/static/any/{wrong}")).status == 404


def test_everything_a_page_loads_is_small_and_what_is_not_ours_has_its_licence() -> None:
    assert sum(len(found[0]) for name in (*SCRIPTS, *STYLES) if (found := read(name))) < 200_000
    for name in ("htmx", "idiomorph", "uPlot"):
        assert (_FOLDER / f"{name}.LICENSE").is_file()


async def test_scripts_get_json_where_people_get_a_page(tmp_path: Path) -> None:
    async with looking(shop(), tmp_path) as looks:
        assert "text/html" in (await looks.ask("/policies")).headers["content-type"]
        answer = await ask(looks.app, "/policies", accept="*/*", host="localhost")
        assert headers_of(answer)["content-type"] == "application/json"


async def test_every_page_answers_on_an_app_that_nobody_has_asked_anything(tmp_path: Path) -> None:
    async with looking(shop(), tmp_path) as looks:
        front = looks.app.assembly.ops.front
        assert isinstance(front, Dashboard)
        for page in front.pages:
            if page.present() and "{" not in page.path:
                markup = await looks.page(page.path)
                assert len(markup) < 60_000
                for part in page.parts:
                    assert (await looks.ask(page.path, part=part)).status == 200, (page.path, part)
        for path in ("/operations/shop.book", "/services/shop"):
            await looks.page(path)


async def test_what_is_not_there_is_said_with_the_nearest_name(tmp_path: Path) -> None:
    async with looking(shop(), tmp_path) as looks:
        for path in ("/operations/shop.bok", "/services/shp", "/traces/0123"):
            assert (await looks.ask(path)).status == 404
        assert "Did you mean" in (await looks.ask("/operations/shop.bok")).body.decode()
        # Beyond the dashboard, all that there is at the operations listener is named, its pages too.
        known = (await looks.ask("/nowhere")).body.decode()
        assert "There is no page /nowhere." in known
        assert "/traces" in known
        assert "/metrics" in known


WRONG = (
    ("/traces?window=99x", 400, "window is one of 15m, 1h, 6h, 24h, 7d, and not &#x27;99x&#x27;."),
    ("/traces?why=%3Cscript%3E", 400, "why is one of failed, slow, first, sampled"),
    ("/traces?slower=nan", 400, "slower is a number of seconds"),
    ("/traces?slower=inf", 400, "slower is a number of seconds"),
    ("/traces?before=-1", 400, "before is a number"),
    ("/traces?before=" + "9" * 300, 400, "is no place in a list"),
    ("/traces?part=listed&before=x", 400, "is no place in a list"),
    ("/traces/%00", 404, "is no id of a trace"),
    ("/logs?trace_id=%00", 404, "is no id of a trace"),
    ("/logs?level=loud", 400, "level is one of debug"),
    ("/settings?only=mine", 400, "only is one of set"),
    ("/mailbox?from=-1", 400, "from is a number"),
    ("/services/%3Cscript%3Ealert(1)", 404, "&lt;script&gt;"),
)


async def test_what_a_page_cannot_mean_is_said_and_nothing_else_is_shown_instead(tmp_path: Path) -> None:
    async with looking(shop(), tmp_path) as looks:
        for path, status, said in WRONG:
            answer = await ask(looks.app, path, host="localhost")
            markup = answer.body.decode()
            assert answer.status == status, path
            assert said in markup, path
            assert "<script>" not in markup
            assert len(markup) < 10_000


async def test_pages_of_what_is_kept_say_why_nothing_is(tmp_path: Path) -> None:
    async with looking(shop(), tmp_path / "off") as looks:
        assert "telemetry.store is false" in await looks.page("/")
    async with looking(shop(), tmp_path / "on", telemetry__store=True) as looks:
        store = looks.app.assembly.telemetry.store
        assert store is not None
        store.writer.stop()
        assert 'role="note"' not in await looks.page("/logs")
        store.writer.sentence = "Telemetry is not kept: the disk is <full>."
        for path in ("/", "/traces", "/logs"):
            assert "Telemetry is not kept: the disk is &lt;full&gt;." in await looks.page(path)
        assert "is &lt;full&gt;" in (await looks.ask("/", part="untold")).body.decode()


async def test_a_page_that_fails_says_so_and_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with looking(shop(), tmp_path) as looks:

        async def broken(*_: Any) -> Any:
            raise ZeroDivisionError("secret detail")

        monkeypatch.setattr("tenfold.dashboard.pages.services.Services.body", broken)
        answer = await looks.ask("/services")
    assert answer.status == 500
    assert "This page failed: ZeroDivisionError" in answer.body.decode()
    assert "secret detail" not in answer.body.decode()
    assert any("page /services failed" in record.getMessage() for record in caplog.records)


def test_the_first_page_that_fits_is_found_with_its_parameters() -> None:
    class P:
        def __init__(self, path: str) -> None:
            self.path = path

    router = Router([P("/jobs"), P("/jobs/{id}"), P("/files/{name:path}")])  # type: ignore[list-item]
    found = router.find("/jobs/a%2Fb")
    assert found is not None
    assert (found[0].path, found[1]) == ("/jobs/{id}", {"id": "a/b"})
    assert router.find("/jobs/1/2") is None
    assert router.find("/jobs.x") is None
    assert (router.find("/files/a/b") or (None, {}))[1] == {"name": "a/b"}


# ── the door ──


async def test_a_stranger_is_asked_who_they_are_and_comes_back_to_where_they_wanted(tmp_path: Path) -> None:
    async with looking(shop(), tmp_path, token=TOKEN) as looks:
        app = looks.app
        first = await ask(app, "/operations?text=book")
        assert (first.status, headers_of(first)["location"]) == (
            303,
            "/sign-in?next=%2Foperations%3Ftext%3Dbook",
        )
        assert "password" in (await ask(app, "/sign-in?next=/operations")).body.decode()
        wrong = await ask(app, "/sign-in", method="POST", body=urlencode({"token": "wrong"}).encode())
        assert wrong.status == 401
        assert "set-cookie" not in headers_of(wrong)
        form = urlencode({"token": TOKEN, "next": "/operations?text=book"}).encode()
        right = await ask(app, "/sign-in", method="POST", body=form)
        assert (right.status, headers_of(right)["location"]) == (303, "/operations?text=book")
        cookie = headers_of(right)["set-cookie"]
        assert TOKEN not in cookie
        assert "HttpOnly" in cookie
        inside = await ask(app, "/operations", cookie=cookie.partition(";")[0])
        assert inside.status == 200
        assert "Sign out" in inside.body.decode()
        out = await ask(app, "/sign-out", method="POST", cookie=cookie.partition(";")[0])
        assert "Max-Age=0" in headers_of(out)["set-cookie"]


async def test_a_token_in_the_address_becomes_a_cookie_and_leaves_the_address(tmp_path: Path) -> None:
    async with looking(shop(), tmp_path, token=TOKEN) as looks:
        answer = await ask(looks.app, f"/services?token={TOKEN}&window=1h")
        assert (answer.status, headers_of(answer)["location"]) == (303, "/services?window=1h")
        assert "tenfold_ops=" in headers_of(answer)["set-cookie"]


@pytest.mark.parametrize(
    "onward", ["//evil.example", "https://evil.example", "/\\evil.example", "", "/a\nSet-Cookie: x"]
)
def test_signing_in_leads_nowhere_else(onward: str) -> None:
    assert signing.safe(onward) == "/"


@pytest.mark.parametrize("how", ["sign-in", "bearer", "query"])
async def test_a_token_is_not_found_by_trying(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is sent: after twenty wrong ones in a minute the right one is refused, too, from there and only there."""
    monkeypatch.setattr(signing, "PAUSE_S", 0.0)

    async def attempt(app: App, token: str) -> Any:
        if how == "sign-in":
            return await ask(app, "/sign-in", method="POST", body=urlencode({"token": token}).encode())
        if how == "query":
            return await ask(app, f"/metrics?token={token}", accept="*/*")
        return await ask(app, "/metrics", accept="*/*", authorization=f"Bearer {token}")

    async with looking(shop(), tmp_path, token=TOKEN) as looks:
        inside = await ask(looks.app, f"/operations?token={TOKEN}")
        cookie = headers_of(inside)["set-cookie"].partition(";")[0]
        assert {(await attempt(looks.app, f"wrong-{n}")).status for n in range(20)} <= {401, 429}
        refused = await attempt(looks.app, TOKEN)
        assert refused.status == 401 if how == "sign-in" else 429
        assert "Too many wrong tokens" in refused.body.decode()
        assert (await ask(looks.app, "/operations", cookie=cookie)).status == 200
        raw = [(b"host", b"ops.example"), (b"authorization", f"Bearer {TOKEN}".encode())]
        other = await acall(looks.app.ops, "GET", "/metrics", b"", raw, client=("10.0.0.10", 5))
        assert other.status == 200
        doors = looks.app.assembly.ops.doors
        begun, count = doors._guesses._wrong["10.0.0.9"]
        doors._guesses._wrong["10.0.0.9"] = (begun - 60.0, count)
        assert (await attempt(looks.app, TOKEN)).status in (200, 303)


async def test_a_network_of_ipv6_has_no_more_tries_than_an_address() -> None:
    guesses = Guesses(ManualClock())
    for n in range(20):
        assert not guesses.too_many(address_of({"client": ("2001:db8::1", 1)}))
        guesses.wrong(address_of({"client": (f"2001:db8::{n:x}", 1)}))
    assert guesses.too_many(address_of({"client": ("2001:db8::ffff", 1)}))
    assert not guesses.too_many(address_of({"client": ("2001:db8:0:1::1", 1)}))


async def test_nothing_that_a_page_of_another_site_sends_is_done(tmp_path: Path) -> None:
    """Without a token nobody has to say who they are, and a simple POST needs nobody's leave."""
    async with looking(shop(), tmp_path) as looks:
        for method, path in (
            ("POST", "/grow/prepare"),
            ("PUT", "/policies/shop.book.limit"),
            ("POST", "/alerts?action=hush"),
        ):
            for says in ({"origin": "https://evil.example"}, {"sec_fetch_site": "cross-site"}):
                answer = await ask(looks.app, path, method=method, body=b"{}", host="127.0.0.1:8001", **says)
                assert answer.status == 403
                assert "another site" in answer.body.decode()


async def test_a_name_that_points_here_does_not_lead_in(tmp_path: Path) -> None:
    async with looking(shop(), tmp_path) as looks:
        for host in ("evil.example", "127.0.0.1.evil.example:8001", "localhost.evil.example", "10.0.0.1"):
            for path in ("/", "/metrics", "/policies"):
                assert (await ask(looks.app, path, host=host)).status == 403


async def test_accounts_sign_in_with_the_role_that_the_settings_give_theirs(tmp_path: Path) -> None:
    app = shop()
    import sqlalchemy as sa

    from tenfold.security.passwords import Cost

    db = app.services[0].database(sa.MetaData())
    app.auth = accounts = Accounts(db, password_cost=Cost(memory_kib=64, iterations=1))
    async with looking(
        app, tmp_path, token=TOKEN, ops__operators=["admin"], ops__readers=["support"]
    ) as looks:
        for name, roles in (("ann", ["admin"]), ("bob", ["support"]), ("eve", [])):
            made = await accounts.register(f"{name}@example.org", f"correct-horse-{name}")
            await accounts.set_roles(made.id, roles)
        seen = {}
        for name in ("ann", "bob", "eve"):
            form = urlencode({"email": f"{name}@example.org", "password": f"correct-horse-{name}"}).encode()
            answer = await ask(app, "/sign-in", method="POST", body=form)
            seen[name] = answer.status
            if answer.status == 303:
                page = await ask(
                    app, "/operations/shop.book", cookie=headers_of(answer)["set-cookie"].partition(";")[0]
                )
                seen[name] = "operates" if f"{name}@example.org · operates" in page.body.decode() else "reads"
        assert seen == {"ann": "operates", "bob": "reads", "eve": 401}
    assert looks is not None


# ── acting ──


async def test_a_reader_sees_the_buttons_switched_off_and_cannot_act_by_hand_either(tmp_path: Path) -> None:
    async with looking(shop(), tmp_path, token=TOKEN, ops__read_token=READER) as looks:
        reader = Looks(looks.app, READER)
        page = await reader.page("/operations/shop.book")
        assert re.search(r"<button[^>]*disabled[^>]*>Send</button>", page)
        status, said = await reader.act("/operations/shop.book", "send", **{"p.number": "1"})
        assert (status, said) == (403, "You may read here, not operate.")


@pytest.mark.parametrize(
    "wrong",
    [
        {},  # a form of another page cannot send the header
        {"hx_request": "true", "origin": "https://evil.example"},
        {"hx_request": "true", "sec_fetch_site": "cross-site"},
        {"hx_request": "true", "sec_fetch_site": "same-site"},
    ],
)
async def test_an_action_that_another_site_sends_is_refused(
    tmp_path: Path, wrong: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async with looking(shop(), tmp_path) as looks:
        path = "/operations/shop.book?action=send"
        answer = await ask(looks.app, path, method="POST", body=b"p.number=1", host="localhost:8001", **wrong)
    assert answer.status == 403


async def test_every_action_is_written_down_without_what_is_private(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="tenfold.audit")
    async with looking(shop(), tmp_path) as looks:
        fields = {"p.number": "7", "headers": "Authorization: Bearer s3cret"}
        path = "/operations/shop.book?action=send"
        answer = await ask(
            looks.app,
            path,
            method="POST",
            body=urlencode(fields).encode(),
            host="localhost:8001",
            hx_request="true",
        )
        assert answer.status == 200
        await looks.act("/operations/shop.book", "explode")
    lines = [record.__dict__["fields"] for record in caplog.records if record.name == "tenfold.audit"]
    assert [(line["who"], line["action"], line["outcome"]) for line in lines] == [
        ("this machine", "send", "done"),
        ("this machine", "explode", "refused"),
    ]
    assert lines[0]["fields"] == {"p.number": "7"}
    assert "s3cret" not in str(lines)


async def test_the_explorer_sends_a_real_request_and_shows_what_came_back(tmp_path: Path) -> None:
    async with looking(shop(), tmp_path) as looks:
        path = "/operations/shop.book?action=send"
        local = {"host": "localhost:8001", "hx_request": "true"}
        body = urlencode({"p.number": "7", "q.loud": "true"}).encode()
        shown = (await ask(looks.app, path, method="POST", body=body, **local)).body.decode()
        assert ">200</span>" in shown
        assert "&quot;number&quot;: 7" in shown
        assert "/traces/" in shown
        missing = await ask(looks.app, path, method="POST", body=b"", **local)
        assert missing.status == 422
        assert "The path needs number." in missing.headers["hx-trigger"]
        wrong = await ask(looks.app, path, method="POST", body=b"p.number=x", **local)
        assert ">422</span>" in wrong.body.decode()
        stats = looks.app.assembly.telemetry.registry
        assert any(family.name == "tenfold_http_requests" for family in stats.collect())


async def test_the_explorer_waits_for_a_slow_answer_and_not_for_the_end_of_a_stream_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch over long requests asks whether the client is still there: the explorer is, until it has seen enough."""
    service = Service("slow", auth=public)

    @service.get("/late")
    async def late() -> str:
        await asyncio.sleep(TICK_S * 8)
        return "at last"

    @service.get("/ticks")
    async def ticks() -> Stream:
        async def pieces() -> AsyncGenerator[bytes]:
            while True:
                yield b"tick "
                await asyncio.sleep(TICK_S / 5)

        return Stream(pieces())

    monkeypatch.setattr(explorer, "STREAM_S", TICK_S * 4)
    async with looking(App("slow", [service]), tmp_path) as looks:
        async with asyncio.timeout(20):
            answered = await explorer.send(looks.app, "GET", "/late")
            streamed = await explorer.send(looks.app, "GET", "/ticks")
    assert (answered.status, answered.body) == (200, '"at last"')
    assert streamed.status == 200
    assert streamed.body.startswith("tick tick ")
