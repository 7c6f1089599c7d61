from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal, cast

import pytest

from tenfold._core.clock import ManualClock
from tenfold._core.context import Context, use
from tenfold._core.sections import LogSettings
from tenfold.telemetry import names
from tenfold.telemetry.access import BATCH, GATHER_S, Access, AccessLog, JsonAccess, TextAccess
from tenfold.telemetry.log import Logging, Sink, configure, get_logger
from tenfold.telemetry.metrics import Registry
from tenfold.telemetry.redact import Redactor
from tenfold.telemetry.render import Line, json_line, text_line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def logs_to(
    out: io.StringIO, format_: Literal["text", "json"] | None = None, level: Any = "info"
) -> Iterator[Logging]:
    taken = configure(LogSettings(format=format_, level=level), ManualClock(), stream=out)
    try:
        yield taken
    finally:
        taken.close()


def rows(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(row) for row in out.getvalue().splitlines()]


def test_json_is_the_format_where_no_terminal_is() -> None:
    out = io.StringIO()
    with logs_to(out):
        get_logger("shop").info("order placed", order_id=7)
    (row,) = rows(out)
    assert (row["level"], row["event"], row["logger"], row["order_id"]) == ("info", "order placed", "shop", 7)
    assert row["time"].endswith("Z")


def test_refused_websockets_do_not_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    server = logging.getLogger("uvicorn.error")
    for logger in (server, logging.getLogger("uvicorn")):  # another test's server may have configured them
        monkeypatch.setattr(logger, "propagate", True)
        monkeypatch.setattr(logger, "disabled", False)
        monkeypatch.setattr(logger, "level", logging.NOTSET)
        logger.manager._clear_cache()  # levels are cached by logger
    with logs_to(out):
        server.error("ASGI callable returned without completing handshake.")
        server.error("Exception in ASGI application\n")
    assert [row["event"] for row in rows(out)] == ["Exception in ASGI application\n"]
    assert server.filters == []


def test_text_is_the_format_on_a_terminal_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with logs_to(out):
        get_logger("shop").info("order placed", order_id=7)
    assert "\x1b[" in out.getvalue()
    assert "order placed" in out.getvalue()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    with logs_to(out):
        get_logger("shop").info("order placed")
    assert "\x1b[" not in out.getvalue()


def test_text_lines_are_aligned() -> None:
    render = text_line(colours=False)
    short = render(Line(0.0, "info", "one", "x", {"a": 1}))
    long = render(Line(0.0, "warning", "another event", "x", {"a": 1}))
    assert short.index("a=1") == long.index("a=1")
    assert short.index("one") == long.index("another")


def test_text_never_lets_control_characters_through() -> None:
    line = Line(0.0, "info", "a\nb\x1b[31m", "x", {"k\n": "v\r\n\x1b]0;evil\x07"}, "Traceback\n  \x1b[2J")
    shown = text_line(colours=False)(line)
    assert "\x1b" not in shown
    assert shown.count("\n") == 3


def test_a_line_of_json_is_one_line_whatever_it_says() -> None:
    line = Line(0.0, "info", "a\nb", "x", {"event": "mine", "o": object()}, "T\nU")
    shown = json_line(line)
    assert shown.count("\n") == 1
    assert json.loads(shown)["event_"] == "mine"


def test_a_line_of_what_is_no_text_is_written_all_the_same() -> None:
    """Names of files that are no UTF-8 come as lone surrogates."""
    out = io.StringIO()
    with logs_to(out, "json"):
        get_logger("shop").info("read \udc80", file="picture-\udc80")
    (row,) = rows(out)
    assert (row["event"], row["file"]) == ("read \udc80", "picture-\udc80")


def test_a_stream_that_takes_no_such_text_gets_it_escaped() -> None:
    taken = io.BytesIO()
    out: Any = io.TextIOWrapper(taken, encoding="utf-8")
    with logs_to(out, "text"):
        get_logger("shop").info("read \udc80")
    assert b"read \\udc80" in taken.getvalue()


def test_the_context_of_the_work_is_on_every_line_libraries_included() -> None:
    out = io.StringIO()
    with logs_to(out), use(Context(request_id="r1", trace_id="t1", operation="orders.place")):
        get_logger("shop").info("ours")
        logging.getLogger("library").warning("theirs %s", "too")
    for row in rows(out):
        assert (row["request_id"], row["trace_id"], row["operation"]) == ("r1", "t1", "orders.place")
    assert rows(out)[1]["event"] == "theirs too"


