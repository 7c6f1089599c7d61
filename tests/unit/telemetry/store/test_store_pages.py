"""What was put in comes out, newest first, page after page, by every filter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.telemetry_store import NOW, Kept, job, recording, request
from tenfold.telemetry.render import Line
from tenfold.telemetry.store import pages
from tenfold.telemetry.store.records import (
    JobFilter,
    LogFilter,
    Page,
    RequestFilter,
    RequestSummary,
    TraceFilter,
)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.close()


def put(kept: Kept, *summaries: RequestSummary) -> None:
    for one in summaries:
        kept.feed.request(one, fair=True)
    kept.turn()


def asked(kept: Kept, limit: int = 50, before: str = "", **where: object) -> Page[RequestSummary]:
    filter_ = RequestFilter(**where)  # type: ignore[arg-type]
    return kept.ask(lambda records: records.requests(filter_, limit=limit, before=before))


def test_a_request_comes_back_as_it_was(kept: Kept) -> None:
    one = request(NOW + 0.25, tenant="acme", error="ValueError: no", status=500, path="/items/é")
    put(kept, one)
    (found,) = asked(kept).items
    assert found == RequestSummary(
        **{**{f: getattr(one, f) for f in one.__struct_fields__}, "instance": "one"}
    )


def test_pages_go_on_where_the_last_one_ended_and_miss_none(kept: Kept) -> None:
    put(kept, *(request(NOW + number) for number in range(25)))
    seen: list[float] = []
    before = ""
    while True:
        page = asked(kept, limit=10, before=before)
        seen += [one.at for one in page.items]
        before = page.before
        if not before:
            break
    assert seen == [NOW + number for number in reversed(range(25))]


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ({"operation": "shop.buy"}, [1, 4]),
        ({"operation": "nobody"}, []),
        ({"status_min": 500}, [4]),
        ({"status_min": 400}, [3, 4]),
        ({"status_min": 400, "status_max": 499}, [3]),
        ({"seconds_min": 0.5}, [2]),
        ({"path": "/items/2"}, [2]),
        ({"tenant": "acme"}, [0]),
        ({"instance": "one"}, [0, 1, 2, 3, 4]),
        ({"instance": "two"}, []),
        ({"request_id": "r3"}, [3]),
        ({"trace_id": f"{2:032x}"}, [2]),
        ({"trace_id": "no trace id"}, []),
        ({"since": NOW + 3}, [3, 4]),
        ({"until": NOW + 1}, [0]),
        ({"operation": "shop.buy", "status_min": 500}, [4]),
    ],
)
def test_every_filter_finds_what_it_says(kept: Kept, where: dict[str, object], numbers: list[int]) -> None:
    special: dict[int, dict[str, object]] = {
        0: {"tenant": "acme"},
        1: {"operation": "shop.buy"},
        2: {"seconds": 0.9},
        3: {"status": 404},
        4: {"operation": "shop.buy", "status": 503},
    }
    for number, changes in special.items():
        ids = {"request_id": f"r{number}", "trace_id": f"{number:032x}", "path": f"/items/{number}"}
        put(kept, request(NOW + number, **{**ids, **changes}))
    assert sorted(int(one.at - NOW) for one in asked(kept, **where).items) == numbers


def test_a_rare_one_is_found_over_several_pages_each_of_which_looks_at_few(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LOOKED_AT_MAX", 10)
    put(kept, request(NOW, tenant="acme"), *(request(NOW + 1 + number) for number in range(24)))
    page, turns = asked(kept, tenant="acme"), 1
    while not page.items:
        assert page.before
        page, turns = asked(kept, tenant="acme", before=page.before), turns + 1
    assert (page.items[0].at, turns) == (NOW, 3)


def test_an_operation_whose_route_changed_is_one(kept: Kept) -> None:
    put(kept, *(request(NOW + number, route=f"/v{number % 2}/items") for number in range(7)))
    page = asked(kept, operation="shop.get_item", limit=4)
    rest = asked(kept, operation="shop.get_item", limit=4, before=page.before)
    assert [one.at - NOW for one in (*page.items, *rest.items)] == [6, 5, 4, 3, 2, 1, 0]


def test_a_page_mark_that_somebody_made_up_is_an_empty_page(kept: Kept) -> None:
    put(kept, request())
    for mark in ("x", "-1", "9" * 40, "0", "１２"):
        assert asked(kept, before=mark).items in ([], asked(kept).items)


def test_runs_of_jobs_are_found_by_what_became_of_them(kept: Kept) -> None:
    for number, outcome in enumerate(("done", "retry", "dead", "done")):
        kept.feed.job(job(NOW + number, outcome=outcome, job_id=f"j{number}", queue=f"q{number % 2}"))
    kept.turn()

    def numbers(**where: object) -> list[int]:
        filter_ = JobFilter(**where)  # type: ignore[arg-type]
        page = kept.ask(lambda records: records.jobs(filter_))
        return sorted(int(one.at - NOW) for one in page.items)

    assert numbers() == [0, 1, 2, 3]
    assert numbers(failed=True) == [1, 2]
    assert numbers(outcome="dead") == [2]
    assert numbers(queue="q1") == [1, 3]
    assert numbers(job_id="j3") == [3]
    assert numbers(handler="shop.send_receipt", failed=True) == [1, 2]
    assert numbers(handler="nobody") == []


def test_log_lines_are_found_by_words_level_and_logger(kept: Kept) -> None:
    lines = [
        Line(NOW, "info", "order placed", "shop.orders", {"order_id": 7, "customer": "Zoë"}),
        Line(NOW + 1, "warning", "payment was slow", "shop.payments", {"ms": 900}),
        Line(
            NOW + 2,
            "error",
            "payment failed",
            "shop.payments",
            {"request_id": "r1"},
            "Traceback\nKeyError: 'x'",
        ),
    ]
    for line in lines:
        kept.feed.line(line)
    kept.turn()

    def found(**where: object) -> list[str]:
        filter_ = LogFilter(**where)  # type: ignore[arg-type]
        return [one.event for one in kept.ask(lambda records: records.logs(filter_)).items]

    assert found() == ["payment failed", "payment was slow", "order placed"]
    assert found(text="payment") == ["payment failed", "payment was slow"]
    assert found(text="pay") == ["payment failed", "payment was slow"]
    assert found(text="ORDER zoe") == ["order placed"]
    assert found(text='" OR * NEAR(') == []
    assert found(text="keyerror") == ["payment failed"]
    assert found(text="payment", level="error") == ["payment failed"]
    assert found(level="warning") == ["payment failed", "payment was slow"]
    assert found(logger="shop.ord") == ["order placed"]
    assert found(request_id="r1") == ["payment failed"]
    assert found(request_id="r1", text="slow") == []
    (line,) = kept.ask(lambda records: records.logs(LogFilter(text="order"))).items
    assert (line.level, line.fields, line.instance) == ("info", {"order_id": 7, "customer": "Zoë"}, "one")


def test_a_trace_is_all_that_belongs_to_it(kept: Kept) -> None:
    trace_id = f"{1:032x}"
    kept.feed.recording(recording(failed=True))
    kept.feed.request(request(trace_id=trace_id, status=500), fair=True)
    kept.feed.job(job(NOW + 1, trace_id=trace_id))
    kept.feed.line(Line(NOW, "error", "it failed", "shop", {"trace_id": trace_id}))
    kept.turn()
    trace = kept.ask(lambda records: records.trace(trace_id))
    assert trace is not None
    assert [one.span.name for one in trace.spans] == ["db.statement", "shop.get_item"]
    assert (len(trace.requests), len(trace.jobs), len(trace.logs), trace.why) == (1, 1, 1, "failed")
    assert kept.ask(lambda records: records.trace("f" * 32)) is None
    (summary,) = kept.ask(lambda records: records.traces(TraceFilter(failed=True))).items
    assert (summary.trace_id, summary.spans, summary.operation) == (trace_id, 2, "shop.get_item")
    assert not kept.ask(lambda records: records.traces(TraceFilter(why="slow"))).items


def test_failures_that_are_alike_are_one_group(kept: Kept) -> None:
    for number in range(3):
        put(kept, request(NOW + number, status=500, error=f"KeyError: {number}", request_id=f"r{number}"))
    put(kept, request(NOW, status=500, operation="shop.buy"))
    kept.feed.job(job(NOW + 9, outcome="dead", error="TimeoutError: 3 s"))
    kept.feed.line(Line(NOW + 5, "error", "disk is odd", "shop", {}))
    kept.feed.line(Line(NOW + 5, "error", "get_item failed", "tenfold.http", {}))
    kept.turn()
    found = kept.ask(lambda records: records.errors(since=NOW))
    assert [(one.kind, one.count) for one in found] == [
        ("job", 1),
        ("log", 1),
        ("request", 3),
        ("request", 1),
    ]
    assert (found[2].request_id, found[2].first_at, found[2].last_at) == ("r2", NOW, NOW + 2)
    assert found[3].error == "answered 500"
    assert len(kept.ask(lambda records: records.errors(since=NOW + 4))) == 2


def test_two_instances_feed_one_store_and_either_shows_all(kept: Kept, tmp_path: Path) -> None:
    other = Kept(tmp_path, kept.clock, instance="two")
    put(kept, request(NOW))
    put(other, request(NOW))
    for one in (kept, other):
        assert sorted(found.instance for found in asked(one).items) == ["one", "two"]
    assert [one.name for one in kept.ask(lambda records: records.instances(since=NOW - 9))] == ["one", "two"]
    other.close()


def test_what_was_kept_is_there_after_a_restart(kept: Kept, tmp_path: Path) -> None:
    put(kept, request())
    kept.close()
    again = Kept(tmp_path)
    put(again, request(NOW + 1))
    assert len(asked(again).items) == 2
    again.close()


def test_a_store_that_was_never_made_answers_empty(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "nowhere")
    assert asked(kept) == Page([])
    assert kept.ask(lambda records: records.trace("a" * 32)) is None
    assert kept.ask(lambda records: records.metrics()) == []
    assert kept.ask(lambda records: records.status()).rows == {}
    kept.close()
