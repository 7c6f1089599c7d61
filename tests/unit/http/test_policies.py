"""Policies on operation, service and app: the nearest holds, limits add up, and wrong values are refused by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from http_calls import acall

from tenfold import App, Service, public
from tenfold._core.clock import Clock, ManualClock
from tenfold._core.context import Priority
from tenfold.errors import DeclarationError
from tenfold.http.operation import UNSET, Operation, Policies
from tenfold.http.policies import OVERRIDE, Shared, effective, sourced


async def answer() -> str:
    return "here"


def declared(method: str = "POST", **policies: Any) -> Operation[..., Any]:
    return Operation(answer, service="orders", method=method, path="/orders", policies=Policies(**policies))


SERVICE = ("service orders", Shared(timeout_s=5.0, priority=Priority.CRITICAL, idempotent=True))
APP = ("app", Shared(timeout_s=9.0, body_max_bytes=100, concurrency=7))


def test_the_nearest_declaration_holds_and_is_named() -> None:
    found = sourced(declared(priority=Priority.SHEDDABLE), (SERVICE, APP))
    assert found["priority"] == (Priority.SHEDDABLE, "operation")
    assert found["timeout_s"] == (5.0, "service orders")
    assert found["body_max_bytes"] == (100, "app")
    assert found["concurrency"] == (7, "app")
    assert found["idempotent"] == (True, "service orders")


def test_none_lifts_an_inherited_bulkhead_and_false_an_inherited_idempotency() -> None:
    found = sourced(declared(concurrency=None, idempotent=False), (SERVICE, APP))
    assert found["concurrency"] == (None, "operation")
    assert found["idempotent"] == (False, "operation")


def test_operations_without_effects_inherit_no_idempotency() -> None:
    assert sourced(declared("GET"), (SERVICE, APP))["idempotent"] == (False, "default")


def test_what_is_changed_at_run_time_goes_before_the_operation() -> None:
    layers = ((OVERRIDE, Shared(timeout_s=0.5, limit="1/hour")), SERVICE, APP)
    made = effective(declared(timeout_s=3.0, limit="5/second"), layers)
    assert (made.policies.timeout_s, made.policies.limit) == (0.5, "1/hour")


def test_the_declaration_itself_stays_as_it_was() -> None:
    operation = declared()
    effective(operation, (SERVICE, APP))
    assert operation.policies.priority is UNSET


@pytest.mark.parametrize(
    ("policy", "value", "said"),
    [
        ("priority", "urgent", "is none of critical, default, sheddable, background"),
        ("priority", "sheddible", "Did you mean 'sheddable'?"),
        ("timeout_s", 0, "its timeout_s is 0. Write seconds above 0"),
        ("timeout_s", float("nan"), "its timeout_s is nan"),
        ("timeout_s", True, "its timeout_s is True"),
        ("concurrency", 0, "its concurrency is 0. Write how many may run at a time"),
        ("concurrency", 2.5, "its concurrency is 2.5"),
        ("idempotent", "maybe", 'Write True, False or "required"'),
        ("body_max_bytes", -1, "its body_max_bytes is -1. Write bytes"),
    ],
)
def test_a_wrong_value_is_refused_with_the_place_of_its_declaration(
    policy: str, value: object, said: str
) -> None:
    wrong: dict[str, Any] = {policy: value}
    service = Service("orders", auth=public)
    with pytest.raises(DeclarationError) as on_operation:
        service.post("/orders", **wrong)(answer)
    assert "test_policies.py:" in str(on_operation.value)
    assert said in str(on_operation.value)
    with pytest.raises(DeclarationError, match="service other: "):
        Service("other", **wrong)
    with pytest.raises(DeclarationError, match="app shop: "):
        App("shop", [], **wrong)


def test_a_wrong_limit_of_a_service_says_whose_and_where() -> None:
    with pytest.raises(DeclarationError, match=r"service other, limit '20/minut': .* character 4"):
        Service("other", limit="20/minut")


# ── concurrency ──


class Hall:
    """An app whose ``/slow`` stands still until it is opened."""

    def __init__(self, **policies: Any) -> None:
        self.opened = asyncio.Event()
        service = Service("hall", auth=public)

        @service.get("/slow", **policies)
        async def slow() -> str:
            await self.opened.wait()
            return "done"

        service.get("/quick")(answer)
        self.app = App("hall", [service])
        self.service = service

    async def full(self, asked: int) -> list[asyncio.Task[Any]]:
        """So many requests, all begun."""
        tasks = [asyncio.create_task(acall(self.app, "GET", "/slow")) for _ in range(asked)]
        bulkhead = self.app.assembly.http.wiring.bulkheads["hall.slow"]
        await until(lambda: bulkhead.in_flight + bulkhead.refused >= asked)
        return tasks


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0)


async def test_a_full_bulkhead_refuses_its_own_operation_only(tmp_path: Any) -> None:
    hall = Hall(concurrency=2)
    async with hall.app.test(app__data_dir=str(tmp_path)):
        tasks = await hall.full(3)
        quick = await acall(hall.app, "GET", "/quick")
        hall.opened.set()
        statuses = sorted([(await task).status for task in tasks])
        refused = next(task.result() for task in tasks if task.result().status == 503)
    assert statuses == [200, 200, 503]
    assert quick.status == 200
    assert refused.headers["retry-after"] == "1"
    assert (refused.json["limit"], refused.json["value"]) == ("concurrency", 2)


async def test_places_are_given_back_and_a_changed_bound_knows_who_is_in(tmp_path: Any) -> None:
    hall = Hall(concurrency=2)
    async with hall.app.test(app__data_dir=str(tmp_path)):
        http = hall.app.assembly.http
        begun = await hall.full(2)
        http.recompile(lambda _: ((OVERRIDE, Shared(concurrency=3)),))
        third = asyncio.create_task(acall(hall.app, "GET", "/slow"))
        await until(lambda: http.wiring.bulkheads["hall.slow"].in_flight == 3)
        fourth = await acall(hall.app, "GET", "/slow")
        hall.opened.set()
        assert {(await task).status for task in (*begun, third)} == {200}
        assert fourth.json["value"] == 3
        assert http.wiring.bulkheads["hall.slow"].in_flight == 0


def test_an_operation_without_a_bound_has_no_such_step() -> None:
    app = App("hall", [Hall().service])
    app.configure(environ={})
    assert all("bulkhead" not in endpoint.source for endpoint in _endpoints(app))


def _endpoints(app: App) -> list[Any]:
    from tenfold.assembly import Assembly

    return Assembly(app).http.endpoints


def test_the_nearest_objective_holds_and_none_lifts_it() -> None:
    app = ("app", Shared(slo="99% under 1s"))
    assert str(effective(declared(slo="99.9% under 300ms"), (app,)).policies.slo) == "99.9% under 300ms"
    assert sourced(declared(), (app,))["slo"] == ("99% under 1s", "app")
    assert sourced(declared(slo=None), (app,))["slo"] == (None, "operation")


def test_a_mistake_in_an_objective_names_the_operation_and_the_position() -> None:
    with pytest.raises(DeclarationError, match=r"test_policies.*slo '99.9 under 1s'.*character 6: 'under'"):
        declared(slo="99.9 under 1s")


def test_what_is_late_or_our_fault_is_counted_against_the_objective() -> None:
    books = Service("books", auth=public, slo="99% under 30ms")

    @books.get("/fine")
    async def fine() -> int:
        return 1

    @books.get("/wrong")
    async def wrong() -> int:
        raise RuntimeError

    @books.get("/late")
    async def late(clock: Clock) -> int:
        assert isinstance(clock, ManualClock)
        await clock.advance(0.04)
        return 1

    @books.get("/free", slo=None)
    async def free() -> int:
        return 1

    app = App("shop", [books])

    async def main() -> str:
        async with app.test(raise_errors=False) as t:
            for path in ("/fine", "/fine", "/wrong", "/late", "/free"):
                await t.client.get(path)
            page = await acall(app.ops, "GET", "/metrics", client=("127.0.0.1", 1))
            return page.body.decode()

    text = asyncio.run(main())
    for name, of, bad in (("fine", 2, 0), ("wrong", 1, 1), ("late", 1, 1)):
        labels = f'{{objective="99% under 30ms",operation="books.{name}"}}'
        assert f"tenfold_slo_requests_total{labels} {of}.0" in text
        assert f"tenfold_slo_bad_requests_total{labels} {bad}.0" in text
    assert 'operation="books.free"' in text
    assert 'objective="99% under 30ms",operation="books.free"' not in text
