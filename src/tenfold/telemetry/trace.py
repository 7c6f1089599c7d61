"""Traces: W3C context in and out, a decision before any span exists, spans only where something is recorded.

An entry (request, job, event) asks :meth:`Tracer.begin` for its trace and puts the answer into its
:class:`~tenfold._core.context.Context`. Only if it is sampled, or the recorder's allowance has it (see
:meth:`Tracer.records`), it wraps its work in :meth:`Tracer.root`; below that, anybody may say
``with span("db.read"): …``, which costs two calls and nothing else where nothing is recorded.

What is sampled goes to the exporter, and the decision travels. What is recorded goes to the recorder, which decides
when it is over whether it is kept; nobody else is told.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tenfold._core.clock import Clock
from tenfold._core.context import Context, current, enter, leave
from tenfold._core.sections import TraceSettings
from tenfold._core.tasks import end_tasks
from tenfold.telemetry import names
from tenfold.telemetry.clean import Cleaner
from tenfold.telemetry.contract import Span, SpanExporter
from tenfold.telemetry.log import get_logger
from tenfold.telemetry.metrics import Registry
from tenfold.telemetry.propagation import clean_tracestate, format_traceparent, parse_traceparent
from tenfold.telemetry.recording import Recorder, Recording
from tenfold.telemetry.redact import TEXT_MAX_CHARS, Redactor

if TYPE_CHECKING:
    from types import TracebackType

BATCH_MAX: Final = 512
QUEUE_MAX: Final = 8192
FLUSH_S: Final = 1.0
EXPORT_TIMEOUT_S: Final = 5.0
NEVER: Final = 1 << 63
"""Above every number."""
RATIO_BITS: Final = 56
"""The right-most seven bytes of a trace id are random (W3C level 2): they decide, the same way everywhere."""

log = get_logger(__name__)


class Trace(msgspec.Struct, frozen=True, gc=False):
    """What a piece of work knows of its trace: the three fields of its Context."""

    trace_id: str
    span_id: str
    """The caller's span; empty when the trace starts here."""
    sampled: bool


