from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold._core.clock import Clock, ManualClock
from tenfold._core.context import Context, current, use
from tenfold._core.resolve import backend_class
from tenfold._core.sections import TraceSettings
from tenfold.telemetry.backends.console import Backend as Console
from tenfold.telemetry.contract import Span, SpanExporter
from tenfold.telemetry.propagation import Parent, clean_tracestate, format_traceparent, parse_traceparent
from tenfold.telemetry.store.budget import SHUT, Budget
from tenfold.telemetry.trace import BATCH_MAX, Tracer, span

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Kept(SpanExporter):
    def __init__(self, fails: bool = False) -> None:
        self.batches: list[list[Span]] = []
        self.fails, self.stopped = fails, False

    @classmethod
    def from_url(cls, url: str, clock: Clock) -> Self:
        return cls()

    async def export(self, spans: Sequence[Span]) -> None:
        if self.fails:
            raise ConnectionError("collector is away")
        self.batches.append(list(spans))

    async def stop(self) -> None:
        self.stopped = True


def tracer(
    ratio: float = 1.0, exporter: SpanExporter | None = None, clock: ManualClock | None = None
) -> Tracer:
    return Tracer(exporter or Kept(), clock or ManualClock(), settings=TraceSettings(ratio=ratio))


# ── headers ──────────────────────────────────────────────────────────────────────────────────────


def test_the_example_of_the_recommendation_is_read() -> None:
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-01") == Parent(TRACE, SPAN, True)
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-00") == Parent(TRACE, SPAN, False)


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert parse_traceparent(f"cc-{TRACE}-{SPAN}-01-what-the-future-brings") == Parent(TRACE, SPAN, True)


@pytest.mark.parametrize(
    "header",
    [
        "", "00", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE}-{SPAN}-1", f"00-{TRACE[:-1]}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.x", f" 00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01\n", f"00-{TRACE[:-1]}٣-{SPAN}-01",
    ],
)  # fmt: skip
def test_an_invalid_traceparent_starts_a_new_trace(header: str) -> None:
    assert parse_traceparent(header) is None
    begun = tracer().begin(header)
    assert begun.trace_id != TRACE
    assert len(begun.trace_id) == 32


@given(st.text() | st.from_regex(r"[0-9a-f-]{50,60}", fullmatch=True))
def test_no_traceparent_crashes_and_what_is_accepted_survives_a_round_trip(header: str) -> None:
    parent = parse_traceparent(header)
    if parent is not None:
        assert parse_traceparent(format_traceparent(*parent)) == parent


@given(st.text(max_size=2000) | st.from_regex(r"([a-z]{1,5}=[a-z]{1,200},? ?){0,40}", fullmatch=True))
def test_no_tracestate_crashes_and_what_is_passed_on_is_within_its_bounds(header: str) -> None:
    cleaned = clean_tracestate(header)
    assert len(cleaned) <= 512
    assert cleaned.count(",") < 32
    assert cleaned.isascii()
    assert clean_tracestate(cleaned) == cleaned


def test_tracestate_keeps_order_and_drops_long_members_first() -> None:
    assert clean_tracestate("a=1 , b@v=2,,c=3") == "a=1,b@v=2,c=3"
    assert clean_tracestate("a=1,a=2") == ""
    long = "x=" + "v" * 200
    many = ",".join(f"k{n}=" + "w" * 90 for n in range(4))
    assert clean_tracestate(f"{long},{many}") == many


