"""The access log: one line per request, written by a thread so that a slow disk never slows a request."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from tenfold._core.clock import Clock
from tenfold.telemetry import names
from tenfold.telemetry.redact import Redactor
from tenfold.telemetry.render import Line

BATCH: Final = 500
"""Lines joined into one write."""
GATHER_S: Final = 0.02
"""How long the writer waits for more lines after the first one. A wake-up and a write for each would cost a request
more CPU than the line."""


class Access(NamedTuple):
    """One finished request. The query string is left out: it carries what people should not log."""

    method: str
    path: str
    status: int
    duration_s: float
    sent_bytes: int
    operation: str = ""
    request_id: str = ""
    trace_id: str = ""
    client: str = ""


class AccessLog:
    """Queue and writer thread. Bounded: beyond ``queue_max`` waiting lines the newest is dropped and counted.

    Lines are written in the order of the calls; :meth:`close` writes what waits, within ``close_timeout_s``.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        render: Callable[[Line], str],
        redactor: Redactor,
        clock: Clock,
        *,
        queue_max: int = 20_000,
    ) -> None:
        self.dropped = 0
        """Lines that were not written because the writer fell behind."""
        self._write, self._render, self._redactor, self._clock = write, render, redactor, clock
        self._queue: deque[tuple[float, Access]] = deque()
        self._queue_max = queue_max
        self._wake = threading.Event()
        self._asleep = False
        self._closed = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tenfold-access-log", daemon=True)
        self._thread.start()

    def record(self, access: Access) -> None:
        """Queue one line; costs four calls and never blocks."""
        if self._closed or len(self._queue) >= self._queue_max:
            self.dropped += 1
            return
        self._queue.append((self._clock.now(), access))
        if self._asleep:
            self._asleep = False
            self._wake.set()

    def close(self, close_timeout_s: float = 5.0) -> None:
        """Write what is queued, then end the thread. Idempotent."""
        self._closed = True
        self._over.set()
        self._wake.set()
        self._thread.join(close_timeout_s)

    def _run(self) -> None:
        while True:
            while self._queue:
                self._write_batch()
            if self._closed:
                return
            self._wake.clear()
            self._asleep = True
            # A request may have been queued between the loop above and the flag: look once more.
            if not self._queue:
                self._wake.wait(1.0)
            self._asleep = False
            self._over.wait(GATHER_S)

    def _write_batch(self) -> None:
        lines: list[str] = []
        while self._queue and len(lines) < BATCH:
            lines.append(self._render(self._line(*self._queue.popleft())))
        self._write("".join(lines))

    def _line(self, when: float, access: Access) -> Line:
        fields: dict[str, object] = {
            "method": access.method,
            "path": self._redactor.text(access.path),
            "status": access.status,
            "ms": round(access.duration_s * 1000, 2),
            "bytes": access.sent_bytes,
        }
        for name in (
            "operation",
            "request_id",
            "trace_id",
            "client",
        ):  # of our making, or judged: nothing secret
            if value := getattr(access, name):
                fields[name] = value
        level = "info" if access.status < 500 else "error"
        return Line(when, level, names.LOG_REQUEST, "tenfold.access", fields)
