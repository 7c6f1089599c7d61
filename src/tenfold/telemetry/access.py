"""The access log: one line per request, written by a thread so that a slow disk never slows a request.

A request leaves an :class:`Access`, a tuple and no call. Whoever finds that :data:`BATCH` of them wait makes their
lines, while all that these are made of is still in the processor's cache; the thread makes those of the last few, and
writes all of them ten times a second, batch by batch: joined, they would need memory that is not at hand. So a line is written a tenth of a second after its request, and a process that is
killed (SIGKILL, the machine) takes the lines of that time with it. One that ends in order, by SIGTERM too, writes them all.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from tenfold._core.clock import Clock
from tenfold._core.made import Made
from tenfold.telemetry import names
from tenfold.telemetry.redact import Redactor
from tenfold.telemetry.render import Line, json_line, json_text, utc

BATCH: Final = 768
"""Lines made at once, which takes half a millisecond. Of 64 to 6,000 this costs least, by 0.25 µs a request less than 192 and
3,072: for fewer, the code that makes them has to come into the processor's cache too often; more records do not stay in it.
Measured with wrk in one process that changed it three times a second."""
GATHER_S: Final = 0.1
"""How long the writer waits for more lines after the first one. A wake-up and a write for each would cost a request
more CPU than the line."""


class Access(NamedTuple):
    """One finished request. The query string is left out: it carries what people should not log.

    The generated code of endpoints leaves a plain tuple like it, which is made without a call: whatever else there is to
    say of a request is worked out when its line is made, with those of the others.
    """

    ended_s: float
    """On the monotonic clock, which the request has looked at anyway."""
    seconds: float
    method: str
    path: str
    status: int
    bytes: int
    """Of the body that was sent."""
    operation: str = ""
    request_id: str = ""
    trace_id: str = ""
    client: tuple[str, int] | None = None
    """Address and port."""


class Renderer(Protocol):
    """Makes the lines of requests."""

    def __call__(self, entries: Sequence[Access], epoch_s: float, /) -> bytes:
        """All of them in UTF-8, each with its newline. ``epoch_s``: the time of day when the monotonic clock was 0."""
        ...


class _Lines(NamedTuple):
    """Some that are made."""

    text: bytes
    number: int


class AccessLog:
    """Queue and writer thread. Bounded: beyond ``queue_max`` waiting lines the newest is dropped and counted.

    Lines are written in the order of the calls; :meth:`close` writes what waits, within ``close_timeout_s``.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        render: Renderer,
        clock: Clock,
        *,
        queue_max: int = 20_000,
    ) -> None:
        self.dropped = 0
        """Lines that were not written because the writer fell behind."""
        self._write, self._render, self._clock = write, render, clock
        self.waiting: list[Access] = []
        """Records of which no line is made yet."""
        self.room = 0
        """So many may wait; who leaves one more calls :meth:`crowded`. None while the writer sleeps, or is to end."""
        self._queue_max = queue_max
        self._made: list[_Lines] = []
        self._made_lines = 0
        """With those that are being written."""
        self._closed = False
        self._changing = threading.Lock()
        """Held by who takes from ``waiting`` or ``_made``, never during a write."""
        self._wake = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tenfold-access-log", daemon=True)
        self._thread.start()

    def record(self, access: Access) -> None:
        """Queue one line; never waits for the disk. The generated code of endpoints does the same, without the call."""
        self.waiting.append(access)
        if len(self.waiting) > self.room:
            self.crowded()

    def crowded(self) -> None:
        """More wait than there is room for: wake the writer, make their lines, or drop the newest."""
        with self._changing:
            free = 0 if self._closed else self._queue_max - self._made_lines
            surplus = len(self.waiting) - free
            if surplus > 0:
                self.dropped += surplus
                del self.waiting[free : free + surplus]  # others may leave more meanwhile
            if len(self.waiting) >= BATCH:
                self._make()
            self._set_room()
        if not self._wake.is_set():
            self._wake.set()

    def close(self, close_timeout_s: float = 5.0) -> None:
        """Write what is queued, then end the thread. Idempotent."""
        with self._changing:
            if not self._closed:
                self._make()
            self._closed, self.room = True, 0
        self._over.set()
        self._wake.set()
        self._thread.join(close_timeout_s)

    def _make(self) -> None:
        """The lines of all that wait now; more may come meanwhile."""
        entries = self.waiting[:]
        if entries:
            del self.waiting[: len(entries)]
            text = self._render(entries, self._clock.now() - self._clock.monotonic())
            self._made.append(_Lines(text, len(entries)))
            self._made_lines += len(entries)

    def _set_room(self) -> None:
        self.room = 0 if self._closed else min(BATCH - 1, self._queue_max - self._made_lines)

    def _run(self) -> None:
        while True:
            batches = self._taken()
            for lines in batches:
                self._write(lines.text)
                self._written(lines)
            if not batches:
                if self._closed and not self._made:
                    return
                self._wake.wait()
            # What came during a write waits for more: a busy process has always a few lines.
            self._over.wait(GATHER_S)

    def _taken(self) -> list[_Lines]:
        """What is to be written next; nothing when the writer may sleep."""
        with self._changing:
            if not self._closed:
                self._make()
            batches, self._made = self._made, []
            if batches:
                self._set_room()
            else:
                self._wake.clear()
                self.room = 0
                # One may have been left before it could see that there is no room: look once more.
                if self.waiting or self._closed:
                    self._wake.set()
        return batches

    def _written(self, lines: _Lines) -> None:
        with self._changing:
            self._made_lines -= lines.number
            if self.room:
                self._set_room()


