"""Streams and server-sent events: order, framing, heartbeats, and the source's end when the client leaves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import msgspec
import pytest
from http_requests import header_of, request, sent

from tenfold.http.stream import Event, EventStream, Stream, last_event_id


class Progress(msgspec.Struct):
    done: int


async def letters() -> AsyncIterator[str | bytes]:
    yield "é"
    yield b"b"


def test_a_stream_sends_text_and_bytes_in_order() -> None:
    stream = Stream(letters(), "text/plain; charset=utf-8", 202)
    assert asyncio.run(sent(stream)) == "éb".encode()
    assert (stream.status, header_of(stream, "content-type")) == (202, "text/plain; charset=utf-8")


def test_a_plain_iterator_runs_outside_of_the_event_loop() -> None:
    threads: set[int] = set()

    def source() -> Iterator[bytes]:
        for piece in (b"a", b"b"):
            threads.add(threading.get_ident())
            yield piece

    assert asyncio.run(sent(Stream(source()))) == b"ab"
    assert threading.get_ident() not in threads


def test_a_source_error_reaches_the_entry() -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"a"
        raise RuntimeError("lost the database")

    with pytest.raises(RuntimeError, match="lost the database"):
        asyncio.run(sent(Stream(source())))
    with pytest.raises(RuntimeError, match="lost the database"):
        asyncio.run(sent(EventStream(source())))


@pytest.mark.parametrize("make", [Stream, EventStream])
def test_closing_early_runs_the_clean_up_of_the_source(make: type[Stream] | type[EventStream[bytes]]) -> None:
    ended: list[str] = []

    async def source() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"1"
        finally:
            await asyncio.sleep(0)
            ended.append("closed")

    async def leave() -> None:
        response = make(source())
        async with aclosing(response.chunks(request())) as chunks:  # type: ignore[type-var]
            await anext(chunks)
        await response.close()

    asyncio.run(leave())
    assert ended == ["closed"]


def test_a_plain_generator_is_closed_too() -> None:
    ended: list[str] = []

    def source() -> Iterator[bytes]:
        try:
            while True:
                yield b"1"
        finally:
            ended.append("closed")

    async def leave() -> None:
        response = Stream(source())
        await anext(response.chunks(request()))
        await response.close()

    asyncio.run(leave())
    assert ended == ["closed"]


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        (Event({"a": "x\ny"}), b'data: {"a":"x\\ny"}\n\n'),
        (
            Event(Progress(3), event="progress", id="7", retry_ms=100),
            b'event: progress\nid: 7\nretry: 100\ndata: {"done":3}\n\n',
        ),
        (Event(None), b"data: null\n\n"),
    ],
)
def test_an_event_on_the_wire(event: Event, wire: bytes) -> None:
    assert event.encode() == wire


@pytest.mark.parametrize("event", [Event(1, event="a\nb"), Event(1, id="a\rb"), Event(1, id="\0")])
def test_an_event_cannot_smuggle_another(event: Event) -> None:
    with pytest.raises(ValueError, match="line break"):
        event.encode()


def test_plain_values_become_events() -> None:
    async def source() -> AsyncIterator[Progress | Event]:
        yield Progress(1)
        yield Event(Progress(2), id="2")

    stream = EventStream(source())
    assert asyncio.run(sent(stream)) == b'data: {"done":1}\n\nid: 2\ndata: {"done":2}\n\n'
    assert header_of(stream, "content-type") == "text/event-stream"
    assert header_of(stream, "cache-control") == "no-store"


def test_silence_is_filled_with_comments_and_loses_no_event() -> None:
    async def talk() -> None:
        go = asyncio.Event()

        async def source() -> AsyncIterator[int]:
            await go.wait()
            yield 1

        response = EventStream(source(), heartbeat_s=0.001)
        chunks = response.chunks(request())
        assert [await anext(chunks) for _ in range(3)] == [b": \n\n"] * 3
        go.set()
        rest = [chunk async for chunk in chunks]
        assert [chunk for chunk in rest if chunk != b": \n\n"] == [b"data: 1\n\n"]
        await response.close()

    asyncio.run(talk())


def test_the_source_runs_in_one_task_so_that_its_time_outs_may_span_yields() -> None:
    async def source() -> AsyncIterator[int]:
        async with asyncio.timeout(60), asyncio.TaskGroup():
            for n in range(3):
                yield n

    assert asyncio.run(sent(EventStream(source()))).count(b"data") == 3


def test_a_slow_client_holds_the_source_back() -> None:
    made: list[int] = []

    async def source() -> AsyncIterator[int]:
        for n in range(100):
            made.append(n)
            yield n

    async def read_one() -> None:
        response = EventStream(source())
        await anext(response.chunks(request()))
        for _ in range(50):
            await asyncio.sleep(0)
        await response.close()

    asyncio.run(read_one())
    assert len(made) <= 3


def test_a_reconnecting_client_says_what_it_saw() -> None:
    assert last_event_id(request(last_event_id="42")) == "42"
    assert last_event_id(request()) == ""
