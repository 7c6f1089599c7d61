"""OpenTelemetry: spans, metrics and lines of the log by OTLP over HTTP (protobuf, gzip), to ``[otlp] url``.

Needs the libraries of ``tenfold[otlp]``. Nothing waits for the other side: each signal has a bounded queue, a request that
is not answered well within ``otlp.timeout_s`` is lost, counted by signal and reason, and said in the log once a minute. It
is not tried again: an outage of the collector must not grow a backlog in every process. Metrics are cumulative unless
``otlp.temporality`` says otherwise, so the next ones make up for those that were lost.
"""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import httpx2

from tenfold._core.clock import Clock
from tenfold._core.sections.otlp import OtlpSettings
from tenfold._core.tasks import end_tasks
from tenfold.errors import ConfigError
from tenfold.telemetry import names
from tenfold.telemetry.backends import _otlp_messages as messages
from tenfold.telemetry.contract import Span, SpanExporter
from tenfold.telemetry.exposition import Exposition
from tenfold.telemetry.log import get_logger
from tenfold.telemetry.metrics import Family, Registry, Sample

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from tenfold.telemetry.render import Line

LINES_MAX: Final = 4_096
"""Lines that wait; what comes when so many do is lost."""
LINES_BATCH: Final = 512
LOG_FLUSH_S: Final = 1.0
COMPLAIN_S: Final = 60.0
ANSWER_MAX_BYTES: Final = 65_536
PATHS: Final = {"traces": "/v1/traces", "metrics": "/v1/metrics", "logs": "/v1/logs"}

log = get_logger(__name__)


