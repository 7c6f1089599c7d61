"""Only declared calls pass: where they are made, and where they arrive."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tenfold import App, Service, public
from tenfold._core.clock import ManualClock
from tenfold.errors import CallRefused, DeclarationError
from tenfold.security.identity.edges import Edge, Edges, declared_edges
from tenfold.security.identity.refusals import EVERY_S, Refusals
from tenfold.telemetry import names
from tenfold.telemetry.metrics import Registry


def shop(calls: Any) -> App:
    """``orders`` declares ``calls`` and calls both others when it is asked to."""
    catalog, inventory = Service("catalog", auth=public), Service("inventory", auth=public, calls=[])
    orders = Service("orders", auth=public, calls=calls)

    @catalog.internal
    async def find(sku: str) -> str:
        return sku

    @inventory.internal
    async def hold(sku: str) -> str:
        return sku

    @inventory.internal
    async def release(sku: str) -> str:
        return await hold(sku)

    @orders.get("/find")
    async def look() -> str:
        return await find("a")

    @orders.get("/hold")
    async def take() -> str:
        return await release("a")

    return App("shop", [catalog, inventory, orders])


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        (None, []),
        ([], []),
        (["catalog"], ["orders → catalog.find"]),
        (["inventory.hold"], ["orders → inventory.hold"]),
        (["inventory", "inventory.hold"], ["orders → inventory.hold", "orders → inventory.release"]),
        (["orders"], []),
    ],
)
def test_edges_follow_from_the_declarations(calls: Any, expected: list[str]) -> None:
    assert [str(edge) for edge in sorted(declared_edges(shop(calls)))] == expected


def test_services_and_operations_themselves_may_be_named() -> None:
    catalog = Service("catalog", auth=public)

    @catalog.internal
    async def find(sku: str) -> str:
        return sku

    for calls in ([catalog], [find]):
        app = App("shop", [catalog, Service("orders", auth=public, calls=calls)])
        assert declared_edges(app) == {Edge("orders", "catalog", "catalog.find")}


def test_a_call_of_what_there_is_not_is_found_before_anything_starts() -> None:
    problems = shop(["catalogue.find"]).check()
    assert problems == [
        "service orders: it calls 'catalogue.find', and the app has neither a service nor an operation of that name. "
        "Did you mean 'catalog.find'?"
    ]


def test_a_single_text_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"Write \['catalog'\]"):
        Service("orders", calls="catalog")


def test_of_all_edges_those_declared_and_a_services_own_are_allowed() -> None:
    edges = Edges(shop(["inventory.hold"]))
    operations = ("catalog.find", "inventory.hold", "inventory.release", "orders.look", "orders.take")
    allowed = {
        (c, o)
        for c in ("catalog", "inventory", "orders", "stranger", "")
        for o in operations
        if edges.allowed(c, o)
    }
    own = {(o.partition(".")[0], o) for o in operations}
    assert allowed == own | {("orders", "inventory.hold")}


def test_a_refusal_says_what_to_write() -> None:
    with pytest.raises(CallRefused) as refused:
        Edges(shop(["catalog"])).check("orders", "inventory.hold")
    assert refused.value.detail == (
        "service orders: it calls inventory.hold, which it does not declare. If it is meant to, write: "
        'Service("orders", calls=["inventory.hold", …]).'
    )
    assert (refused.value.status, refused.value.extra["reason"]) == (403, "edge")


async def test_inside_one_process_a_service_that_declares_calls_makes_no_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with shop(["catalog"]).test(raise_errors=False) as t:
        assert (await t.client.get("/find")).status == 200
        assert (await t.client.get("/hold")).status == 500
        counted = t.app.assembly.telemetry.registry.value(
            "tenfold_service_calls_refused_total", "orders", "inventory.release", "edge"
        )
    assert counted == 1
    assert any(
        "it calls inventory.release, which it does not declare"
        in r.getMessage() + str(getattr(r, "fields", ""))
        for r in caplog.records
    )


async def test_a_service_that_declares_nothing_calls_what_is_in_its_process() -> None:
    async with shop(None).test() as t:
        assert (await t.client.get("/find")).status == 200
        assert (await t.client.get("/hold")).status == 200


def test_a_service_that_declares_nothing_calls_nobody_beyond_its_process() -> None:
    edges = Edges(shop(None))
    assert edges.refused_inside("catalog.find") == {"inventory"}
    assert edges.refused_beyond("catalog.find") == {"inventory", "orders"}
    assert "in another process, and declares no calls" in str(edges.undeclared("orders", "catalog.find"))


async def test_refusals_are_all_counted_and_logged_once_a_minute_for_each_edge(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, registry = ManualClock(), Registry()
    refusals = Refusals(registry, clock)
    caplog.set_level(logging.WARNING, "tenfold.identity")
    for _ in range(61):
        for caller in ("orders", ""):
            refusals.note(caller, "catalog.find", "edge", "not declared")
        await clock.advance(1)
    assert EVERY_S == 60
    lines: list[dict[str, str]] = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    assert [(line["caller"], line.get("more")) for line in lines] == [
        ("orders", None),
        ("unknown", None),
        ("orders", "59"),
        ("unknown", "59"),
    ]
    child = registry.counter(names.CALLS_REFUSED, "", (names.CALLER, names.OPERATION, names.REASON))
    assert child.labels("orders", "catalog.find", "edge").value == 61
