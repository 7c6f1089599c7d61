"""Listeners: a bound socket and the HTTP server that answers on it, inside our own event loop.

The socket is bound before anything else starts, so a port in use is known at once and said in a sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import ssl
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from tenfold._core.tasks import end_tasks
from tenfold.errors import ConfigError, MissingExtra
from tenfold.runtime.accepting import Accepting
from tenfold.runtime.connections import ConnectionLimits, Connections
from tenfold.telemetry import names

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.http.memory import BodyMemory
    from tenfold.telemetry.hub import Hub

log = logging.getLogger("tenfold.runtime")

BACKLOG = 2048
FILES_KEPT = 256
"""Files that connections leave to databases, caches, brokers and files."""


class Listener(Protocol):
    """Accepts connections from ``start`` to ``stop``."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Stop accepting; answer what is in flight, then return."""
        ...


def bind(host: str, port: int, *, where: str) -> socket.socket:
    """A listening-to-be socket. Raises :class:`ConfigError` naming the setting when the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio's own loop lets small packets wait (40 ms for each answer) on sockets that do not name their protocol.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        remedy = _bind_remedy(error, where)
        raise ConfigError(_bind_problem(error, host, port), where=where, remedy=remedy) from None
    sock.set_inheritable(False)
    return sock


def address(sock: socket.socket) -> str:
    """``http://127.0.0.1:8000`` of a bound socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bind_problem(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken by another process."
    if error.errno == errno.EACCES:
        return f"this user may not listen on port {port}."
    return f"cannot listen on {host}:{port}: {error.strerror or error}."


def _bind_remedy(error: OSError, where: str) -> str:
    if error.errno == errno.EADDRINUSE:
        any_free = "" if where.startswith("balancer.") else " (0 takes any free one)"
        return f"Stop that process, or choose another port{any_free}."
    if error.errno == errno.EACCES:
        return "Choose a port above 1023, or allow it (Linux: sysctl net.ipv4.ip_unprivileged_port_start=80)."
    return "Use an address of this machine."


def within_files(limits: ConnectionLimits) -> ConnectionLimits:
    """Limits with no more connections than this process may have files, after asking the system for as many as it
    gives: a process that has none left can accept nobody, and open no database either."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        wanted = limits.connections_max + FILES_KEPT
        soft = max(soft, wanted if hard == resource.RLIM_INFINITY else min(wanted, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = max(1, soft - FILES_KEPT)
    if room >= limits.connections_max:
        return limits
    log.warning("at most %d connections (http.connections_max): %d files may be open (ulimit -n)", room, soft)
    return replace(limits, connections_max=room)


class UvicornListener:
    """The default: one pure-Python server in this loop, with httptools. ``ops`` serves the operations pages instead."""

    def __init__(self, app: App, sock: socket.socket, *, drain_s: float, ops: bool = False) -> None:
        import uvicorn

        from tenfold.runtime.protocol import ops_protocol_of, protocol_of
        from tenfold.runtime.sockets import socket_protocol_of

        class Server(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Generator[None]:
                """Signals are the runtime's: it has two listeners and a worker to stop in order."""
                yield

        self.app = app
        self._ops = ops
        http = app.settings.http
        self.connections = Connections(within_files(ConnectionLimits.of(http)), app.clock)
        self._sock = sock
        self._sock.setblocking(False)
        protocol = (ops_protocol_of if ops else protocol_of)(app, self.connections)
        self._server = Server(
            uvicorn.Config(
                app.ops if ops else app,
                interface="asgi3",  # left to guess, uvicorn takes a bound method such as App.ops for ASGI 2
                http=Accepting(protocol, sock, lambda: self._server.config.ssl),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
                ws=socket_protocol_of(self.connections),
                ws_max_size=http.body_max_bytes,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=max(1, int(drain_s)),
                ssl_context_factory=None if ops or not _mutual(app) else lambda *_: _context(app),
            )
        )
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        self._task = asyncio.create_task(self._server.serve([self._sock]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise ConfigError("the HTTP server ended before it had started.", where="http.server")
            await asyncio.sleep(0.005)
        self._watch = asyncio.create_task(self.connections.watch(), name="tenfold connections")
        if not self._ops:
            self._show(self.app.assembly.telemetry, self.app.assembly.http.memory)

    def _show(self, telemetry: Hub, memory: BodyMemory) -> None:
        telemetry.numbers(
            names.CONNECTIONS,
            "Connections of clients, and what is kept for them.",
            (
                {},
                lambda: {
                    "open": len(self._server.server_state.connections),
                    "stalled": len(self.connections.unsent),
                    "unsent_bytes": self.connections.unsent_bytes,
                    "body_bytes": memory.used,
                    "bodies_waiting": memory.waiting,
                    "bodies_refused_total": memory.refused,
                    "ended_total": self.connections.ended,
                },
            ),
        )

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        if self._watch is not None:
            await end_tasks(self._watch)


def _mutual(app: App) -> bool:
    """Whether the public listener is for other services only, by mutual TLS."""
    settings = app.settings.identity
    return bool(app.elsewhere) and not app.fronts and settings.tls and bool(settings.folder)


def _context(app: App) -> ssl.SSLContext:
    """Asked for when the app has started."""
    context = app.assembly.identity.server_context()
    assert context is not None
    return context


class GranianListener:
    """Granian's embedded server: HTTP is parsed in Rust threads. Needs ``tenfold[granian]``.

    Speaks RSGI, or ASGI for apps with mounts or WebSockets.
    """

    def __init__(self, app: Any, sock: socket.socket, *, drain_s: float) -> None:
        try:
            from granian.constants import Interfaces
            from granian.log import LogLevels
            from granian.server.embed import Server
        except ModuleNotFoundError as error:
            raise MissingExtra(
                "it needs the library 'granian', which is not installed.",
                where="http.server",
                remedy="Run: pip install 'tenfold[granian]'",
            ) from error
        if _mutual(app):
            raise ConfigError(
                "Granian hides the certificates of callers, which identity.tls asks for.",
                where="http.server",
                remedy='Use "uvicorn" for services in processes of their own.',
            )
        host, port = sock.getsockname()[:2]
        self._sock = sock
        self._drain_s = drain_s
        self._probe = (host, port)
        self._server = Server(
            app,
            address=host,
            port=port,
            interface=Interfaces.RSGI if app.speaks_rsgi else Interfaces.ASGINL,
            backlog=BACKLOG,
            log_enabled=False,
            log_level=LogLevels.error,
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._sock.close()  # Granian binds its own; ours has kept the port free
        self._task = asyncio.create_task(self._server.serve())
        while not await asyncio.to_thread(_accepts, self._probe):
            if self._task.done():
                self._task.result()
                raise ConfigError("the HTTP server ended before it had started.", where="http.server")
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self._server.stop()  # type: ignore[no-untyped-call]  # Granian leaves it unannotated
        if self._task is not None:
            await asyncio.wait([self._task], timeout=self._drain_s)
            if not self._task.done():  # ends with the loop
                log.warning("requests were cut off: they did not end within %g s", self._drain_s)


def _accepts(where: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(where, timeout=0.2):
        return True
    return False
