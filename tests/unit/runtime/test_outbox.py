"""Answers that are ready in one turn of the event loop are sent together, and none later than by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.cluster import eventually
from support.connector import Connector, Wire
from tenfold import App, Service, public
from tenfold.runtime.exchange import Exchange

pytestmark = pytest.mark.anyio


class Story(Connector):
    """Tells in which order handlers ran and answers were sent."""

    def __init__(self, app: App, told: list[str], release: asyncio.Event) -> None:
        super().__init__(app)
        self.told, self.release = told, release


@asynccontextmanager
async def story(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Story]:
    service, told, release = Service("story", auth=public), list[str](), asyncio.Event()

    @service.get("/now/{name}")
    async def now(name: str) -> str:
        told.append(f"ran {name}")
        return name

    @service.get("/later/{name}")
    async def later(name: str) -> str:
        told.append(f"waits {name}")
        await release.wait()
        return name

    finish = Exchange.finish

    def told_finish(exchange: Exchange, answer: tuple[int, list[tuple[bytes, bytes]], bytes, None]) -> None:
        name = answer[2].decode().strip('"')
        if name == "broken" and "broken" not in told:
            told.append("broken")
            raise ValueError("it cannot be written")
        told.append(f"sent {name}" if name in "abcd" else f"sent {answer[0]}")
        finish(exchange, answer)

    monkeypatch.setattr(Exchange, "finish", told_finish)
    app = App("story", [service])
    app.configure(environ={}, app__data_dir=str(folder))
    async with app.lifespan():
        yield Story(app, told, release)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def answered(*wires: Wire) -> None:
    await eventually(lambda: all(wire.status for wire in wires))


async def test_what_begins_in_one_turn_is_sent_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with story(tmp_path, monkeypatch) as it:
        wires = it.send(get("/now/a"), get("/now/b"), get("/now/c"))
        await asyncio.sleep(0)
        assert [wire.status for wire in wires] == [200, 200, 200], "in the same turn in which they ran"
        assert it.told == ["ran a", "ran b", "ran c", "sent a", "sent b", "sent c"]


async def test_when_the_last_has_to_wait_the_others_are_sent_before_the_next_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with story(tmp_path, monkeypatch) as it:
        first = it.send(get("/now/a"), get("/later/b"))
        await asyncio.sleep(0)
        assert it.told == ["ran a", "waits b"]
        (next_one,) = it.send(get("/now/c"))
        assert it.told == ["ran a", "waits b", "sent a"], "before anything of the next turn runs"
        await answered(first[0], next_one)
        it.release.set()
        await answered(*first)
        assert it.told == ["ran a", "waits b", "sent a", "ran c", "sent c", "sent b"]


async def test_when_the_last_has_to_wait_and_nobody_comes_the_others_are_sent_in_the_next_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with story(tmp_path, monkeypatch) as it:
        wires = it.send(get("/now/a"), get("/now/b"), get("/later/c"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [wire.status for wire in wires] == [200, 200, 0]
        it.release.set()
        await answered(*wires)


async def test_a_request_alone_is_answered_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with story(tmp_path, monkeypatch) as it:
        (wire,) = it.send(get("/now/a"))
        await asyncio.sleep(0)
        assert wire.status == 200


async def test_an_answer_that_cannot_be_sent_is_a_500_and_no_other_s_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with story(tmp_path, monkeypatch) as it:
        wires = it.send(get("/now/a"), get("/now/broken"), get("/now/c"))
        await answered(*wires)
        assert [wire.status for wire in wires] == [200, 500, 200]
        assert "an answer of story.now failed" in caplog.text


async def test_who_goes_away_before_the_answer_is_sent_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with story(tmp_path, monkeypatch) as it:
        protocol, gone = it.connect()
        protocol.data_received(get("/now/a"))
        others = it.send(get("/now/b"), get("/later/c"))
        await asyncio.sleep(0)
        protocol.connection_lost(None)
        await answered(others[0])
        it.release.set()
        await answered(*others)
        assert gone.status == 0
