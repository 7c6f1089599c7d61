"""One process, one event loop: the public listener, the operations listener, and the worker.

The order matters (GUARANTEES, trap 13). Start: sockets, app (databases, caches, migrations), worker, listeners,
and only then readiness. Stop, on SIGTERM or SIGINT: unready, refuse new connections, answer what is in flight,
hand unfinished jobs back, close the databases. A start that is under way is called off
(:mod:`tenfold.runtime.signals`). A second signal ends the process at once.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenfold.runtime import listeners
from tenfold.runtime.listeners import GranianListener, Listener, UvicornListener
from tenfold.runtime.reload import Sources, replace_process
from tenfold.runtime.signals import Signals

if TYPE_CHECKING:
    from tenfold.app import App

log = logging.getLogger("tenfold.runtime")

SERVERS: dict[str, Callable[..., Listener]] = {"uvicorn": UvicornListener, "granian": GranianListener}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a started process answers; ``public`` is empty for one that only works."""

    public: str
    ops: str


@dataclass(frozen=True, slots=True)
class Roles:
    """What this process does besides the operations listener."""

    web: bool = True
    worker: bool = True


def run(
    app: App,
    roles: Roles,
    *,
    started: Callable[[Addresses], None],
    reload: Sources | None = None,
) -> int:
    """Serve until a signal comes; the process's exit code.

    ``started`` is called once everything answers. With ``reload``, a change of the sources replaces the process
    by a new one of the same id, so whoever started it keeps hold of it.
    """
    changed = _new_loop_run(_main(app, roles, started, reload))
    if changed:
        _say(f"\n{changed} changed: starting again\n")
        replace_process()
    return 0


async def _main(app: App, roles: Roles, started: Callable[[Addresses], None], reload: Sources | None) -> str:
    signals, process = Signals(app.settings.app.stop_timeout_s), _Process(app, roles)
    addresses = await signals.unless_told(process.start())
    if addresses is None:
        return ""
    try:
        started(addresses)
        watcher = asyncio.create_task(_watch(reload, signals.told)) if reload else None
        await signals.told.wait()
        app.draining = True
        changed = watcher.result() if watcher is not None and watcher.done() else ""
        if watcher is not None:
            watcher.cancel()
    finally:
        await process.stop()
    return changed


class _Process:
    """The app with its listeners."""

    def __init__(self, app: App, roles: Roles) -> None:
        self._app, self._roles = app, roles
        self._public: list[Listener] = []
        self._ops: Listener | None = None

    async def start(self) -> Addresses:
        """Returns when it is ready."""
        app = self._app
        async with AsyncExitStack() as undo:
            addresses = self._bind(undo)
            await app.start(worker=self._roles.worker)
            undo.push_async_callback(app.stop)
            assert self._ops is not None
            for listener in (*self._public, self._ops):  # readiness is asked of the last one
                await listener.start()
                undo.push_async_callback(listener.stop)
            undo.pop_all()
        return addresses

    def _bind(self, undo: AsyncExitStack) -> Addresses:
        """Take the ports and make the listeners, so that what is in the way is known before anything starts."""
        settings = self._app.settings
        drain_s = settings.app.stop_timeout_s
        sock = undo.enter_context(listeners.bind(settings.ops.host, settings.ops.port, where="ops.port"))
        self._ops, ops = UvicornListener(self._app, sock, drain_s=drain_s, ops=True), listeners.address(sock)
        if not self._roles.web:
            return Addresses("", ops)
        sock = undo.enter_context(listeners.bind(settings.http.host, settings.http.port, where="http.port"))
        public = listeners.address(sock)
        self._public.append(SERVERS[settings.http.server](self._app, sock, drain_s=drain_s))
        return Addresses(public, ops)

    async def stop(self) -> None:
        """Returns when it is drained."""
        # The worker hands its messages back while requests in flight are answered; health keeps answering.
        ends = [self._app.stop_worker(), *(listener.stop() for listener in self._public)]
        for error in await asyncio.gather(*ends, return_exceptions=True):
            if isinstance(error, BaseException):
                log.error("draining failed", exc_info=error)
        await self._app.stop()
        if self._ops is not None:
            await self._ops.stop()


def _new_loop_run(main: Coroutine[Any, Any, str]) -> str:
    import uvloop

    return uvloop.run(main)


async def _watch(sources: Sources, stop: asyncio.Event) -> str:
    """Set ``stop`` when a source file changes; the name of the first one."""
    path = await sources.changed()
    stop.set()
    return path


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
