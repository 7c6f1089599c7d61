"""Reads that may go to a copy: sent to one that fits, repeated elsewhere when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tenfold.db.contract import Args, Channel, Rows
from tenfold.errors import DatabaseError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tenfold.db._replica_node import Node
    from tenfold.db.plan import Plan
    from tenfold.db.replicas import Replicas

R = TypeVar("R")


class Routed(Channel):
    """Each statement by itself, on a copy that fits or else on the primary. ``age_s`` None: the caller's own writes
    are needed; a number: at most so many seconds old."""

    __slots__ = ("_age_s", "_replicas")

    def __init__(self, replicas: Replicas, age_s: float | None) -> None:
        self._replicas = replicas
        self._age_s = age_s

    async def fetch(self, plan: Plan, args: Args, limit: int) -> Rows:
        return await self._on_one(lambda reader: reader.fetch(plan, args, limit))

    async def fetch_each(self, plan: Plan, many: Sequence[Args], limit: int) -> list[Rows]:
        return await self._on_one(lambda reader: reader.fetch_each(plan, many, limit))

    async def _on_one(self, call: Callable[[Channel], Awaitable[R]]) -> R:
        replicas = self._replicas
        tried: list[Node] = []
        while (node := await replicas.choose(self._age_s, tried)) is not None:
            try:
                return await node.run(call, node.backend.reader())
            except DatabaseError as error:
                tried += replicas.blamed(node, error)
        return await call(replicas.primary.reader())

    async def stream(self, plan: Plan, args: Args, chunk: int) -> AsyncIterator[Rows]:
        replicas = self._replicas
        tried: list[Node] = []
        while (node := await replicas.choose(self._age_s, tried)) is not None:
            pieces = node.backend.reader().stream(plan, args, chunk)
            try:
                first = await node.run(_next, pieces)
            except DatabaseError as error:
                tried += replicas.blamed(node, error)
                continue
            async for rows in _from(node, first, pieces):
                yield rows
            return
        async for rows in _whole(replicas.primary.reader().stream(plan, args, chunk)):
            yield rows

    def snapshot(self) -> AbstractAsyncContextManager[Channel]:
        return _Snapshot(self._replicas, self._age_s)


class _Snapshot(Channel):
    """All statements on the same state of one node, chosen at the first of them. Until that one is answered, another
    node can take over; afterwards only the caller could begin again."""

    __slots__ = ("_age_s", "_channel", "_node", "_replicas", "_stack", "_turn")

    def __init__(self, replicas: Replicas, age_s: float | None) -> None:
        self._replicas = replicas
        self._age_s = age_s
        self._stack = AsyncExitStack()
        self._turn = asyncio.Lock()
        self._node: Node | None = None
        self._channel: Channel | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def fetch(self, plan: Plan, args: Args, limit: int) -> Rows:
        return await self._do(lambda channel: channel.fetch(plan, args, limit))

    async def fetch_each(self, plan: Plan, many: Sequence[Args], limit: int) -> list[Rows]:
        return await self._do(lambda channel: channel.fetch_each(plan, many, limit))

    async def stream(self, plan: Plan, args: Args, chunk: int) -> AsyncIterator[Rows]:
        async def begin(channel: Channel) -> tuple[Rows | None, AsyncIterator[Rows]]:
            pieces = channel.stream(plan, args, chunk)
            return await _next(pieces), pieces

        first, pieces = await self._do(begin)
        async for rows in _from(self._node, first, pieces):
            yield rows

    async def _do(self, call: Callable[[Channel], Awaitable[R]]) -> R:
        if self._channel is None:
            async with self._turn:
                if self._channel is None:
                    return await self._first(call)
        channel = self._channel
        return await (call(channel) if self._node is None else self._node.run(call, channel))

    async def _first(self, call: Callable[[Channel], Awaitable[R]]) -> R:
        replicas = self._replicas
        tried: list[Node] = []
        while (node := await replicas.choose(self._age_s, tried)) is not None:
            try:
                async with AsyncExitStack() as stack:
                    entered = await node.run(stack.enter_async_context, node.backend.snapshot())
                    channel = cast("Channel", entered)
                    result = await node.run(call, channel)
                    self._node, self._channel, self._stack = node, channel, stack.pop_all()
                return result
            except DatabaseError as error:
                tried += replicas.blamed(node, error)
        self._channel = await self._stack.enter_async_context(replicas.primary.snapshot())
        return await call(self._channel)


async def _next(pieces: AsyncIterator[Rows]) -> Rows | None:
    try:
        return await anext(pieces, None)
    except BaseException:
        await _close(pieces)
        raise


async def _from(node: Node | None, first: Rows | None, pieces: AsyncIterator[Rows]) -> AsyncIterator[Rows]:
    """What was read already, then the rest."""
    rows = first
    try:
        while rows is not None:
            yield rows
            rows = await (_next(pieces) if node is None else node.run(_next, pieces))
    finally:
        await _close(pieces)


async def _whole(pieces: AsyncIterator[Rows]) -> AsyncIterator[Rows]:
    try:
        async for rows in pieces:
            yield rows
    finally:
        await _close(pieces)


async def _close(pieces: AsyncIterator[Rows]) -> None:
    await cast("Any", pieces).aclose()
