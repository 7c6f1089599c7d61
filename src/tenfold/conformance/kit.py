"""What all suites share: their base class, waiting without sleeping, and convicting broken backends."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar, TypeVar

import pytest

T = TypeVar("T")

POLL_S = 0.005
PATIENCE_S = 10.0
"""How long something that must happen is waited for before a test says that it does not."""


class Conformance:
    """The base of every suite. Coroutine tests run on asyncio, all of a class in one event loop, so that a
    backend can be opened once per class."""

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.anyio]

    @pytest.fixture(scope="class")
    @classmethod
    def anyio_backend(cls) -> str:
        """Tenfold runs on asyncio only."""
        return "asyncio"


async def until(
    condition: Callable[[], Any], what: str, *, timeout_s: float = PATIENCE_S, every_s: float = POLL_S
) -> Any:
    """Call (and await) ``condition`` again and again until it is true; returns what it answered.

    Fails the test with "``what`` did not happen" after ``timeout_s``.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if loop.time() > end:
            pytest.fail(f"{what} did not happen within {timeout_s:g} s")
        await asyncio.sleep(every_s)


async def together(works: Iterable[Awaitable[T]], *, timeout_s: float = 3 * PATIENCE_S) -> list[T]:
    """Everything at the same time; raises the first error after all have ended, fails after ``timeout_s``."""
    outcomes = await outcomes_of(works, timeout_s=timeout_s)
    answers: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        answers.append(outcome)
    return answers


async def outcomes_of(
    works: Iterable[Awaitable[T]], *, timeout_s: float = 3 * PATIENCE_S
) -> list[T | BaseException]:
    """Everything at the same time; the answer or the error of each, in the order given."""
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.gather(*works, return_exceptions=True)
    except TimeoutError:
        pytest.fail(f"what was started together did not end within {timeout_s:g} s")


async def convict(
    test: Callable[..., Awaitable[None]], *, timeout_s: float = PATIENCE_S, **fixtures: Any
) -> BaseException:
    """Run one test of a suite, with a broken backend among its ``fixtures``; returns what it failed with.

    ``test`` is a bound method of a suite. It gets those of ``fixtures`` that it asks for. A test that passes, or
    skips, lets a broken backend get away: that fails the caller. One that hangs has noticed.
    """
    asked = {name: fixtures[name] for name in inspect.signature(test).parameters}
    try:
        async with asyncio.timeout(timeout_s):
            await test(**asked)
    except pytest.skip.Exception as skipped:
        pytest.fail(f"{test.__name__} was skipped: {skipped}")
    except (Exception, pytest.fail.Exception) as noticed:
        return noticed
    pytest.fail(f"{test.__name__} passes with the broken backend: {inspect.getdoc(test)}")