def test_the_level_is_respected() -> None:
    out = io.StringIO()
    with logs_to(out, level="warning"):
        get_logger("shop").info("no")
        logging.getLogger("library").info("no")
        get_logger("shop").error("yes")
    assert [row["event"] for row in rows(out)] == ["yes"]


def test_fields_may_have_names_that_logging_reserves() -> None:
    out = io.StringIO()
    with logs_to(out):
        get_logger("shop").info("x", name="n", args=[1], message="m", level="l")
    (row,) = rows(out)
    assert (row["name"], row["args"], row["message"], row["level_"]) == ("n", [1], "m", "l")


def test_closing_gives_back_what_was_before() -> None:
    root, hook = logging.getLogger(), threading.excepthook
    before = (root.handlers[:], root.level)
    with logs_to(io.StringIO()) as taken:
        assert root.handlers != before[0]
        taken.close()
    assert (root.handlers, root.level) == before
    assert threading.excepthook is hook


def test_what_a_thread_dies_of_is_logged() -> None:
    out = io.StringIO()
    with logs_to(out):
        thread = threading.Thread(target=lambda: 1 / 0, name="doomed")
        thread.start()
        thread.join()
    (row,) = rows(out)
    assert (row["event"], row["thread"]) == (names.LOG_THREAD_DIED, "doomed")
    assert "ZeroDivisionError" in row["traceback"]


def test_a_stream_that_fails_costs_lines_not_requests() -> None:
    out = io.StringIO()
    with logs_to(out, "json") as taken:
        registry = Registry()
        taken.register(registry)
        out.close()
        get_logger("shop").info("lost")
        assert taken.sink.dropped == 1
        families = {family.name: family for family in registry.collect()}
        assert {s.labels["reason"]: s.value for s in families[names.LOG_DROPPED].samples}["write failed"] == 1


def finished(path: str, seconds: float = 0.0, ended_s: float = 0.0, operation: str = "") -> Access:
    return Access(ended_s, seconds, "GET", path, 200, 0, operation)


def test_the_access_log_writes_what_was_recorded_in_order() -> None:
    out = io.StringIO()
    with logs_to(out) as taken:
        assert taken.access is not None
        for number in range(1200):
            taken.access.record(finished(f"/items/{number}", seconds=0.0012, operation="catalog.get"))
    got = rows(out)
    assert [row["path"] for row in got] == [f"/items/{n}" for n in range(1200)]
    assert got[0]["ms"] == 1.2


@pytest.mark.parametrize("queue_max", [10, BATCH, BATCH + 1, 3 * BATCH - 5])
def test_a_full_access_log_drops_the_newest_and_counts(queue_max: int) -> None:
    gate, entered, written = threading.Event(), threading.Event(), list[bytes]()

    def write(text: bytes) -> None:
        entered.set()
        gate.wait(10)
        written.append(text)

    log = AccessLog(write, JsonAccess(Redactor()), ManualClock(), queue_max=queue_max)
    log.record(finished("/first"))
    assert entered.wait(10)  # the writer is stuck with the first line
    for number in range(queue_max + 5):
        log.record(finished(f"/{number}"))
    assert log.dropped == 6  # the one that is being written counts, too
    assert len(log.waiting) < BATCH  # the lines of the others are made
    gate.set()
    log.close()
    log.record(finished("/late"))
    assert log.dropped == 7
    paths = [json.loads(line)["path"] for line in b"".join(written).splitlines()]
    assert paths == ["/first", *(f"/{number}" for number in range(queue_max - 1))]


class Unbuffered(io.RawIOBase):
    """Takes ``at_most`` bytes at a time, as a pipe may, and nothing at all once it has ``room`` for none."""

    def __init__(self, at_most: int, room: int) -> None:
        self.got, self._at_most, self._room = b"", at_most, room

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int | None:
        taken = bytes(data[: min(self._at_most, self._room - len(self.got))])
        self.got += taken
        return len(taken) or None


