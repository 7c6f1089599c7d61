"""``tenfold shell``: a Python prompt inside the running app, where ``await`` works."""

from __future__ import annotations

import ast
import asyncio
import code
import contextlib
import inspect
import logging
import sys
import threading
import types
from collections.abc import AsyncGenerator
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from tenfold.cli import console, target
from tenfold.cli.run import Data
from tenfold.cli.target import Config, Target

if TYPE_CHECKING:
    from tenfold.app import App


def shell(app: Target = None, /, *, data: Data = None, config: Config = None) -> int:
    """A Python prompt inside the app: databases, queue and services work, the API and the worker do not run."""
    loaded = target.load(app, config)
    loaded.configure(config, app__data_dir=None if data is None else str(data))
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    asyncio.run(_main(loaded))
    return 0


async def _main(app: App) -> None:
    async with _started(app):
        names = _names(app)
        loop = asyncio.get_running_loop()
        prompt = _Prompt(names, loop)
        banner = _banner(app, names) if sys.stdin.isatty() else ""
        ended = loop.create_future()

        def interact() -> None:
            try:
                prompt.interact(banner, exitmsg="")
            finally:
                loop.call_soon_threadsafe(ended.set_result, None)

        if sys.stdin.isatty():
            _complete(names)
        # A daemon: a prompt that waits for a line cannot be woken when the process is told to end.
        threading.Thread(target=interact, name="tenfold-shell", daemon=True).start()
        await ended


@contextlib.asynccontextmanager
async def _started(app: App) -> AsyncGenerator[None]:
    await app.start(worker=False)
    try:
        yield
    finally:
        await app.stop()


def _names(app: App) -> dict[str, Any]:
    """What the prompt knows: ``app``, ``db``, and every service by name."""
    found: dict[str, Any] = {"__name__": "__console__", "app": app}
    for service in app.services:
        found[service.name.replace("-", "_")] = service
    databases = {database.name.replace("-", "_"): database for database in app.databases}
    if len(databases) == 1:
        found["db"] = app.databases[0]
    elif databases:
        found["db"] = types.SimpleNamespace(**databases)
    return found


def _banner(app: App, names: dict[str, Any]) -> str:
    databases = names.get("db")
    several = isinstance(databases, types.SimpleNamespace)
    shown = [
        "app",
        *((f"db.{name}" for name in vars(databases)) if several else ["db"] * (databases is not None)),
    ]
    shown += [name for name in names if name not in ("__name__", "app", "db")]
    title = f"{console.paint(app.name, console.BOLD)} is started without API and worker; await works."
    return f"{title}\n{console.paint(', '.join(shown), console.DIM)}"


def _complete(names: dict[str, Any]) -> None:
    with contextlib.suppress(ImportError):  # a Python without readline: no history and no completion
        import readline
        import rlcompleter

        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")


class _Prompt(code.InteractiveConsole):
    """Reads in its thread, runs in the app's loop."""

    def __init__(self, names: dict[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(names)
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._loop = loop

    def raw_input(self, prompt: str = "") -> str:
        return input(prompt if sys.stdin.isatty() else "")

    def runcode(self, code: types.CodeType) -> None:
        """Evaluate ``code`` in the loop's thread and wait; Ctrl+C cancels what it awaits."""
        done: Future[None] = asyncio.run_coroutine_threadsafe(self._evaluate(code), self._loop)
        try:
            done.result()
        except (KeyboardInterrupt, CancelledError):
            done.cancel()
            self.write("cancelled\n")

    async def _evaluate(self, code: types.CodeType) -> None:
        try:
            value = types.FunctionType(code, self.locals)()
            if inspect.iscoroutine(value):
                await value
        except SystemExit:
            raise
        except BaseException:
            self.showtraceback()