def test_context_goes_out_as_it_came_in() -> None:
    headers = tracer().headers(Context(trace_id=TRACE, span_id=SPAN, sampled=True, tracestate="vendor=7"))
    assert headers == {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=7"}
    assert tracer().headers(Context()) == {}


# ── sampling ─────────────────────────────────────────────────────────────────────────────────────


def test_a_callers_decision_is_followed() -> None:
    assert tracer(ratio=0.0).begin(f"00-{TRACE}-{SPAN}-01").sampled
    assert not tracer(ratio=1.0).begin(f"00-{TRACE}-{SPAN}-00").sampled


def test_the_ratio_is_kept() -> None:
    one = tracer(ratio=0.2)
    sampled = sum(one.begin().sampled for _ in range(20_000))
    assert 3_700 < sampled < 4_300
    assert not any(tracer(ratio=0.0).begin().sampled for _ in range(100))
    assert all(tracer(ratio=1.0).begin().sampled for _ in range(100))


def test_a_hot_path_that_counts_down_samples_the_same_share_by_the_same_bits() -> None:
    one, gaps = tracer(ratio=0.2), list[int]()
    last = -1
    for number in range(20_000):
        if number >= one.at and (trace := one.pick(number)) is not None:
            gaps.append(number - last - 1)
            last = number
            assert trace.sampled
            assert int(trace.trace_id[-14:], 16) < 0.2 * (1 << 56)
    # Before a success of probability p come (1 - p) / p failures in the mean; none come before it with probability p.
    assert sum(gaps) / len(gaps) == pytest.approx(4, rel=0.1)
    assert gaps.count(0) / len(gaps) == pytest.approx(0.2, rel=0.15)
    every, none = tracer(ratio=1.0), tracer(ratio=0.0)
    assert all(every.pick(number) and every.at == number + 1 for number in range(100))
    assert none.pick(0) is None
    assert none.at > 1e18


def test_whoever_asks_from_the_number_on_that_the_tracer_names_misses_nothing_that_is_allowed() -> None:
    one, traces, sample = tracer(ratio=0.1), Budget(1), Budget(1)
    one.recorder = cast("Any", SimpleNamespace(traces=traces, allowances=(traces, sample)))
    traces.mask, sample.mask = 31, 7
    asked, sampled = set[int](), 0
    for number in range(2_000):
        if number >= one.at:
            asked.add(number)
            sampled += one.pick(number) is not None
    assert asked >= set(range(0, 2_000, 8))
    assert len(asked) <= 250 + sampled, "others are not asked for"
    traces.mask = sample.mask = SHUT
    one.pick(2_000)
    assert one.at > 2_001
    one.pick_anew()
    sample.mask = 0
    one.pick(2_002)
    assert one.at == 2_003


def test_trace_ids_do_not_repeat() -> None:
    one = tracer()
    assert len({one.begin().trace_id for _ in range(10_000)}) == 10_000


# ── spans ────────────────────────────────────────────────────────────────────────────────────────


def test_unsampled_work_makes_no_span() -> None:
    one = tracer()
    with use(Context(trace_id=TRACE, sampled=False)), span("db.read") as made:
        made.set("rows", 3)
    assert not one.recent


def test_spans_nest_and_time_themselves() -> None:
    clock = ManualClock(100.0)
    one = tracer(clock=clock)

    async def work() -> None:
        with use(Context(trace_id=TRACE, span_id=SPAN, sampled=True)), one.root("request", route="/x"):
            await clock.advance(1)
            with span("db.read") as inner:
                inner.set("rows", 2)
                await clock.advance(2)
            assert current().span_id != SPAN

    asyncio.run(work())
    inner, outer = one.recent
    assert (outer.name, outer.parent_id, outer.started, outer.ended) == ("request", SPAN, 100.0, 103.0)
    assert (inner.parent_id, inner.started, inner.ended) == (outer.span_id, 101.0, 103.0)
    assert inner.attributes == {"rows": 2}
    assert inner.trace_id == outer.trace_id == TRACE


def test_an_error_is_recorded_redacted_and_goes_on() -> None:
    one = tracer()
    with (
        pytest.raises(ValueError, match="hunter2"),
        use(Context(trace_id=TRACE, sampled=True)),
        one.root("request", password="hunter2"),
    ):
        raise ValueError("password=hunter2")
    (made,) = one.recent
    assert made.error.startswith("ValueError")
    assert "hunter2" not in str(made)


def test_what_a_part_keeps_in_the_context_is_seen_inside_a_span_and_after_it() -> None:
    one = tracer()
    with use(Context(trace_id=TRACE, sampled=True)) as context, one.root("request"):
        state = current().state
        assert state is not None
        state["tx"] = 1
        with span("inner"):
            assert current().state == {"tx": 1}
    assert context.state == {"tx": 1}


def test_the_ring_forgets_the_oldest() -> None:
    one = Tracer(Kept(), ManualClock(), settings=TraceSettings(ratio=1.0, ring=3))
    for name in "abcde":
        with use(Context(trace_id=TRACE, sampled=True)), one.root(name):
            pass
    assert [s.name for s in one.recent] == ["c", "d", "e"]


# ── export ───────────────────────────────────────────────────────────────────────────────────────


def record(one: Tracer, count: int) -> None:
    with use(Context(trace_id=TRACE, sampled=True)):
        for _ in range(count):
            with one.root("request"):
                pass


def test_spans_are_exported_in_batches_and_the_rest_at_stop() -> None:
    async def work() -> Kept:
        clock, kept = ManualClock(), Kept()
        one = tracer(exporter=kept, clock=clock)
        await one.start()
        record(one, BATCH_MAX + 1)
        await clock.advance(1.0)
        assert [len(batch) for batch in kept.batches] == [BATCH_MAX, 1]
        record(one, 2)
        await one.stop()
        return kept

    kept = asyncio.run(work())
    assert len(kept.batches[-1]) == 2
    assert kept.stopped


def test_an_exporter_that_fails_costs_spans_and_nothing_else() -> None:
    async def work() -> Tracer:
        clock = ManualClock()
        one = tracer(exporter=Kept(fails=True), clock=clock)
        await one.start()
        record(one, 5)
        await clock.advance(1.0)
        await one.stop()
        return one

    assert asyncio.run(work()).dropped == 5


def test_the_console_writes_a_line_per_span() -> None:
    out = io.StringIO()
    made = Span(name="a", trace_id=TRACE, span_id=SPAN, started=1.0, ended=2.0)
    asyncio.run(Console(out).export([made, made]))
    assert [json.loads(row)["name"] for row in out.getvalue().splitlines()] == ["a", "a"]


@pytest.mark.parametrize("url", ["none:", "console:"])
def test_every_exporter_is_found_by_its_url(url: str) -> None:
    found = backend_class("telemetry", url, where="trace.exporter")
    assert isinstance(found.from_url(url, ManualClock()), SpanExporter)
