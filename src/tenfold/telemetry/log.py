"""Structured logs: text that people read on a terminal, JSON elsewhere, nothing secret in either.

``get_logger(__name__)`` gives a structlog logger on top of the standard library's, so what libraries log takes
the same way: context (request id, trace id, operation) is added, everything is redacted, then rendered once.
:func:`configure` is called by who owns the process (``tenfold run``, ``tenfold worker``); an app mounted in
another framework leaves that framework's logging alone.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TextIO, cast

import structlog
from structlog.stdlib import BoundLogger

from tenfold._core.clock import Clock
from tenfold._core.context import current
from tenfold._core.sections import LogSettings
from tenfold.telemetry import names
from tenfold.telemetry.access import AccessLog, JsonAccess, TextAccess
from tenfold.telemetry.metrics import Registry
from tenfold.telemetry.redact import Redactor
from tenfold.telemetry.render import Line, colours_wanted, json_line, text_line

__all__ = ["BoundLogger", "Logging", "Sink", "configure", "get_logger"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "fields"}
_QUIET = {"uvicorn.access": logging.CRITICAL, "watchfiles": logging.WARNING, "alembic": logging.WARNING}


def get_logger(name: str) -> BoundLogger:
    """A logger whose calls take an event and fields: ``log.info("order placed", order_id=7)``."""
    return cast(
        "BoundLogger",
        structlog.wrap_logger(
            logging.getLogger(name),
            processors=_PROCESSORS,
            wrapper_class=BoundLogger,
            cache_logger_on_first_use=True,
        ),
    )


def _to_record(_logger: Any, _method: str, event: Any) -> tuple[tuple[str], dict[str, Any]]:
    """The last processor: the event is the record's message, everything else its ``fields``.

    Not the record's attributes: a field called ``name`` or ``args`` would make logging raise.
    """
    message = str(event.pop("event", ""))
    kwargs: dict[str, Any] = {
        key: event.pop(key) for key in ("exc_info", "stack_info", "stacklevel") if key in event
    }
    # logging would %-format the message only if it had arguments, and it has none.
    return (message,), {**kwargs, "extra": {"fields": event}}


_PROCESSORS: list[Any] = [structlog.stdlib.filter_by_level, _to_record]


class Sink:
    """The stream that all lines go to, whole lines at a time, from any thread. Never raises.

    A line that cannot be written (closed pipe, full disk) is counted in ``dropped`` and forgotten.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.dropped = 0
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        """Write ``text``, which ends in a newline."""
        try:
            with self._lock:
                try:
                    self.stream.write(text)
                except UnicodeEncodeError as error:  # file names and errors need not be text
                    self.stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
                self.stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.dropped += text.count("\n")

    def write_utf8(self, text: bytes) -> None:
        """The same of many lines at once, which go past the stream's own encoding where that is UTF-8."""
        below = getattr(self.stream, "buffer", None)
        if below is None or self.stream.encoding.lower() != "utf-8":
            self.write(text.decode())
            return
        try:
            with self._lock:
                self.stream.flush()
                left = memoryview(text)
                while left:  # without a buffer (python -u) a part may be taken, or nothing
                    if (taken := below.write(left)) is None:
                        raise BlockingIOError
                    left = left[taken:]
                below.flush()
        except (OSError, ValueError):
            self.dropped += text.count(b"\n")


class _Handler(logging.Handler):
    def __init__(self, sink: Sink, redactor: Redactor, render: Callable[[Line], str]) -> None:
        super().__init__()
        self._sink, self._redactor, self._render = sink, redactor, render
        self.listeners: tuple[Callable[[Line], object], ...] = ()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._line(record)
            text = self._render(line)
            for listen in self.listeners:
                listen(line)
        except Exception as error:
            # The standard handler would print the arguments of the broken call, secrets included.
            where = f"{record.pathname}:{record.lineno}"
            text = f"a log call at {where} could not be rendered ({type(error).__name__})\n"
        self._sink.write(text)

    def _line(self, record: logging.LogRecord) -> Line:
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        fields.update((k, v) for k, v in vars(record).items() if k not in _STANDARD and k[:1] != "_")
        fields.update(_context_fields())
        redact = self._redactor
        return Line(
            when=record.created,
            level=record.levelname.lower(),
            event=redact.text(record.getMessage()),
            logger=record.name,
            fields=redact.fields(fields),
            trace=redact.text(_traceback(record)),
        )


def _context_fields() -> Mapping[str, str]:
    context = current()
    return {
        name: value for name in ("operation", "request_id", "trace_id") if (value := getattr(context, name))
    }


