"""Spans as rows, and the line of a traceback that failed."""

from __future__ import annotations

import pytest

from tenfold.dashboard import failure, waterfall
from tenfold.telemetry.contract import Span


def span(id_: str, parent: str, start: float, end: float, name: str = "db.statement", **more: object) -> Span:
    return Span(name=name, trace_id="t", span_id=id_, parent_id=parent, started=100 + start, ended=100 + end, attributes=dict(more))  # fmt: skip


TREE = [
    span("c", "b", 0.2, 0.3, **{"db.query.text": "SELECT 1"}),
    span("a", "outside", 0.0, 1.0, "orders.place"),
    span("d", "a", 0.6, 0.9, "http.client"),
    span("b", "a", 0.1, 0.5, "rpc.call", operation="catalog.get"),
]


def test_spans_stand_below_who_started_them_in_the_order_they_began() -> None:
    found = waterfall.rows(TREE)
    assert [(row.span.span_id, row.depth) for row in found] == [("a", 0), ("b", 1), ("c", 2), ("d", 1)]
    assert [row.kind for row in found] == ["other", "call", "sql", "out"]
    assert [row.said for row in found] == ["", "catalog.get", "SELECT 1", ""]
    assert (found[1].start, found[1].length) == pytest.approx((0.1, 0.4))


def test_own_time_is_what_no_child_covers_even_where_children_overlap() -> None:
    parent = span("p", "", 0, 1)
    children = [span("x", "p", 0.1, 0.5), span("y", "p", 0.3, 0.6), span("z", "p", 0.9, 1.4)]
    assert waterfall.own_time(parent, children) == pytest.approx(0.4)


def test_a_circle_of_parents_and_clocks_that_disagree_break_nothing() -> None:
    assert waterfall.rows([]) == []
    circle = [span("a", "b", 0, 1), span("b", "a", 0, 1), span("c", "", -5, -6)]
    found = waterfall.rows(circle)
    assert [row.span.span_id for row in found] == ["c"]
    assert all(0 <= row.start <= 1 and 0 <= row.length <= 1 for row in found)


def test_no_more_rows_than_a_page_can_hold() -> None:
    many = [span(str(n), "", n, n + 1) for n in range(1_000)]
    assert len(waterfall.rows(many)) == waterfall.ROWS_MAX


TRACE = """Traceback (most recent call last):
  File "/srv/lib/python3.11/site-packages/tenfold/http/pipeline.py", line 88, in run
    answer = await handler(order)
             ^^^^^^^^^^^^^^^^^^^^
  File "/srv/shop/orders/placing.py", line 74, in place_order
    total = price(lines) - coupons["x"]
            ~~~~~~~~~~~~~~~^^^^^^^^^^^^
  File "/usr/lib/python3.11/collections/__init__.py", line 1010, in __missing__
    raise KeyError(key)
KeyError: 'x'
"""


def test_the_failing_line_is_the_innermost_one_of_the_apps_own_code() -> None:
    frame = failure.failing(TRACE)
    assert frame is not None
    assert (failure.short(frame.file), frame.line, frame.function) == (
        "shop/orders/placing.py",
        74,
        "place_order",
    )
    assert frame.code == 'total = price(lines) - coupons["x"]'
    before, marked, after = failure.parts(TRACE)
    assert before + marked + after == TRACE
    assert marked.count("\n") == 3


def test_without_code_of_the_app_it_is_the_innermost_of_all_and_without_frames_none() -> None:
    frame = failure.failing(TRACE.replace("/srv/shop/orders", "/srv/lib/python3.11/site-packages/x"))
    assert frame is not None
    assert frame.function == "__missing__"
    assert failure.failing("KeyError: 'x'") is None
    assert failure.parts("KeyError: 'x'") == ("KeyError: 'x'", "", "")