class Lost(Exception):
    """A request was not taken. The message is a sentence."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class Backend(SpanExporter):
    """The spans' part of :class:`Otlp`. It is made from the section ``[otlp]``, not from ``trace.exporter``: a collector
    takes metrics and logs as well, and vendors ask for keys."""

    def __init__(self, otlp: Otlp) -> None:
        self._otlp = otlp

    @classmethod
    def from_url(cls, url: str, clock: Clock) -> Self:
        raise ConfigError(
            "OTLP has a section of its own.",
            where="trace.exporter",
            remedy='Set otlp.url = "http://localhost:4318" instead; it takes traces, metrics and logs.',
        )

    async def export(self, spans: Sequence[Span]) -> None:
        # A loss is counted and told here: the tracer would do both again.
        await self._otlp.send("traces", len(spans), partial(self._otlp.traces, spans))


class Otlp:
    """A part: sends metrics and lines of the log from ``start`` to ``stop``; spans come through :attr:`spans`.

    Raises ConfigError for a URL that cannot be one.
    """

    def __init__(
        self, settings: OtlpSettings, registry: Registry, clock: Clock, resource: Mapping[str, str]
    ) -> None:
        self._settings, self._clock = settings, clock
        self._base = _checked(settings.url)
        self._exposition = Exposition(registry)
        self._who = messages.resource({**resource, **_resource(settings.resource)})
        self._what = messages.scope(version("tenfold"))
        self._started = clock.now()
        self._deltas = messages.Deltas() if settings.temporality == "delta" else None
        self._client: httpx2.AsyncClient | None = None
        self._lines: deque[Line] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._complained = float("-inf")
        self.sent: Counter[str] = Counter()
        """Spans, data points and lines that were taken, by signal."""
        self.dropped: Counter[tuple[str, str]] = Counter()
        """Those that were lost, by signal and reason."""
        self.spans: SpanExporter | None = Backend(self) if settings.traces else None
        registry.collector(self._collect, names.OTLP)

    # ── in ──

    def line(self, line: Line) -> None:
        """A line of the log, redacted. From any thread; never waits."""
        if (
            not self._settings.logs or line.logger == __name__
        ):  # what is lost must not make more lines to lose
            return
        if len(self._lines) >= LINES_MAX:
            self.dropped["logs", "queue full"] += 1
        else:
            self._lines.append(line)

    def traces(self, spans: Sequence[Span]) -> Message:
        """The request that spans go in."""
        return messages.traces(spans, self._who, self._what)

    # ── life ──

    async def start(self) -> None:
        self._client = httpx2.AsyncClient(
            timeout=self._settings.timeout_s,
            headers=self._settings.headers,
            follow_redirects=False,
            trust_env=False,
            limits=httpx2.Limits(max_connections=4, max_keepalive_connections=4),
        )
        if self._settings.metrics:
            self._tasks.append(asyncio.create_task(self._send_metrics(), name="tenfold-otlp-metrics"))
        if self._settings.logs:
            self._tasks.append(asyncio.create_task(self._send_lines(), name="tenfold-otlp-logs"))

    async def stop(self) -> None:
        """Send what waits, once, and close the connections."""
        tasks, self._tasks = self._tasks, []
        await end_tasks(*tasks)
        if self._client is not None:
            await self._flush_lines()
            if self._settings.metrics:
                await self._flush_metrics()
            await self._client.aclose()
            self._client = None

    async def _send_metrics(self) -> None:
        while True:
            await self._clock.sleep(self._settings.metrics_every_s)
            await self._flush_metrics()

    async def _send_lines(self) -> None:
        while True:
            await self._clock.sleep(LOG_FLUSH_S)
            await self._flush_lines()

    async def _flush_metrics(self) -> None:
        families = list(self._exposition.collect())
        now = self._clock.now()
        for request in messages.metrics(families, self._who, self._what, self._started, now, self._deltas):
            points = _points(request)
            await self.send("metrics", points, partial(_same, request))

    async def _flush_lines(self) -> None:
        while self._lines:
            batch = [self._lines.popleft() for _ in range(min(LINES_BATCH, len(self._lines)))]
            if not await self.send("logs", len(batch), partial(messages.logs, batch, self._who, self._what)):
                break  # the rest waits for its turn, and for its bound

    # ── out ──

    async def send(self, signal: str, count: int, make: Callable[[], Message]) -> bool:
        """Send what ``make`` makes, off the event loop; whether it was taken. Losses are counted and told, never raised."""
        try:
            body = await asyncio.to_thread(_packed, make)
            rejected, sentence = await self._post(signal, body)
        except Lost as lost:
            self.dropped[signal, lost.reason] += count
            self._complain(signal, count, str(lost))
            return False
        except ValueError as error:  # a message that cannot be encoded
            self.dropped[signal, "not encodable"] += count
            self._complain(signal, count, f"It cannot be encoded: {error}.")
            return False
        self.sent[signal] += count - rejected
        if rejected:
            self.dropped[signal, "rejected"] += rejected
            self._complain(
                signal, rejected, f"The collector rejected them: {sentence or 'it says no reason'}."
            )
        return True

    async def _post(self, signal: str, body: bytes) -> tuple[int, str]:
        if self._client is None:
            raise Lost("stopped", "The exporter does not run.")
        url = self._base + PATHS[signal]
        headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                answer = await self._client.post(url, content=body, headers=headers)
        except (TimeoutError, httpx2.TimeoutException):
            raise Lost("timeout", f"{url} gave no answer within {self._settings.timeout_s:g} s.") from None
        except httpx2.HTTPError as error:
            raise Lost("unreachable", f"{url} cannot be reached ({type(error).__name__}).") from None
        if answer.status_code >= 300:
            raise Lost(f"status {answer.status_code}", _refusal(url, answer.status_code))
        return messages.rejected(signal, answer.content[:ANSWER_MAX_BYTES])

    def _complain(self, signal: str, count: int, sentence: str) -> None:
        now = self._clock.monotonic()
        if now - self._complained >= COMPLAIN_S:
            self._complained = now
            log.warning(names.LOG_OTLP_LOST, signal=signal, lost=count, why=sentence)

    def _collect(self) -> list[Family]:
        sent = [Sample("_total", {"signal": signal}, count) for signal, count in self.sent.items()]
        lost = [
            Sample("_total", {"signal": signal, names.REASON: reason}, count)
            for (signal, reason), count in self.dropped.items()
        ]
        return [
            Family(
                f"{names.OTLP}_sent", "counter", "Spans, data points and lines that the collector took.", sent
            ),
            Family(f"{names.OTLP}_dropped", "counter", "Those that were lost on the way to it.", lost),
        ]


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise ConfigError(
            "it is no URL of an OTLP endpoint.",
            where="otlp.url",
            remedy='Write "http://localhost:4318"; /v1/traces and the like are added.',
        )
    base = url.rstrip("/")
    for path in PATHS.values():
        if base.endswith(path):
            raise ConfigError(
                f"it ends in {path}, which is added to it.",
                where="otlp.url",
                remedy=f"Write {base.removesuffix(path)!r}.",
            )
    return base


def _resource(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for name, sign, _ in pairs:
        if not sign or not name.strip():
            raise ConfigError(
                f"{name!r} is no attribute.",
                where="otlp.resource",
                remedy='Write ["service.namespace=store"].',
            )
    return {name.strip(): value.strip() for name, _, value in pairs}


def _refusal(url: str, status: int) -> str:
    if status in (401, 403):
        return f"{url} answered {status}: the key in [otlp.headers] is missing or wrong."
    if status == 404:
        return f"{url} answered 404: otlp.url has a path too many or too few."
    return f"{url} answered {status}."


def _same(request: Message) -> Message:
    return request


def _packed(make: Callable[[], Message]) -> bytes:
    return gzip.compress(make().SerializeToString(), compresslevel=1)


def _points(request: Any) -> int:
    return sum(
        len(getattr(metric, metric.WhichOneof("data")).data_points)
        for metric in request.resource_metrics[0].scope_metrics[0].metrics
    )