class TextAccess:
    """The lines of requests, one by one: for people."""

    def __init__(self, render: Callable[[Line], str], redactor: Redactor) -> None:
        self._render, self._redact = render, redactor.text

    def __call__(self, entries: Sequence[Access], epoch_s: float) -> bytes:
        text = "".join([self._line(Access(*entry), epoch_s) for entry in entries])
        return text.encode("utf-8", "backslashreplace")  # a path need not be text

    def _line(self, access: Access, epoch_s: float) -> str:
        fields: dict[str, object] = {
            "method": access.method,
            "path": self._redact(access.path),
            "status": access.status,
            "ms": _ms(access.seconds),
            "bytes": access.bytes,
        }
        # Of our making, or judged: nothing secret.
        ours = (access.operation, access.request_id, access.trace_id, access.client and access.client[0])
        fields |= {name: value for name, value in zip(_OURS, ours, strict=True) if value}
        when = access.ended_s + epoch_s
        return self._render(Line(when, _level(access.status), names.LOG_REQUEST, _LOGGER, fields))


class _JsonLine(msgspec.Struct, omit_defaults=True, gc=False):
    """As JSON has it, in this order. A Struct because its constructor is C, and not known to the garbage collector."""

    time: str
    level: msgspec.Raw
    """And with it ``event``, ``logger``, ``method`` and ``operation``: what lines have in common is JSON already."""
    path: str
    status: int
    ms: msgspec.Raw
    bytes: int
    request_id: str = ""
    trace_id: str = ""
    client: str = ""


def _common(level: str, method: str, operation: str) -> msgspec.Raw:
    """What lines have in common: a value and, behind it, the other members, without the brace that opens them."""
    fields = {"event": names.LOG_REQUEST, "logger": _LOGGER, "method": method}
    if operation:
        fields["operation"] = operation
    return msgspec.Raw(f"{json_text(level)},{json_text(fields)[1:-1]}".encode())


def _commons(level: str) -> Made[str, Made[str, msgspec.Raw]]:
    """The same by method and operation. Operations are as many as the app has, and the empty one."""

    def of_method(method: str) -> Made[str, msgspec.Raw]:
        return Made(lambda operation: _common(level, method, operation), OPERATIONS_MAX)

    return Made(of_method, METHODS_MAX)


class JsonAccess:
    """The same as JSON: what :func:`tenfold.telemetry.render.json_line` makes of it, for a tenth of the cost where paths
    repeat. msgspec writes a batch at once, and what repeats from request to request is made once."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._long_way = TextAccess(json_line, redactor)
        self._learned = redactor.learned
        self._plain: set[str] = set()
        """Paths that are shown as they are."""
        self._well, self._failed = _commons("info"), _commons("error")
        # Most requests take about as long as others did.
        self._milliseconds = Made[int, msgspec.Raw](
            lambda hundredths: msgspec.Raw(str(hundredths / 100).encode()), TIMES_MAX
        )

    def __call__(self, entries: Sequence[Access], epoch_s: float) -> bytes:
        if self._learned != self._redactor.learned:  # another secret, which may be in a path
            self._learned = self._redactor.learned
            self._plain.clear()
        try:
            return _encode_lines(self._lines(entries, epoch_s))
        except UnicodeEncodeError:  # a lone surrogate is no text
            return self._long_way(entries, epoch_s)

    def _lines(self, entries: Sequence[Access], epoch_s: float) -> list[_JsonLine]:
        plain, well, failed = self._plain, self._well.known, self._failed.known
        milliseconds = self._milliseconds.known
        time, since, until = "", math.inf, -math.inf
        made: list[_JsonLine] = []
        for ended_s, seconds, method, path, status, size, operation, request_id, trace_id, client in entries:
            if not since <= ended_s < until:  # many end in the same millisecond
                when = ended_s + epoch_s
                second = int(when)
                ms = int((when - second) * 1000)
                since = second + ms / 1000 - epoch_s
                until = since + 0.001
                time = f"{utc(second)}.{ms:03d}Z"
            hundredths = int(seconds * 100_000 + 0.5)  # as _ms says
            try:
                common = (well if status < 500 else failed)[method].known[operation]
                took = milliseconds[hundredths]
            except KeyError:
                common = (self._well if status < 500 else self._failed)(method)(operation)
                took = self._milliseconds(hundredths)
            made.append(
                _JsonLine(
                    time, common, path if path in plain else self._shown(path), status, took, size,
                    request_id, trace_id, client[0] if client else "",
                )
            )  # fmt: skip
        return made

    def _shown(self, path: str) -> str:
        shown = self._redactor.text(path)
        if shown == path:
            if len(self._plain) >= PATHS_MAX:
                self._plain.clear()
            self._plain.add(path)
        return shown


def _level(status: int) -> str:
    return "info" if status < 500 else "error"


def _ms(seconds: float) -> float:
    return int(seconds * 100_000 + 0.5) / 100


_LOGGER: Final = "tenfold.access"
_OURS: Final = ("operation", "request_id", "trace_id", "client")
PATHS_MAX: Final = 4_096
"""Paths that are remembered."""
METHODS_MAX: Final = 32
"""Methods that are: a client can make up any."""
OPERATIONS_MAX: Final = 4_096
"""Operations that are, for each method."""
TIMES_MAX: Final = 4_096
"""Durations that are."""
_encode_lines: Callable[[Sequence[_JsonLine]], bytes] = msgspec.json.Encoder().encode_lines
