"""G25: who is slow, or does not read, is cut off; who comes in numbers makes room."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.cluster import eventually
from support.hostile import Raw, served
from support.hostile_app import GET, made, service
from support.trials import Trials
from tenfold.runtime import connections

pytestmark = pytest.mark.anyio


async def test_who_does_not_send_a_whole_head_gets_408(tmp_path: Path) -> None:
    """Nothing at all, half a line, a header now and then, empty lines."""
    begun = {
        b"": b"",
        b"GET /plain HT": b"",
        b"GET /plain HTTP/1.1\r\nHost: x\r\n": b"x-a: b\r\n",
        b"\r\n": b"\r\n",
    }
    async with served(tmp_path, service, http__header_timeout_s=0.3) as (port, _):
        slow = [(await Raw.to(port, sent), then) for sent, then in begun.items()]
        asked = asyncio.gather(*(one.problem() for one, _ in slow))
        while not asked.done():
            for one, then in slow:
                one.send(then)
            await asyncio.sleep(0.02)
        said = "The request line and headers did not arrive within 0.3 s (http.header_timeout_s)."
        assert await asked == [(408, said)] * 4
        assert all([await one.ended() for one, _ in slow])


async def test_also_the_second_head_of_a_connection_has_a_deadline(tmp_path: Path) -> None:
    async with served(tmp_path, service, http__header_timeout_s=0.3) as (port, _):
        slow = await Raw.to(port, GET + b"GET /pl")
        assert (await slow.answer())[0] == 200
        assert (await slow.problem())[0] == 408


async def test_a_body_is_waited_for_as_long_as_it_comes_at_the_slowest_rate(tmp_path: Path) -> None:
    slowest: dict[str, Any] = {"http__body_timeout_s": 0.2, "http__bytes_per_s_min": 1000}
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\n"
    async with served(tmp_path, service, **slowest) as (port, _):
        steady, slow = await Raw.to(port, head), await Raw.to(port, head + b"x" * 20)
        for _ in range(8):  # longer than body_timeout_s altogether
            steady.send(b"x" * 50)
            await asyncio.sleep(0.05)
        assert (await steady.answer())[::2] == (200, b"400")
        status, detail = await slow.problem()
        assert status == 408
        assert "20 bytes had come" in detail
        assert "http.body_timeout_s" in detail


async def test_the_rest_of_a_body_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    async with served(tmp_path, service, http__body_timeout_s=0.3) as (port, _):
        slow = await Raw.to(port, b"GET /plain HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\n")
        assert (await slow.answer())[0] == 200
        assert await slow.ended()


async def test_who_takes_neither_stream_nor_answer_is_cut_off(tmp_path: Path) -> None:
    async with served(tmp_path, service, http__write_timeout_s=0.4) as (port, listener):
        await Raw.to(port, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n", receive_buffer=4096)
        await Raw.to(port, b"GET /large?kib=20000 HTTP/1.1\r\nHost: x\r\n\r\n", receive_buffer=4096)
        await Raw.to(
            port,
            b"GET /large?kib=20000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            receive_buffer=4096,
        )
        await eventually(lambda: bool(listener.connections.all))
        await eventually(lambda: not listener.connections.all and bool(made["ended"]))
        assert listener.connections.unsent_bytes == 0


async def test_a_stream_is_made_no_faster_than_it_is_read(tmp_path: Path) -> None:
    async with served(tmp_path, service) as (port, listener):
        reader = await Raw.to(port, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n", receive_buffer=4096)
        await reader.reader.readexactly(1000)
        await eventually(lambda: bool(listener.connections.unsent))
        stalled = made["pieces"]
        await asyncio.sleep(0.1)
        assert made["pieces"] == stalled
        assert 65_536 < listener.connections.unsent_bytes < 200_000
        families = listener.app.assembly.telemetry.registry.collect()
        shown = {
            family.name: family.samples[0].value
            for family in families
            if family.name.startswith("tenfold_conn")
        }
        assert (shown["tenfold_connections_open"], shown["tenfold_connections_stalled"]) == (1, 1)
        await reader.reader.readexactly(6_000_000)
        assert made["pieces"] > stalled
        reader.abort()
        await eventually(lambda: bool(made["ended"]))


async def test_clients_that_do_not_read_share_a_bound_and_the_one_that_has_stalled_longest_goes(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, service, http__buffered_max_bytes=25_000_000) as (port, listener):
        asked = b"GET /large?kib=16000 HTTP/1.1\r\nHost: x\r\n\r\n"
        first = await Raw.to(port, asked, receive_buffer=4096)
        await eventually(lambda: bool(listener.connections.unsent))
        second = await Raw.to(port, asked, receive_buffer=4096)
        assert await first.cut()
        assert len((await second.answer())[2]) == 16_384_000
        assert listener.connections.unsent_bytes == 0


# ── number ──


async def test_beyond_the_number_of_connections_the_slowest_make_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path, service, http__connections_max=10) as (port, _):
        silent = [await Raw.to(port) for _ in range(10)]
        await asyncio.sleep(0.6)
        good = []
        for _ in range(20):
            good.append(await Raw.to(port, GET))
            assert (await good[-1].answer())[0] == 200
        assert all([await slow.cut() for slow in silent])
        said = [record.getMessage() for record in caplog.records if "connections_max" in record.getMessage()]
        assert 1 <= len(said) <= 2
        assert "all 10 places are taken (http.connections_max)" in said[0]


async def test_when_all_connections_are_busy_the_newcomer_is_told(tmp_path: Path) -> None:
    async with served(tmp_path, service, http__connections_max=2) as (port, _):
        busy = [
            await Raw.to(port, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n", receive_buffer=4096)
            for _ in range(2)
        ]
        for one in busy:
            await one.reader.readexactly(100)
        status, detail = await (await Raw.to(port)).problem()
        assert status == 503
        assert "All 2 connections" in detail
        assert "http.connections_max" in detail
        for one in busy:
            one.abort()


async def test_a_flood_of_pipelined_requests_is_held_as_bytes_and_answered_in_order(tmp_path: Path) -> None:
    """A thousand requests of which none can be answered at once; as objects they would be megabytes."""
    asked = b"".join(b"GET /find/%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(1000))
    async with served(tmp_path, service) as (port, listener):
        client = await Raw.to(port, asked)
        longest = 0
        for n in range(1000):
            assert (await client.answer())[2] == b'"%d"' % n
            longest = max(longest, *(len(each.pipeline) for each in listener.connections.all))  # type: ignore[attr-defined]
        assert 0 < longest <= 200


async def test_a_pipelined_body_arrives_whole_however_much_is_sent_ahead(tmp_path: Path) -> None:
    post = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n" + b"x" * 30_000
    async with served(tmp_path, service) as (port, _):
        client = await Raw.to(port, (GET + post) * 20 + GET)
        for _ in range(20):
            assert (await client.answer())[2] == b"1"
            assert (await client.answer())[2] == b"30000"
        assert (await client.answer())[2] == b"1"


# ── many ──


async def slowloris(port: int, many: int) -> list[Raw]:
    """Heads that never end, bodies that never come, answers that nobody reads: a third each."""
    kinds = (
        b"GET /plain HTTP/1.1\r\nHost: x\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx",
        b"GET /large?kib=300 HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    return [await Raw.to(port, kinds[n % 3], receive_buffer=4096) for n in range(many)]


async def test_five_hundred_slow_sockets_wake_nobody(tmp_path: Path, trials: Trials) -> None:
    """Judged by what runs: good requests cause as many readings and writings beside them as alone, and no timer is
    theirs."""
    async with served(tmp_path, service) as (port, listener):
        good = await Raw.to(port)
        alone, timers = await io_of(good, 50)
        slow = await slowloris(port, 501)
        await eventually(
            lambda: len(listener.connections.all) >= 502 and len(listener.connections.fresh) <= 167
        )
        # The last of them may still be on their way in during the first look.
        beside, timers_beside = min([await io_of(good, 50) for _ in range(3)])
        for one in slow:
            one.abort()
    trials("G25", 501, "slow sockets beside good requests")
    assert beside <= alone * 1.2
    assert timers_beside <= timers + 5


async def io_of(client: Raw, many: int) -> tuple[int, int]:
    """How often the loop found a socket ready in so many requests (the median of three), and how many timers it has."""
    loop: Any = asyncio.get_running_loop()
    run, counts = asyncio.Handle._run, []
    for _ in range(3):
        ran = 0

        def counted(handle: asyncio.Handle) -> None:
            nonlocal ran
            ran += getattr(handle._callback, "__name__", "").endswith("_ready")  # type: ignore[attr-defined]
            run(handle)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.Handle, "_run", counted)
            for _ in range(many):
                client.send(GET)
                assert (await client.answer())[0] == 200
        counts.append(ran)
    return sorted(counts)[1], sum(not timer.cancelled() for timer in loop._scheduled)


# ── a broken variant ──


async def test_a_build_without_a_deadline_for_heads_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "verdict", lambda *_: connections.Verdict.NOTHING)
    async with served(tmp_path, service, http__header_timeout_s=0.1) as (port, _):
        slow = await Raw.to(port, b"GET /plain HT")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await slow.problem()
