"""Random flows, broken off at random points: they do what a run without interruption does, each effect once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.queues import add_effect, rig
from tenfold import Flow
from tenfold._core.container import injected
from tenfold._core.failpoints import KNOWN, failpoints
from tenfold.db import Tx
from tenfold.jobs import Job, Retry
from tenfold.queue.testing import next_due, run_pending

POINTS = [point for point in KNOWN if point.startswith("flow.")]


class Op(msgspec.Struct):
    """One thing that a flow does. ``fails`` is how often before it succeeds; ``width`` how many side by side."""

    kind: str
    n: int
    fails: int = 0
    width: int = 1


ops = st.builds(
    Op,
    kind=st.sampled_from(["step", "tx", "sleep", "signal", "jobs"]),
    n=st.integers(0, 99),
    fails=st.integers(0, 2),
    width=st.integers(1, 3),
)
breaks = st.lists(st.tuples(st.sampled_from(POINTS), st.integers(1, 4)), max_size=4)


@pytest.fixture(autouse=True)
def off_afterwards() -> Generator[None]:
    yield
    failpoints.configure("")


async def child(n: int, tx: Tx = injected()) -> int:
    await tx.execute(add_effect, what=f"child {n}")
    return n


children = Job[Any, int]("s", child)


class World:
    """The functions of the steps of one flow, with the failures they have still to show."""

    def __init__(self, program: list[Op]) -> None:
        self.fails = {(i, j): op.fails for i, op in enumerate(program) for j in range(op.width)}

    def fail(self, i: int, j: int) -> None:
        if self.fails[i, j]:
            self.fails[i, j] -= 1
            raise ConnectionError("not yet")

    async def step(self, i: int, j: int, n: int) -> int:
        self.fail(i, j)
        return n + j

    async def tx(self, i: int, j: int, n: int, tx: Tx = injected()) -> int:
        await tx.execute(add_effect, what=f"{i}.{j}")
        self.fail(i, j)
        return n + j


async def perform(flow: Flow, world: World, i: int, op: Op) -> list[int]:
    if op.kind == "sleep":
        await flow.sleep(op.n)
        return []
    if op.kind == "signal":
        return [await flow.signal("number", int)]
    if op.kind == "jobs":
        return await flow.run_all([children.call(op.n + j) for j in range(op.width)])
    fn = world.tx if op.kind == "tx" else world.step
    return await asyncio.gather(*(flow.step(f"{i}.{j}", fn, i, j, op.n) for j in range(op.width)))


def expected(program: list[Op]) -> tuple[list[int], list[str]]:
    """The result, and the effects in any order."""
    result: list[int] = []
    effects: list[str] = []
    signals = 0
    for i, op in enumerate(program):
        if op.kind == "signal":
            result.append(signals)
            signals += 1
        elif op.kind != "sleep":
            result += [op.n + j for j in range(op.width)]
        if op.kind == "tx":
            effects += [f"{i}.{j}" for j in range(op.width)]
        elif op.kind == "jobs":
            effects += [f"child {op.n + j}" for j in range(op.width)]
    return result, sorted(effects)


async def run(program: list[Op], broken: list[tuple[str, int]]) -> tuple[list[int], list[str]]:
    world = World(program)

    async def flow(flow: Flow = injected()) -> list[int]:
        found: list[int] = []
        for i, op in enumerate(program):
            found += await perform(flow, world, i, op)
        return found

    made = Job[Any, list[int]]("s", flow, result_ttl=10**6, retry=Retry(attempts=20, base_s=1))
    with tempfile.TemporaryDirectory() as folder:
        async with rig(Path(folder), made, children) as r:
            handle = await made.enqueue(r.db)
            async with r.db.tx() as tx:
                for n in range(sum(op.kind == "signal" for op in program)):
                    await handle.signal(tx, "number", n)
            for point, visit in [*broken, ("", 0)]:
                failpoints.configure(f"{point}=error@{visit}" if point else "")
                worker = r.worker()
                await run_pending(worker)
                while (due := await next_due(worker)) is not None:
                    await r.clock.advance(max(0.0, due - r.clock.now()))
                    await run_pending(worker)
            return await handle.result(), sorted(await r.did())


@settings(max_examples=12, deadline=None)
@given(program=st.lists(ops, min_size=1, max_size=5), broken=breaks)
def test_a_flow_that_is_broken_off_does_what_one_does_that_is_not(
    program: list[Op], broken: list[tuple[str, int]]
) -> None:
    assert asyncio.run(run(program, broken)) == expected(program)