class Tracer:
    """Decides, collects finished spans in a ring, and hands them to the exporter in batches. A part.

    ``settings.ratio`` of the traces that start here are sampled; a caller's decision is followed.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        clock: Clock,
        *,
        settings: TraceSettings = TraceSettings(),  # noqa: B008 - frozen
        redactor: Redactor | None = None,
        registry: Registry | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.recorder = recorder
        self._recent: deque[Span] = deque(maxlen=settings.ring)
        self.dropped = 0
        """Spans that the exporter was too slow or unable to take."""
        self._exporter, self._clock = exporter, clock
        self.now, self.monotonic = clock.now, clock.monotonic
        self._clean = Cleaner(redactor or Redactor())
        # Trace ids need no secrecy, so one seed from the clock's randomness saves a system call per request.
        self._random = random.Random(clock.random.getrandbits(256))  # noqa: S311 - no secret
        self.bits = self._random.getrandbits
        """So many random bits."""
        self.origin = f"{self.bits(64) or 1:016x}"
        """First half of the ids of unsampled traces that start here; a number makes the other."""
        self._threshold = int(settings.ratio * (1 << RATIO_BITS))
        self._per_log = 0.0 if settings.ratio in (0.0, 1.0) else 1 / math.log1p(-settings.ratio)
        self._sampled_at = self._next_sampled(0) if self._threshold else NEVER
        self.at = 0
        """A hot path that numbers its work asks :meth:`pick` from this number on; of the work before it nothing is sampled,
        recorded or kept one by one, unless a caller wants it."""
        self._queue: deque[Span] = deque()
        self._task: asyncio.Task[None] | None = None
        self._complained = float("-inf")
        if registry is not None:
            registry.reading(
                names.SPANS_DROPPED, "Finished spans that were not exported.", lambda: self.dropped
            )

    @property
    def samples(self) -> bool:
        """Whether a trace that starts here may be sampled."""
        return self._threshold > 0

    @property
    def recent(self) -> list[Span]:
        """The last finished spans that were sampled, oldest first."""
        return [self._redacted(span) for span in self._recent]

    def begin(self, traceparent: str | None = None) -> Trace:
        """Join the caller's trace, or start one and decide whether it is sampled."""
        parent = parse_traceparent(traceparent) if traceparent else None
        if parent is not None:
            return Trace(*parent)
        return self._started(self.bits(RATIO_BITS))

    def pick(self, number: int) -> Trace | None:
        """A new trace, if that of the work with this number is sampled; and :attr:`at` moves on. As if the bits of each
        trace had been drawn and looked at, but those that are not sampled cost no call. Numbers only grow."""
        if number < self.at:
            return None
        trace = None
        if number >= self._sampled_at:
            trace = self._started(self._sampled_bits())
            self._sampled_at = self._next_sampled(number + 1)
        at = self._sampled_at
        if self.recorder is not None:
            for allowed in self.recorder.allowances:
                # Behind a number, the next one with none of a mask's bits.
                at = min(at, (number | allowed.mask) + 1)
        self.at = at
        return trace

    def pick_anew(self) -> None:
        """More may be recorded or kept than before."""
        self.at = 0

    def _next_sampled(self, number: int) -> int:
        """How many go by is distributed geometrically, as the failures before a success are."""
        return number + int(math.log(1 - self._random.random()) * self._per_log)

    def _sampled_bits(self) -> int:
        """Those of a trace that is sampled."""
        wide = self._threshold.bit_length()
        while (drawn := self.bits(wide)) >= self._threshold:
            pass
        return drawn

    def _started(self, bits: int) -> Trace:
        """A trace that starts here, whose last bits are these: they decide."""
        number = (self.bits(128 - RATIO_BITS) or 1) << RATIO_BITS | bits
        # By way of bytes: formatting an int as hexadecimal takes twice as long.
        return Trace(number.to_bytes(16, "big").hex(), "", bits < self._threshold)

    def span_id(self) -> str:
        """A new random span id."""
        return (self.bits(64) or 1).to_bytes(8, "big").hex()

    def headers(self, context: Context) -> dict[str, str]:
        """The headers of a call out of the process: ``traceparent`` and, where one came in, ``tracestate``."""
        if not context.trace_id:
            return {}
        parent = format_traceparent(context.trace_id, context.span_id or self.span_id(), context.sampled)
        out = {"traceparent": parent}
        if context.tracestate and (state := clean_tracestate(context.tracestate)):
            out["tracestate"] = state
        return out

    def records(self, context: Context, number: int) -> bool:
        """Whether the work is to have spans; ``number`` decides where its trace has no id yet."""
        if context.sampled:
            return True
        if self.recorder is None:
            return False
        return low_bits(context.trace_id, number) & self.recorder.traces.mask == 0

    def root(
        self, name: str, kind: str = "server", work: str = "request", **attributes: Any
    ) -> AbstractContextManager[Span]:
        """The outermost span of the current context; spans below it come to this tracer. ``work`` says what it is:
        ``request``, ``job``, ``event`` or ``schedule``."""
        context = current()
        if self.recorder is not None:
            self.recorder.traces.take()
        active = Active(self, Recording(context.trace_id, name, work, []), context.sampled)
        return _Block(active, name, kind, attributes, True)

    def keep(self, active: Active, span: Span) -> None:
        """A span of the work in hand has ended, which is not the outermost."""
        if self.recorder is not None:
            active.recording.add(span)
        if active.sampled:
            self._export(span)

    def end(self, active: Active, root: Span) -> None:
        """The outermost one has, and with it the work."""
        if active.sampled:
            self._export(root)
        if self.recorder is not None:
            active.recording.end(root)
            self.recorder.recording(active.recording)

    def _export(self, span: Span) -> None:
        self._recent.append(span)
        if self._task is None or self._exporter.discards:
            return
        if len(self._queue) >= QUEUE_MAX:
            self.dropped += 1
        else:
            self._queue.append(span)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._export_forever(), name="tenfold-span-export")

    async def stop(self) -> None:
        """Export what waits, once, and stop the exporter."""
        task, self._task = self._task, None
        await end_tasks(task)
        await self._flush()
        await self._exporter.stop()

    async def _export_forever(self) -> None:
        while True:
            await self._clock.sleep(FLUSH_S)
            await self._flush()

    async def _flush(self) -> None:
        while self._queue:
            waiting = min(BATCH_MAX, len(self._queue))
            batch = [self._redacted(self._queue.popleft()) for _ in range(waiting)]
            try:
                async with asyncio.timeout(EXPORT_TIMEOUT_S):
                    await self._exporter.export(batch)
            except Exception as error:  # whatever an exporter does wrong costs spans, not requests
                self._lost(len(batch), error)

    def _redacted(self, span: Span) -> Span:
        """What leaves the tracer. Not done while the request waits: it takes longer than all else about a span."""
        return msgspec.structs.replace(
            span,
            attributes=self._clean.attributes(span.attributes),
            error=self._clean.text(span.error, TEXT_MAX_CHARS),
        )

    def _lost(self, count: int, error: Exception) -> None:
        self.dropped += count
        now = self._clock.monotonic()
        if now - self._complained >= 60:
            self._complained = now
            log.warning(names.LOG_EXPORT_FAILED, spans=count, error=f"{type(error).__name__}: {error}")


