"""The access log: one line per request, written by a thread so that a slow disk never slows a request."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from tenfold._core.clock import Clock
from tenfold.telemetry import names
from tenfold.telemetry.redact import Redactor
from tenfold.telemetry.render import Line, json_text, utc

BATCH: Final = 500
"""Lines joined into one write."""
GATHER_S: Final = 0.02
"""How long the writer waits for more lines after the first one. A wake-up and a write for each would cost a request
more CPU than the line."""


class Access(msgspec.Struct, frozen=True, gc=False):
    """One finished request. The query string is left out: it carries what people should not log.

    A Struct because its constructor is C: there is one for every request.
    """

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
        render: Callable[[float, Access], str],
        clock: Clock,
        *,
        queue_max: int = 20_000,
    ) -> None:
        self.dropped = 0
        """Lines that were not written because the writer fell behind."""
        self._write, self._render, self._now = write, render, clock.now
        self._queue: deque[tuple[float, Access]] = deque()
        self._queue_max = queue_max
        self._wake = threading.Event()
        self._asleep = False
        self._closed = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tenfold-access-log", daemon=True)
        self._thread.start()

    def record(self, access: Access) -> None:
        """Queue one line; costs three calls and never blocks."""
        if self._closed or len(self._queue) >= self._queue_max:
            self.dropped += 1
            return
        self._queue.append((self._now(), access))
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
            lines.append(self._render(*self._queue.popleft()))
        self._write("".join(lines))


class TextAccess:
    """The line of a request for people."""

    def __init__(self, render: Callable[[Line], str], redactor: Redactor) -> None:
        self._render, self._redact = render, redactor.text

    def __call__(self, when: float, access: Access) -> str:
        fields: dict[str, object] = {
            "method": access.method,
            "path": self._redact(access.path),
            "status": access.status,
            "ms": round(access.duration_s * 1000, 2),
            "bytes": access.sent_bytes,
        }
        for name in _OURS:
            if value := getattr(access, name):
                fields[name] = value
        level = "info" if access.status < 500 else "error"
        return self._render(Line(when, level, names.LOG_REQUEST, _LOGGER, fields))


class JsonAccess:
    """The same as JSON: what :func:`tenfold.telemetry.render.json_line` makes of it, for a quarter of the cost where paths
    repeat, four fifths where none does. What repeats from request to request is made once."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._learned = redactor.learned
        self._heads: dict[tuple[str, str], str] = {}
        self._tails: dict[tuple[str, str], str] = {}
        self._second, self._time = 0, utc(0)

    def __call__(self, when: float, access: Access) -> str:
        second = int(when)
        if second != self._second:
            self._second, self._time = second, utc(second)
        if self._learned != self._redactor.learned:  # another secret, which may be in a path
            self._learned = self._redactor.learned
            self._heads.clear()
        request, whose = (access.method, access.path), (access.operation, access.client)
        ids = f',"request_id":"{access.request_id}"' if access.request_id else ""
        if access.trace_id:
            ids = f'{ids},"trace_id":"{access.trace_id}"'
        status = access.status
        return (
            f'{{"time":"{self._time}.{int((when - second) * 1000):03d}Z","level":"{"info" if status < 500 else "error"}"'
            f'{self._heads.get(request) or self._head(request)}{status},"ms":{access.duration_s * 1000:.2f}'
            f',"bytes":{access.sent_bytes}{ids}{self._tails.get(whose) or self._tail(whose)}\n'
        )

    def _head(self, request: tuple[str, str]) -> str:
        if len(self._heads) >= KNOWN_MAX:
            self._heads.clear()
        method, path = request
        head = self._heads[request] = (
            f',"event":"{names.LOG_REQUEST}","logger":"{_LOGGER}","method":{json_text(method)}'
            f',"path":{json_text(self._redactor.text(path))},"status":'
        )
        return head

    def _tail(self, whose: tuple[str, str]) -> str:
        if len(self._tails) >= KNOWN_MAX:
            self._tails.clear()
        pairs = zip(("operation", "client"), whose, strict=True)
        tail = self._tails[whose] = (
            "".join(f',"{name}":{json_text(text)}' for name, text in pairs if text) + "}"
        )
        return tail


_LOGGER: Final = "tenfold.access"
_OURS: Final = ("operation", "request_id", "trace_id", "client")
"""Of our making, or judged: nothing secret."""
KNOWN_MAX: Final = 4_096
"""Texts of each kind that are kept."""
