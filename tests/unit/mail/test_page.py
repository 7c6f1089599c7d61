"""The mailbox of a development app, at the operations listener."""

from __future__ import annotations

from pathlib import Path

import pytest
from http_calls import Answer, acall

from tenfold import App, Mailer, Service

pytestmark = pytest.mark.anyio


async def shown(tmp_path: Path, *paths: str, send: bool = True) -> list[Answer]:
    service = Service("a")

    @service.on_start
    async def write(mailer: Mailer) -> None:
        if send:
            await mailer.send("ann@example.com", "<b>Hi</b>", "1 < 2", html="<p>1 &lt; 2</p>")

    app = App("test", [service])
    app.configure(environ={}, app__data_dir=str(tmp_path))
    async with app.lifespan():
        [*found] = (tmp_path / "mailbox").glob("*.eml")
        id_ = found[0].stem if found else "none"
        scope = {"client": ("127.0.0.1", 1)}
        return [await acall(app.ops, "GET", path.replace("ID", id_), **scope) for path in paths]


async def test_mails_are_listed_and_shown_to_scripts(tmp_path: Path) -> None:
    listed, letter = await shown(tmp_path, "/mailbox", "/mailbox/ID")
    [entry] = listed.json
    assert (entry["subject"], entry["to"]) == ("<b>Hi</b>", "ann@example.com")
    assert (letter.json["id"], letter.json["text"].strip()) == (entry["id"], "1 < 2")
    assert {a.headers["content-type"] for a in (listed, letter)} == {"application/json"}


async def test_the_html_part_is_served_alone_and_cannot_run_scripts(tmp_path: Path) -> None:
    [html] = await shown(tmp_path, "/mailbox/ID/html")
    assert (html.status, html.body.strip()) == (200, b"<p>1 &lt; 2</p>")
    assert "sandbox" in html.headers["content-security-policy"]


async def test_what_does_not_exist_is_404(tmp_path: Path) -> None:
    paths = ("/mailbox/20260101-nothing", "/mailbox/..%2Fsecret", "/mailbox/ID/other")
    assert [a.status for a in await shown(tmp_path, *paths)] == [404] * 3


async def test_an_empty_mailbox_lists_nothing(tmp_path: Path) -> None:
    [listed] = await shown(tmp_path, "/mailbox", send=False)
    assert listed.json == []
