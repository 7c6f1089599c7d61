"""Waiting that outlasts cancellations: a connection must be at rest before somebody else gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Outlasting(Generic[T]):
    """``await outlasting`` runs a coroutine to its end through any number of cancellations of the task that awaits it,
    and answers what it does; :attr:`cancelled` says afterwards whether there was one, which the caller raises again.
    The coroutine has a task of its own."""

    __slots__ = ("_work", "cancelled")

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self.cancelled = False

    def __await__(self) -> Generator[Any, None, T]:
        return self._settle().__await__()

    async def _settle(self) -> T:
        task = asyncio.ensure_future(self._work)
        self.cancelled = await settled(task)
        return task.result()


class Through(Outlasting[T]):
    """The same without a task, and so without its rounds of the loop: for coroutines that wait for futures and do not
    cancel themselves, as ``asyncio.timeout`` does."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, T]:
        step: Callable[[], Any] = partial(self._work.send, None)
        while True:
            try:
                waits_for = step()
            except StopIteration as end:
                value: T = end.value
                return value
            step = partial(self._work.send, None)
            try:
                yield None if waits_for is None else _Unbroken(waits_for, self)
            except asyncio.CancelledError as error:
                if waits_for is not None and waits_for.cancelled():
                    step = partial(self._work.throw, error)  # what it waits for was called off, not this task
                else:
                    self.cancelled = True
            except BaseException as error:
                step = partial(self._work.throw, error)


class _Unbroken:
    """A future as its task gets to see it, which asks of it what ``asyncio.isfuture`` promises: cancelling the task is
    noted, and changes nothing for the future."""

    __slots__ = ("_asyncio_future_blocking", "_future", "_through")

    def __init__(self, future: Any, through: Through[Any]) -> None:
        future._asyncio_future_blocking = (
            False  # that it was awaited, and not yielded, is said by this one from now on
        )
        self._asyncio_future_blocking = True
        self._future = future
        self._through = through

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Any = None) -> None:
        self._future.add_done_callback(callback, context=context)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = self._future.get_loop()
        return loop

    def done(self) -> bool:
        return bool(self._future.done())

    def cancel(self, msg: object = None) -> bool:
        self._through.cancelled = True
        return True


async def settled(future: asyncio.Future[Any]) -> bool:
    """Wait for the end of ``future``, whatever it is, through any number of cancellations.

    True when there was one; the caller raises it again once the connection is safe.
    """
    cancelled = False
    while not future.done():
        # What asyncio.wait and shield do for one future, at a fifth of their cost.
        waiter: asyncio.Future[None] = future.get_loop().create_future()
        future.add_done_callback(partial(_release, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            cancelled = True
    if not future.cancelled():
        future.exception()  # seen
    return cancelled


def _release(waiter: asyncio.Future[None], _: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def quiet(lock: asyncio.Lock) -> bool:
    """Wait until nobody holds ``lock``, through any number of cancellations; True when there was one."""
    cancelled = False
    while lock.locked():
        try:
            async with lock:
                pass
        except asyncio.CancelledError:
            cancelled = True
    return cancelled
