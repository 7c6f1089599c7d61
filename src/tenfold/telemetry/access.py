"""The access log: one line per request, written by a thread so that a slow disk never slows a request.

A request leaves an :class:`Access`, a constructor and one call; all else happens in the thread, for many lines at a
time. So a line is written a tenth of a second after its request, and a process that is killed (SIGKILL, the machine)
takes the lines of that time with it. One that ends in order, by SIGTERM too, writes them all.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

import msgspec

from tenfold._core.clock import Clock
from tenfold.telemetry import names
from tenfold.telemetry.redact import Redactor
from tenfold.telemetry.render import Line, json_text, utc

BATCH: Final = 500
"""Lines joined into one write; between two of these, others get to run."""
GATHER_S: Final = 0.1
"""How long the writer waits for more lines after the first one. A wake-up and a write for each would cost a request
more CPU than the line."""


class Access(msgspec.Struct, frozen=True, gc=False):
    """One finished request. The query string is left out: it carries what people should not log.

    A Struct because its constructor is C: there is one for every request. Not known to the garbage collector, which
    would otherwise look through those that wait.
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
    ended_s: float = 0.0
    """On the monotonic clock, which the request has looked at anyway; the writer knows what time of day that was."""


class Renderer(Protocol):
    """Makes the lines of requests."""

    def __call__(self, entries: Sequence[Access], epoch_s: float, /) -> str:
        """All of them, each with its newline. ``epoch_s``: the time of day when the monotonic clock was 0."""
        ...


class AccessLog:
    """Queue and writer thread. Bounded: beyond ``queue_max`` waiting lines the newest is dropped and counted.

    Lines are written in the order of the calls; :meth:`close` writes what waits, within ``close_timeout_s``.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        render: Renderer,
        clock: Clock,
        *,
        queue_max: int = 20_000,
    ) -> None:
        self.dropped = 0
        """Lines that were not written because the writer fell behind."""
        self._write, self._render, self._clock = write, render, clock
        self.waiting: deque[Access] = deque()
        """Records that are not written yet. While the writer is awake and there is room, whoever finishes a request puts
        its record here itself, which is what :meth:`record` does then."""
        self.asleep = False
        """The writer is to be woken for the next record, or there is none any more."""
        self.queue_max = queue_max
        self._wake = threading.Event()
        self._closed = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tenfold-access-log", daemon=True)
        self._thread.start()

    def record(self, access: Access) -> None:
        """Queue one line; never blocks."""
        if self._closed or len(self.waiting) >= self.queue_max:
            self.dropped += 1
            return
        self.waiting.append(access)
        if self.asleep:
            self.asleep = False
            self._wake.set()

    def close(self, close_timeout_s: float = 5.0) -> None:
        """Write what is queued, then end the thread. Idempotent."""
        self._closed = True
        self._over.set()
        self._wake.set()
        self._thread.join(close_timeout_s)

    def _run(self) -> None:
        while True:
            while self.waiting:
                self._write_batch()
            if self._closed:
                self.asleep = True
                return
            self._wake.clear()
            self.asleep = True
            # A request may have been queued between the loop above and the flag: look once more.
            if not self.waiting:
                self._wake.wait(1.0)
            self.asleep = False
            self._over.wait(GATHER_S)

    def _write_batch(self) -> None:
        queue = self.waiting
        entries = [queue.popleft() for _ in range(min(len(queue), BATCH))]
        self._write(self._render(entries, self._clock.now() - self._clock.monotonic()))


class TextAccess:
    """The lines of requests for people."""

    def __init__(self, render: Callable[[Line], str], redactor: Redactor) -> None:
        self._render, self._redact = render, redactor.text

    def __call__(self, entries: Sequence[Access], epoch_s: float) -> str:
        return "".join([self._line(access.ended_s + epoch_s, access) for access in entries])

    def _line(self, when: float, access: Access) -> str:
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
    """The same as JSON: what :func:`tenfold.telemetry.render.json_line` makes of it, for a seventh of the cost where paths
    repeat. What repeats from request to request is made once, and digits come from tables: to format a float takes as
    long as half a line."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._learned = redactor.learned
        self._heads = Texts(_head)
        self._statuses = Texts[int](lambda status: f',"status":{status},"ms":')
        self._methods = Texts[str](lambda method: f'{json_text(method)},"path":')
        self._paths = Texts[str](lambda path: json_text(redactor.text(path)))
        self._operations = Texts[str](lambda name: f',"operation":{json_text(name)}' if name else "")
        self._clients = Texts[str](lambda client: f',"client":{json_text(client)}}}\n' if client else "}\n")

    def __call__(self, entries: Sequence[Access], epoch_s: float) -> str:
        if self._learned != self._redactor.learned:  # another secret, which may be in a path
            self._learned = self._redactor.learned
            self._paths.clear()
        heads, methods, paths, statuses = self._heads, self._methods, self._paths, self._statuses
        operations, clients = self._operations, self._clients
        parts: list[str] = []
        len_short = len(SHORT)
        second, time = 0, f'{{"time":"{utc(0)}.'
        for each in entries:
            when, status = each.ended_s + epoch_s, each.status
            if not 0 <= when - second < 1:
                second = int(when)
                time = f'{{"time":"{utc(second)}.'
            hundredths = int(each.duration_s * 100_000 + 0.5)
            number, trace_id = each.request_id, each.trace_id
            # All into one list: texts of single lines would be made to be copied.
            parts += (
                time, THREE_DIGITS[int((when - second) * 1000)], heads[status], methods[each.method], paths[each.path],
                statuses[status], SHORT[hundredths] if hundredths < len_short else _ms(hundredths), ',"bytes":',
                str(each.sent_bytes), operations[each.operation],
            )  # fmt: skip
            if number and trace_id:
                parts += (',"request_id":"', number, '","trace_id":"', trace_id, '"', clients[each.client])
            else:
                parts += (_ids(number, trace_id), clients[each.client])
        return "".join(parts)


K = TypeVar("K")


class Texts(dict[K, str]):
    """What was made of things that come again and again: to look up one that is known is no call."""

    def __init__(self, make: Callable[[K], str]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: K) -> str:
        if len(self) >= KNOWN_MAX:
            self.clear()
        made = self[key] = self._make(key)
        return made


def _ids(request_id: str, trace_id: str) -> str:
    """Of a request that lacks one of them."""
    return "".join(
        f',"{name}":"{text}"' for name, text in (("request_id", request_id), ("trace_id", trace_id)) if text
    )


def _ms(hundredths: int) -> str:
    """Hundredths of a millisecond as milliseconds."""
    return f"{hundredths // 100}.{hundredths % 100:02d}"


def _head(status: int) -> str:
    level = "info" if status < 500 else "error"
    return f'Z","level":"{level}","event":"{names.LOG_REQUEST}","logger":"{_LOGGER}","method":'


_LOGGER: Final = "tenfold.access"
_OURS: Final = ("operation", "request_id", "trace_id", "client")
"""Of our making, or judged: nothing secret."""
KNOWN_MAX: Final = 4_096
"""Texts of each kind that are kept."""
SHORT: Final = [_ms(hundredths) for hundredths in range(2000)]
"""Durations up to 20 ms."""
THREE_DIGITS: Final = [f"{n:03d}" for n in range(1000)]
