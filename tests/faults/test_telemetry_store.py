"""The store of telemetry and what goes wrong around it: memory stays bounded, what is lost is counted and said in a
sentence, it goes on by itself, and no request notices.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.asgi import serving
from support.telemetry_store import NOW, Kept, job, recording, request
from tenfold import App, Service, public
from tenfold._core.clock import ManualClock, SystemClock
from tenfold._core.sections import LogSettings
from tenfold.telemetry import clean
from tenfold.telemetry.contract import Span
from tenfold.telemetry.log import configure
from tenfold.telemetry.render import Line
from tenfold.telemetry.store import feed, schema
from tenfold.telemetry.store.feed import Feed
from tenfold.telemetry.store.records import LogFilter, Page, RequestSummary

DAY_S = 86_400


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.close()


def put(kept: Kept, count: int, at: float | None = None, **changes: Any) -> None:
    begin = kept.clock.now() if at is None else at
    for number in range(count):
        kept.feed.request(request(begin + number / 1000, **changes), fair=True)
    kept.turn()


def requests_of(kept: Kept) -> Page[RequestSummary]:
    return kept.ask(lambda records: records.requests(limit=1000))


def sentence(kept: Kept) -> str:
    return kept.ask(lambda records: records.status()).sentence


# ── the disk ──────────────────────────────────────────────────────────────────────────────────────


def test_a_full_disk_costs_what_came_meanwhile_and_is_over_when_it_is_over(kept: Kept) -> None:
    put(kept, 1)
    file = kept.writer._file
    pages = file.value("PRAGMA page_count")
    file.value(f"PRAGMA max_page_count = {pages + 2}")
    for _ in range(5):
        put(kept, 200, path="/" + "x" * 250)
        kept.pass_s(40)
    lost = kept.feed.dropped["request disk"]
    assert lost >= 400
    assert "is full" in sentence(kept)
    assert len(requests_of(kept).items) == 1001 - lost

    file.value("PRAGMA max_page_count = 1000000")
    kept.pass_s(40)
    put(kept, 1)
    assert sentence(kept) == ""
    assert len(requests_of(kept).items) == min(1000, 1002 - lost)
    assert file.value("PRAGMA integrity_check") == "ok"


def test_the_last_of_the_disk_is_left_to_the_app(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    put(kept, 1)

    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10 << 20))
    put(kept, 3)
    assert "has only 10 MiB left" in sentence(kept)
    assert kept.feed.dropped["request disk"] == 3
    monkeypatch.undo()
    kept.pass_s(2)
    put(kept, 1)
    assert (len(requests_of(kept).items), sentence(kept)) == (2, "")


def test_a_refused_turn_is_tried_less_and_less_often_and_told_once_a_minute(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[float] = []

    def refuse(_: object) -> None:
        tried.append(kept.clock.monotonic())
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    for _ in range(120):
        kept.turn()
        kept.pass_s(1)
    gaps = [b - a for a, b in pairwise(tried)]
    assert gaps[:5] == [1, 2, 4, 8, 16]
    assert max(gaps) == 30
    assert len(caplog.records) == 2
    assert "Permission denied" in caplog.messages[0]


@pytest.mark.parametrize("damage", ["garbage", "older version", "torn"])
def test_a_damaged_file_is_put_aside_and_a_new_one_begun(kept: Kept, tmp_path: Path, damage: str) -> None:
    put(kept, 300)
    kept.close()
    path = tmp_path / "telemetry.sqlite"
    if damage == "garbage":
        path.write_bytes(b"not a database at all" * 500)
    elif damage == "torn":
        whole = bytearray(path.read_bytes())
        whole[4096:] = b"\xff" * (len(whole) - 4096)
        path.write_bytes(bytes(whole))
    else:
        kept.writer._file.run(f"PRAGMA user_version = {schema.VERSION - 1}")
        kept.writer._file.close()
    again = Kept(tmp_path, ManualClock(NOW + 100))
    put(again, 2)
    assert "put aside" in again.writer.sentence
    assert again.feed.dropped["request damaged"] + again.feed.dropped["request version"] == 2
    put(again, 2)
    assert len(requests_of(again).items) == 2
    assert (tmp_path / "telemetry.sqlite.damaged").exists()
    again.close()


def test_a_file_of_a_newer_version_is_left_to_those_who_read_it(kept: Kept, tmp_path: Path) -> None:
    put(kept, 3)
    kept.writer._file.run(f"PRAGMA user_version = {schema.VERSION + 1}")
    older = Kept(tmp_path, instance="older")
    put(older, 2)
    assert "made by a newer Tenfold" in older.writer.sentence
    assert older.feed.dropped["request version"] == 2
    assert not (tmp_path / "telemetry.sqlite.damaged").exists()
    assert kept.writer._file.value("SELECT count(*) FROM request") == 3
    older.close()


def test_of_two_who_find_the_same_damage_the_second_uses_what_the_first_began(
    kept: Kept, tmp_path: Path
) -> None:
    other = Kept(tmp_path, ManualClock(NOW + 50), instance="two")
    put(kept, 1)
    put(other, 1)
    kept.writer._file.begin_anew()  # both have the old file open, and the first puts it aside
    put(kept, 5)
    other.writer._file.begin_anew()
    put(other, 2)
    assert len(requests_of(kept).items) == 7
    other.close()


def test_who_has_the_old_file_open_goes_on_in_the_new_one(kept: Kept, tmp_path: Path) -> None:
    put(kept, 1)
    for end in ("", "-wal", "-shm"):
        (tmp_path / f"telemetry.sqlite{end}").unlink(missing_ok=True)
    put(kept, 2, operation="shop.first")
    put(kept, 3, at=NOW + 9)
    assert [one.operation for one in requests_of(kept).items] == ["shop.get_item"] * 3 + ["shop.first"] * 2


def test_readers_follow_to_the_new_file(kept: Kept, tmp_path: Path) -> None:
    async def main() -> tuple[int, int]:
        kept.feed.request(request(), fair=True)
        kept.turn()
        before = len((await kept.store.records.requests()).items)
        kept.writer._file.begin_anew()
        kept.turn()
        kept.feed.request(request(NOW + 1), fair=True)
        kept.feed.request(request(NOW + 2), fair=True)
        kept.turn()
        return before, len((await kept.store.records.requests()).items)

    assert asyncio.run(main()) == (1, 2)


# ── the clock ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("jump_s", [400 * DAY_S, -400 * DAY_S, 3600, -3600])
def test_a_clock_that_jumps_removes_nothing_and_is_named(kept: Kept, jump_s: float) -> None:
    put(kept, 5)
    kept.pass_s(30)
    kept.clock.jump(jump_s)
    for _ in range(5):
        put(kept, 1)
        kept.read()
        kept.pass_s(30)
    assert len(requests_of(kept).items) == 10
    assert "clock jumped by" in sentence(kept)
    kept.clock.jump(-jump_s)
    for _ in range(3):
        kept.pass_s(30)
        kept.turn()
    assert sentence(kept) == ""
    # What a clock that was ahead left behind has gone, what is right stays.
    assert len(requests_of(kept).items) == (5 if jump_s == 400 * DAY_S else 10 if abs(jump_s) < DAY_S else 5)
    kept.registry.counter("things_total", "x").inc()
    for _ in range(30):
        kept.pass_s(5)
        kept.read()
    assert kept.writer._file.value("SELECT count(*) FROM point WHERE step = 60") > 0


# ── too much ──────────────────────────────────────────────────────────────────────────────────────


def waiting(of: Feed) -> int:
    return sum(map(len, (of._requests, of._jobs, of._logs, of._recordings, of._snapshots)))


def flooded(of: Feed) -> int:
    """Ten times of everything that there is room for, while nobody takes anything out; how much waits then."""
    for number in range(10 * ROOM):
        of.tick(1)
        of.request(request(NOW + number, path=f"/p/{number}"), fair=bool(number % 2))
        if of.wants_run("dead" if number % 2 else "done", number):
            of.job(job(NOW + number))
        of.line(Line(NOW, "info", f"line {number}", "x", {}))
        of.recording(recording(number=number + 1))
        of.snapshot(NOW, [])
    return waiting(of)


ROOM = 200


class Bottomless(Feed):
    """A broken build: nothing is bounded."""

    def _put(self, ring: deque[Any], item: Any, most: int, kind: str) -> bool:
        return super()._put(ring, item, sys.maxsize, kind)


@pytest.mark.parametrize("build", [Feed, Bottomless])
def test_while_nothing_is_written_memory_is_bounded_and_what_does_not_fit_is_counted(
    build: type[Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("REQUESTS", "JOBS", "LOGS", "RECORDINGS", "SNAPSHOTS"):
        monkeypatch.setattr(feed, f"{kind}_MAX", ROOM)
    time = iter(range(10**9))
    made = build(
        lambda: float(next(time)), requests_per_s=10_000, logs_per_s=10_000, traces_per_s=20, log_level="info"
    )
    waits = flooded(made)
    if build is Bottomless:
        assert waits > 5 * ROOM
        return
    assert waits <= 5 * ROOM
    for kind in ("request", "job", "log", "trace", "metrics"):
        assert made.dropped[f"{kind} queue full"] > 0, made.dropped


@pytest.mark.parametrize("paths", [10_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_paths_and_tenants_without_end_leave_nothing_behind_in_memory(kept: Kept, paths: int) -> None:
    for begun in range(0, paths, 5_000):
        for number in range(begun, begun + 5_000):
            kept.feed.request(
                request(NOW + number / 1000, path=f"/p/{number}", tenant=f"t{number}"), fair=True
            )
        kept.turn()
        kept.feed.tick(1)
    known = kept.writer._inserts.known
    assert (len(known._words), len(known._places), len(kept.writer.tail.paces)) == (0, 1, 1)
    assert len(kept.writer._inserts._clean._known) <= clean.KNOWN_MAX
    assert kept.ask(lambda records: records.status()).rows["requests"] == paths


def test_a_line_of_ten_megabytes_is_cut_and_the_next_ones_are_kept(kept: Kept) -> None:
    class Stream:
        def write(self, text: str) -> None: ...
        def flush(self) -> None: ...
        def isatty(self) -> bool:
            return False

    logs = configure(LogSettings(format="json"), SystemClock(), stream=Stream())  # type: ignore[arg-type]
    unheard = logs.listen(kept.feed.line)
    try:
        log = logging.getLogger("shop")
        log.info("x" * 10_000_000)
        log.info(
            "short",
            extra={"fields": {"body": "y" * 10_000_000, "many": {str(n): "z" * 99 for n in range(10_000)}}},
        )
        try:
            raise ValueError("w" * 10_000_000)
        except ValueError:
            log.exception("it failed")
    finally:
        unheard()
        logs.close()
    assert sum(len(line.event) + len(str(line.fields)) for line in kept.feed._logs) < 60_000
    kept.turn()
    lines = kept.ask(lambda records: records.logs(LogFilter(logger="shop"))).items
    assert [line.event[:5] for line in lines] == ["it fa", "short", "xxxxx"]
    assert all(len(line.event) <= feed.EVENT_MAX_CHARS for line in lines)


def test_a_flood_of_lines_is_thinned_and_counted_and_spares_the_other_kinds(tmp_path: Path) -> None:
    kept = Kept(tmp_path, logs_per_s=100)
    for number in range(50_000):
        kept.feed.line(Line(NOW, "info", f"line {number}", "x", {}))
    put(kept, 5)
    status = kept.ask(lambda records: records.status())
    assert status.rows["logs"] == 1000
    assert status.dropped["log too many"] == 49_000
    assert status.rows["requests"] == 5
    kept.close()


def test_the_file_stays_within_its_size_and_the_newest_stay(tmp_path: Path) -> None:
    kept = Kept(tmp_path, keep_mb=16)
    error = "ValueError: " + "x " * 480
    for turn in range(20):
        for number in range(1_000):
            kept.feed.request(request(NOW + turn * 30 + number / 1000, error=error), fair=True)
        for number in range(20):
            kept.feed.line(Line(NOW + turn * 30, "info", f"line {turn} {number}", "x", {}))
        kept.turn()
        kept.pass_s(30)
    kept.turn()
    status = kept.ask(lambda records: records.status())
    assert status.size_bytes < 17 << 20
    assert 4_000 < status.rows["requests"] < 18_000
    assert status.rows["logs"] == 400  # they had not taken their share
    assert requests_of(kept).items[0].at > NOW + 19 * 30
    assert kept.writer._file.value("SELECT count(*) FROM request") == status.rows["requests"]
    kept.close()


def test_what_is_old_goes(tmp_path: Path) -> None:
    kept = Kept(tmp_path, keep_days=1)
    kept.feed.recording(recording())
    kept.feed.job(job())
    kept.feed.line(Line(NOW, "info", "old words", "x", {}))
    put(kept, 3)
    for _ in range(50):
        kept.pass_s(1800)
        kept.turn()
    put(kept, 1)
    assert len(requests_of(kept).items) == 1
    rows = kept.ask(lambda records: records.status()).rows
    assert {kind: rows[kind] for kind in ("requests", "jobs", "traces", "logs")} == {
        "requests": 1, "jobs": 0, "traces": 0, "logs": 0,
    }  # fmt: skip
    assert not kept.ask(lambda records: records.logs(LogFilter(text="old"))).items
    kept.close()


# ── secrets, and requests ─────────────────────────────────────────────────────────────────────────

CANARY = "cAnArY-7f3a91-s3cret-0042"


def test_no_secret_reaches_the_file(kept: Kept, tmp_path: Path) -> None:
    kept.writer._inserts._clean._redactor.learn(CANARY)
    kept.feed.request(
        request(path=f"/reset/{CANARY}", status=500, error=f"KeyError: password={CANARY}-x"), fair=True
    )
    kept.feed.job(job(outcome="dead", error=f"HTTPError: https://u:{CANARY}@host/"))
    made = recording(failed=True)
    made.spans[0].set("db.query.text", f"SELECT '{CANARY}'")
    made.spans[0].set("authorization", "Bearer abcdefghijklmnop1234")
    made.spans[1].error = f"ValueError: {CANARY}"
    kept.feed.recording(made)
    kept.turn()
    kept.close()
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        assert CANARY.encode() not in content
        assert b"abcdefghijklmnop1234" not in content
    assert CANARY in str(made.spans[1].error)  # what goes to exporters is another's to redact


def test_attributes_of_a_span_are_bounded(kept: Kept) -> None:
    made = recording(failed=True)
    for number in range(10_000):
        made.spans[0].set(f"key{number}", "v" * 10_000)
    made.spans[0].set("odd", object())
    kept.feed.recording(made)
    kept.turn()
    trace = kept.ask(lambda records: records.trace(made.trace_id))
    assert trace is not None
    (big,) = [one.span for one in trace.spans if isinstance(one.span, Span) and len(one.span.attributes) > 1]
    assert len(str(big.attributes)) < 64 * 4200


def app_of(folder: Path, **settings: Any) -> App:
    shop = Service("shop", auth=public)

    @shop.get("/items/{item_id}")
    async def get_item(item_id: int) -> dict[str, int]:
        return {"id": item_id}

    app = App("shop", [shop])
    given = {"telemetry__store": True, "database__url": "sqlite:///app.db", **settings}
    app.configure(environ={}, app__data_dir=str(folder), **given)
    return app


@pytest.mark.parametrize("trouble", ["no file can be made", "damaged"])
def test_requests_are_answered_while_the_store_cannot_be_used(tmp_path: Path, trouble: str) -> None:
    app, path = app_of(tmp_path), tmp_path / "telemetry.sqlite"
    if trouble == "damaged":
        path.write_bytes(b"not a database at all" * 500)
    else:
        path.mkdir()

    async def main() -> tuple[list[int], str, dict[str, int]]:
        async with serving(app) as client:
            answers = [(await client.get(f"/items/{n}")).status for n in range(20)]
            hub = app.assembly.telemetry
            assert hub.store is not None
            await asyncio.to_thread(hub.store.writer.turn)
            status = await hub.records.status()
            assert (await hub.records.requests()).items == []
            return answers, status.sentence, status.dropped

    answers, sentence_, dropped = asyncio.run(main())
    assert answers == [200] * 20
    assert ("was put aside as" if trouble == "damaged" else "cannot be used") in sentence_
    assert sum(count for reason, count in dropped.items() if reason.startswith("request")) == 20


def test_requests_are_answered_while_the_collector_is_away(tmp_path: Path) -> None:
    app = app_of(tmp_path, otlp__url="http://127.0.0.1:9", otlp__metrics=False, trace__ratio=1.0)

    async def main() -> tuple[list[int], dict[tuple[str, str], int]]:
        async with serving(app) as client:
            answers = [(await client.get(f"/items/{n}")).status for n in range(20)]
            exporter = app.assembly.telemetry.otlp
            assert exporter is not None
        return answers, dict(exporter.dropped)

    answers, dropped = asyncio.run(main())
    assert answers == [200] * 20
    assert dropped["traces", "unreachable"] == 20


# ── several processes ─────────────────────────────────────────────────────────────────────────────


def test_processes_share_a_file_also_when_one_is_killed(tmp_path: Path) -> None:
    children = [writing(tmp_path, name) for name in ("one", "two")]
    try:
        for child in children:
            committed(child, 500)
        children[0].kill()
        killed = committed(children[0], sys.maxsize)
        survived = committed(children[1], 2_000)
        children[1].kill()
        survived = max(survived, committed(children[1], sys.maxsize))
    finally:
        for child in children:
            child.kill()
            child.wait(10)
    kept = Kept(tmp_path, instance="three")
    put(kept, 1, at=NOW)  # which opens the file, and repairs what a killed writer left
    file = kept.writer._file
    assert file.value("PRAGMA integrity_check") == "ok"
    count = "SELECT count(*) FROM request WHERE instance = (SELECT id FROM instance WHERE name = ?)"
    assert file.value(count, "one") >= killed
    assert file.value(count, "two") >= survived
    assert {one.name for one in kept.ask(lambda records: records.instances(since=0))} == {
        "one",
        "two",
        "three",
    }
    assert kept.ask(lambda r: r.status()).rows["requests"] == file.value("SELECT count(*) FROM request")
    kept.close()


def writing(folder: Path, name: str) -> subprocess.Popen[str]:
    """A process that writes, and says after each turn how much it has committed."""
    command = [sys.executable, "-m", "support.telemetry_child", str(folder), name]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def committed(child: subprocess.Popen[str], least: int) -> int:
    """What it has said, when that is ``least`` or it has ended."""
    assert child.stdout is not None
    said = 0
    while said < least and (line := child.stdout.readline()):
        said = int(line)
    return said