def test_lines_in_bytes_reach_a_stream_without_a_buffer_whole_and_what_does_not_is_counted() -> None:
    raw = Unbuffered(at_most=7, room=30)
    stream = io.TextIOWrapper(cast("Any", raw), "utf-8", write_through=True)
    sink = Sink(stream)
    sink.write("first\n")
    sink.write_utf8("über alle\nBerge\n".encode())
    assert raw.got.decode() == "first\nüber alle\nBerge\n"
    assert sink.dropped == 0
    sink.write_utf8(b"this is\nlonger than what is left\n")
    assert sink.dropped == 2


def test_lines_in_bytes_are_written_in_the_encoding_of_the_stream() -> None:
    below = io.BytesIO()
    stream = io.TextIOWrapper(below, "latin-1")
    Sink(stream).write_utf8("über → alles\n".encode())
    assert below.getvalue() == b"\xfcber \\u2192 alles\n"


def test_a_line_that_nothing_follows_is_written_too() -> None:
    written, out = threading.Event(), list[bytes]()

    def write(text: bytes) -> None:
        out.append(text)
        written.set()

    log = AccessLog(write, JsonAccess(Redactor()), ManualClock())
    for number in range(3):
        written.clear()
        log.record(finished(f"/{number}"))
        assert written.wait(10)
    log.close()
    assert [json.loads(text)["path"] for text in out] == ["/0", "/1", "/2"]


def test_lines_that_come_during_a_write_wait_for_more() -> None:
    """Else a busy process would write a few lines at a time, as often as it can."""
    at, enough = list[float](), threading.Event()

    def write(text: bytes) -> None:
        at.append(time.monotonic())
        log.record(finished("/"))
        if len(at) == 3:
            enough.set()

    log = AccessLog(write, JsonAccess(Redactor()), ManualClock())
    log.record(finished("/"))
    assert enough.wait(10)
    log.close()
    assert min(later - earlier for earlier, later in pairwise(at[:3])) >= 0.9 * GATHER_S


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_secret_in_a_path_is_masked(form: Literal["json", "text"]) -> None:
    out = io.StringIO()
    with logs_to(out, form) as taken:
        assert taken.access is not None
        taken.access.record(finished("/reset/eyJhbGciOiJIUzI1NiJ9.abc.def"))
    assert "eyJ" not in out.getvalue()
    assert "/reset/" in out.getvalue()


def test_a_secret_that_is_learned_later_is_masked_in_paths_that_were_seen_before() -> None:
    redactor = Redactor()
    render = JsonAccess(redactor)
    path = "/find/hunter2-of-ours"
    assert path.encode() in render([finished(path)], 0.0)
    redactor.learn("hunter2-of-ours")
    assert b"hunter2" not in render([finished(path)], 0.0)


@pytest.mark.parametrize(
    "access",
    [
        Access(
            0, 0.0012, "GET", "/items/1", 200, 10, "catalog.get", "a1-2", "0" * 31 + "1", ("127.0.0.1", 5)
        ),
        Access(0, 12.3456, "POST", '/a "b"\n\\ü\u2028\udc80', 503, 0, "kö.x", "a1-2", "", ("::1", 5)),
        Access(0, 0.0, "GET", "/", 404, 0),
        Access(0, 0.00999999, "GET", "/", 200, 0, "x", "", "0" * 31 + "1"),
    ],
)
def test_the_short_way_to_json_writes_what_the_long_way_does(access: Access) -> None:
    short, long = JsonAccess(Redactor()), TextAccess(json_line, Redactor())
    whens = (0.0, 1_800_000_000.9996, 1_800_000_001.0, 3.5)
    entries = [access._replace(ended_s=when) for when in whens]
    for epoch_s in (0.0, 86_400.25):
        expected = [json.loads(long([each], epoch_s)) for each in entries]
        lines = short(entries, epoch_s).splitlines()
        assert [json.loads(line) for line in lines] == expected


def test_a_line_tells_when_its_request_ended_not_when_it_was_written() -> None:
    clock, written = ManualClock(1_800_000_000.0), list[bytes]()
    log = AccessLog(written.append, JsonAccess(Redactor()), clock)
    log.record(finished("/", ended_s=clock.monotonic() - 60.5))
    log.close()
    assert json.loads(b"".join(written))["time"] == "2027-01-15T07:58:59.500Z"