class Active(msgspec.Struct, frozen=True, eq=False):
    """What the spans of the work in hand come to."""

    tracer: Tracer
    recording: Recording
    sampled: bool

    def ended(self, name: str, kind: str, seconds: float, error: str = "", **attributes: Any) -> None:
        """A span below the current one that has just ended and took so long: for work with nothing below it."""
        tracer, context = self.tracer, current()
        now = tracer.now()
        made = Span(
            name=name,
            trace_id=context.trace_id,
            span_id=tracer.span_id(),
            parent_id=context.span_id,
            kind=kind,
            started=now - seconds,
            ended=now,
            error=error,
            attributes=attributes,
        )
        tracer.keep(self, made)


class _Block(msgspec.Struct, eq=False):
    """A span for the time of a block. Not a generator, which takes three times as long, and a Struct for its constructor:
    one request of a hundred is traced, and each call of Python's own that is in nobody's cache takes half a microsecond."""

    active: Active
    name: str
    kind: str
    attributes: dict[str, Any]
    outermost: bool = False
    made: Span | None = None
    began: float = 0.0
    entered: Token[Context | None] | None = None
    outer: Token[Active | None] | None = None

    def __enter__(self) -> Span:
        active, context = self.active, current()
        tracer = active.tracer
        self.made = made = Span(
            name=self.name,
            trace_id=context.trace_id,
            span_id=tracer.span_id(),
            parent_id=context.span_id,
            kind=self.kind,
            started=tracer.now(),
            attributes=self.attributes,
        )
        # The same state in both: an open transaction is the work's, whichever span it was opened in.
        if context.state is None:
            context.state = {}
        if context.statements is None:
            context.statements = defaultdict(int)
        self.began = tracer.monotonic()
        self.entered = enter(msgspec.structs.replace(context, span_id=made.span_id))
        if self.outermost:
            self.outer = _active.set(active)
        return made

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        active, made, entered = self.active, self.made, self.entered
        if made is None or entered is None:
            raise RuntimeError("the span was not entered")
        tracer = active.tracer
        if error is not None:
            made.error = f"{type(error).__name__}: {error}"
        made.ended = made.started + tracer.monotonic() - self.began
        leave(entered)
        if self.outer is None:
            tracer.keep(active, made)
        else:
            _active.reset(self.outer)
            tracer.end(active, made)


_active: ContextVar[Active | None] = ContextVar("tenfold_tracer", default=None)

recorded: Callable[[], Active | None] = _active.get
"""None where nothing is recorded: for hot paths, a C call only."""


def low_bits(trace_id: str, number: int) -> int:
    """The last bits of a trace id; of ``number``, where there is none that is one."""
    try:
        return int(trace_id[-8:], 16)
    except ValueError:
        return number


class _Unsampled(Span):
    """Stands for every span that nobody wants."""

    def set(self, key: str, value: Any) -> None:
        return

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *_: object) -> None:
        return


_UNSAMPLED: Final = _Unsampled(name="", trace_id="", span_id="", started=0.0)


def span(name: str, kind: str = "internal", **attributes: Any) -> AbstractContextManager[Span]:
    """A span below the current one, for the time of the block; nothing when the work is not recorded.

    An exception that leaves the block is recorded on the span and goes on.
    """
    active = _active.get()
    if active is None:
        return _UNSAMPLED
    return _Block(active, name, kind, attributes)
