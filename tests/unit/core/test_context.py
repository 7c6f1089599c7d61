"""The context of the work in hand: found anywhere, carried in messages, never mixed up between tasks."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tenfold._core.clock import ManualClock
from tenfold._core.context import Context, Priority, current, enter, use


def full() -> Context:
    return Context(
        request_id="r1", trace_id="a" * 32, span_id="b" * 16, tracestate="x=y", sampled=True, tenant="t1",
        causal="lsn:5", deadline=12.0, principal=object(), priority=Priority.SHEDDABLE, service="shop",
        operation="shop.buy", state={"tx": object()},
    )  # fmt: skip


def test_what_travels_survives_the_wire_and_the_rest_stays_here() -> None:
    context = full()
    wire = msgspec.json.decode(msgspec.json.encode(context.to_wire()))
    arrived = Context.from_wire(wire)
    expected = Context(
        request_id="r1", trace_id="a" * 32, span_id="b" * 16, tracestate="x=y", sampled=True, tenant="t1",
        causal="lsn:5",
    )  # fmt: skip
    assert msgspec.structs.asdict(arrived) == msgspec.structs.asdict(expected)
    assert arrived.to_wire() == wire


def test_an_empty_context_travels_as_nothing() -> None:
    assert Context().to_wire() == {}


def test_members_of_a_newer_version_are_ignored() -> None:
    assert Context.from_wire({"tenant": "t1", "region": "mars", "principal": "forged"}).tenant == "t1"
    assert Context.from_wire({"principal": "forged"}).principal is None


def test_a_child_shares_everything_but_the_state() -> None:
    context = full()
    child = context.child(service="stock", deadline=1.0)
    assert (child.service, child.deadline, child.state) == ("stock", 1.0, None)
    assert (child.principal, child.trace_id, child.priority) == (
        context.principal,
        "a" * 32,
        context.priority,
    )
    assert (context.service, context.deadline) == ("shop", 12.0)


@pytest.mark.anyio
async def test_the_time_left_is_measured_on_the_clock() -> None:
    clock = ManualClock()
    await clock.advance(10.0)
    assert Context(deadline=12.5).remaining(clock) == 2.5
    assert Context(deadline=9.0).remaining(clock) == -1.0
    assert Context().remaining(clock) is None


def test_a_block_uses_its_context_and_gives_the_former_back_even_when_it_fails() -> None:
    outer, inner = Context(tenant="outer"), Context(tenant="inner")
    with use(outer):
        with pytest.raises(ValueError, match="x"), use(inner):
            assert current() is inner
            raise ValueError("x")
        assert current() is outer


def test_outside_of_any_work_there_is_an_empty_context_and_always_the_same() -> None:
    async def main() -> None:
        assert current().service == ""
        assert current() is current()

    asyncio.run(main())


@pytest.mark.anyio
async def test_tasks_start_with_their_parents_context_and_change_only_their_own() -> None:
    parent = Context(tenant="parent")

    async def child(name: str) -> tuple[str | None, str | None]:
        before = current().tenant
        enter(Context(tenant=name))
        await asyncio.sleep(0)
        return before, current().tenant

    with use(parent):
        found = await asyncio.gather(child("a"), child("b"))
        assert found == [("parent", "a"), ("parent", "b")]
        assert current() is parent