def _traceback(record: logging.LogRecord) -> str:
    text = ""
    if record.exc_info and record.exc_info[0] is not None:
        text = "".join(traceback.format_exception(*record.exc_info))
    if record.stack_info:
        text += record.stack_info
    return text.rstrip()


class Logging:
    """The process's logging while it is configured; :meth:`close` gives back what was before."""

    def __init__(self, sink: Sink, redactor: Redactor, access: AccessLog | None) -> None:
        self.sink, self.redactor = sink, redactor
        self.access = access
        """Records one line per request; None when ``log.access`` is off."""
        self._undo: list[Callable[[], object]] = []
        self._handler: _Handler | None = None

    def listen(self, listener: Callable[[Line], object]) -> Callable[[], None]:
        """Hand every line but those of requests to ``listener`` too, redacted, from the thread that logs; it must not wait,
        raise or log. What is returned ends that."""
        handler = self._handler
        if handler is not None:
            handler.listeners = (*handler.listeners, listener)

        def end() -> None:
            if handler is not None:
                handler.listeners = tuple(each for each in handler.listeners if each is not listener)

        return end

    def take_over(self, handler: _Handler, level: int) -> None:
        """Make ``handler`` the only one of the process, for what threads die of and warnings too."""
        self._handler = handler
        root = logging.getLogger()
        ours: list[logging.Handler] = [handler]
        before, root.handlers = root.handlers, ours
        self._undo.append(lambda: setattr(root, "handlers", before))
        self._set_level(root, level)
        for name, quiet in _QUIET.items():
            self._set_level(logging.getLogger(name), max(quiet, level))
        server = logging.getLogger("uvicorn.error")
        server.addFilter(_is_news)
        self._undo.append(lambda: server.removeFilter(_is_news))
        hook, threading.excepthook = threading.excepthook, _log_thread_death
        self._undo.append(lambda: setattr(threading, "excepthook", hook))
        logging.captureWarnings(True)
        self._undo.append(lambda: logging.captureWarnings(False))

    def register(self, registry: Registry) -> None:
        """Show how many lines were lost, by reason: queue full, or the stream refused them."""

        def read() -> dict[tuple[str, ...], float]:
            queue = 0 if self.access is None else self.access.dropped
            return {("queue full",): queue, ("write failed",): self.sink.dropped}

        registry.reading(names.LOG_DROPPED, "Log lines lost since the start.", read, (names.REASON,))

    def close(self) -> None:
        """Write what is queued and restore the former handlers. Idempotent."""
        if self.access is not None:
            self.access.close()
        while self._undo:
            self._undo.pop()()

    def _set_level(self, logger: logging.Logger, level: int) -> None:
        before = logger.level
        logger.setLevel(level)
        self._undo.append(lambda: logger.setLevel(before))


def _is_news(record: logging.LogRecord) -> bool:
    """uvicorn takes a WebSocket handshake that was answered with a problem document for one that was forgotten, and
    logs an error for it: anybody could fill the log with refused handshakes."""
    return record.msg != "ASGI callable returned without completing handshake."


def _log_thread_death(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit or args.exc_value is None:
        return
    name = args.thread.name if args.thread else "?"
    logging.getLogger("tenfold.threads").error(
        names.LOG_THREAD_DIED, exc_info=args.exc_value, extra={"fields": {"thread": name}}
    )


def configure(
    settings: LogSettings,
    clock: Clock,
    *,
    stream: TextIO | None = None,
    redactor: Redactor | None = None,
) -> Logging:
    """Take over the process's logging: root handler, structlog's defaults, dying threads, warnings.

    Writes to ``stream`` (default: standard error). Text or JSON as ``settings.format`` says; by default text
    on a terminal. Close the returned object to undo it.
    """
    out: TextIO = stream if stream is not None else sys.stderr
    sink, redactor = Sink(out), redactor or Redactor()
    as_json = (settings.format or ("text" if out.isatty() else "json")) == "json"
    render = json_line if as_json else text_line(colours=colours_wanted(out.isatty()))
    access = None
    if settings.access:
        access = AccessLog(
            sink.write_utf8, JsonAccess(redactor) if as_json else TextAccess(render, redactor), clock
        )
    taken = Logging(sink, redactor, access)
    taken.take_over(_Handler(sink, redactor, render), logging.getLevelNamesMapping()[settings.level.upper()])
    structlog.configure(
        processors=_PROCESSORS,
        wrapper_class=BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    return taken
