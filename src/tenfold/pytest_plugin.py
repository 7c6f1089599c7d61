"""The pytest plugin: the fixture ``test_app``, and coroutine tests without another plugin.

In ``pyproject.toml``::

    [tool.pytest.ini_options]
    tenfold_app = "shop.app:app"

The app is started once per session, and every test that asks for ``test_app`` runs in a sandbox of its own (see
:class:`tenfold.testing.TestApp`). Coroutine tests and fixtures that use it run in the loop that the app runs in;
coroutine tests that no other plugin takes run there too. A fixture ``tenfold_app`` in ``conftest.py`` that returns
an App replaces the option.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import importlib
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.testing import TestApp

T = TypeVar("T")
OURS = frozenset({"test_app", "tenfold_started", "tenfold_app"})


class _Loop:
    """The loop of a session. What a fixture sets in its context, tests find; what a test sets, no other one does."""

    def __init__(self) -> None:
        self._runner, self._context = asyncio.Runner(), contextvars.copy_context()
        self.close = self._runner.close

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """For fixtures."""
        return self._runner.run(work, context=self._context)

    def run_test(self, test: Coroutine[Any, Any, None]) -> None:
        self._runner.run(test, context=self._context.copy())


_LOOP = pytest.StashKey[_Loop]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("tenfold_app", "The app that the fixture test_app starts, as module:name.", default="")


# ── fixtures ──


@pytest.fixture(scope="session")
def tenfold_app(pytestconfig: pytest.Config) -> App:
    """The app under test, as the ini option ``tenfold_app`` (or else ``app.target`` in tenfold.toml) names it."""
    from tenfold._core import settings
    from tenfold.app import App

    named = str(pytestconfig.getini("tenfold_app")) or settings.peek("app.target", environ={})
    if not named:
        raise pytest.UsageError(
            'test_app needs to know the app: set tenfold_app = "shop.app:app" in [tool.pytest.ini_options].'
        )
    module, _, name = named.partition(":")
    found = getattr(importlib.import_module(module), name or "app", None)
    if not isinstance(found, App):
        raise pytest.UsageError(f"tenfold_app = {named!r} names no tenfold.App.")
    return found


@pytest.fixture(scope="session")
def tenfold_started(tenfold_app: App, pytestconfig: pytest.Config) -> Generator[TestApp]:
    """The app, started once per session. For fixtures that fill it with what every test needs."""
    from tenfold.testing import TestApp

    run, started = _loop(pytestconfig).run, TestApp(tenfold_app)
    run(started.start())
    yield started
    run(started.stop())


@pytest.fixture
def test_app(tenfold_started: TestApp, pytestconfig: pytest.Config) -> Generator[TestApp]:
    """The app, started; what the test does to its database, clock, queue and caches is undone at its end."""
    run, sandbox = _loop(pytestconfig).run, tenfold_started.sandbox()
    yield run(sandbox.__aenter__())
    run(sandbox.__aexit__(None, None, None))


# ── coroutines ──


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test that uses the app, before a plugin would run it in another loop."""
    return _run_test(pyfuncitem) if OURS & set(pyfuncitem.fixturenames) else None


class _Rest:
    """Coroutine tests that nobody else wanted. Plugins for coroutines ask to be first, and pytest, which would
    fail the test, to be last: this one is between them."""

    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        return _run_test(pyfuncitem)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Coroutine fixtures of tests that use the app run in its loop, like the tests."""
    original = fixturedef.func
    if OURS & set(request.fixturenames):
        # Final for readers; this is where plugins for coroutines put theirs.
        fixturedef.func = _in_loop(original, _loop(request.config))  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
    try:
        return (yield)
    finally:
        fixturedef.func = original  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Rest(), "tenfold-coroutines")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _LOOP in config.stash:
        config.stash[_LOOP].close()


def _loop(config: pytest.Config) -> _Loop:
    """The loop of this session, made when first needed."""
    if _LOOP not in config.stash:
        config.stash[_LOOP] = _Loop()
    return config.stash[_LOOP]


def _run_test(item: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(item.obj):
        return None
    names = item._fixtureinfo.argnames
    _loop(item.config).run_test(item.obj(**{name: item.funcargs[name] for name in names}))
    return True


def _in_loop(fn: Callable[..., Any], loop: _Loop) -> Callable[..., Any]:
    """``fn`` as pytest can call it: a plain function or a generator."""
    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        def value(**kwargs: Any) -> Any:
            return loop.run(fn(**kwargs))

        return value
    if inspect.isasyncgenfunction(fn):

        @functools.wraps(fn)
        def values(**kwargs: Any) -> Generator[Any]:
            generator: AsyncGenerator[Any] = fn(**kwargs)
            yield loop.run(_next(generator))
            loop.run(_end(generator))

        return values
    return fn


async def _next(generator: AsyncGenerator[Any]) -> Any:
    return await anext(generator)


async def _end(generator: AsyncGenerator[Any]) -> None:
    async for _ in generator:
        raise RuntimeError("an asynchronous fixture yielded more than once.")
