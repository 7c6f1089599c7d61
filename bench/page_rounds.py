"""Every page of the dashboard over a full store: a million requests and a hundred thousand jobs of seven days.

The store is filled by the real writer on a clock that is moved by hand, with the registry of the real app: its operations'
counts, gauges and histograms are read every 5 s in the last two hours, and where only coarser points stay, as often as
these are. Then `tenfold run` serves the app on that folder, and its operations listener is asked for one page after the
other, as a browser does, each over a short and over the longest time. CPU time is the server's, with all threads; other
work on the machine lengthens the time of the clock, not that.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from figures import Rows, number
from servers import Failed, free_port

TITLE = "Pages of the dashboard over a full store"
ABOUT = """The store of telemetry is filled with seven days of an app of fifty operations and twenty jobs by its own writer, with one log
line for ten requests, spans for one in a hundred and all metrics; the queue's archive has the same jobs. Then `tenfold run`
serves that app on that folder, and every page is asked for at the operations listener, one after the other, over an hour and
over seven days. CPU is the server's time with all threads. ✓: p95 within 100 ms of the clock; ?: within 100 ms of CPU only, as
other work was on the machine; ✗: neither.
"""

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "http"))

REQUESTS, JOBS = 1_000_000, 100_000
SPAN_S, COARSE_S, FINE_S = 7 * 86_400.0, 2 * 86_400.0, 2 * 3600.0
KEEP_MB = 1024
"""More than there is, so that nothing goes: what it takes is measured."""
SIZE_MAX, PAGE_MAX_MS = 500_000_000, 100.0
ROUNDS = 40
WINDOWS = ("1h", "7d")
ENV = {
    "TENFOLD_TELEMETRY_KEEP_MB": str(KEEP_MB),
    "TENFOLD_TELEMETRY_KEEP_DAYS": "8",
    "TENFOLD_LOG_ACCESS": "false",
}
Progress = Callable[[int, int, str], None]
_LINK = re.compile(rb'href="([^"?#]+)')


def measure(rounds: int, out: Path, progress: Progress) -> Rows:
    """Fill a store, and ask for every page."""
    with tempfile.TemporaryDirectory(prefix="tenfold-pages-") as name:
        folder = Path(name)
        asyncio.run(_fill(folder, progress))
        kept = sum(file.stat().st_size for file in folder.glob("telemetry.sqlite*"))
        with _serving(folder, out / "pages.log") as server:
            server.wait()
            return [{"what": "kept", "bytes": kept}, *_asked(server, max(rounds, ROUNDS), progress)]


# ── what is kept ──────────────────────────────────────────────────────────────────────────────────


async def _fill(folder: Path, progress: Progress) -> None:
    import tenfold_pages

    from tenfold._core.clock import ManualClock
    from tenfold._core.sections.store import TelemetrySettings
    from tenfold.telemetry.store.store import Store

    app = tenfold_pages.app
    app.configure(environ={}, app__data_dir=str(folder), telemetry__store=False)
    await app.start(worker=True)
    try:
        await _finished_jobs(app)
        hub = app.assembly.telemetry
        clock = ManualClock(time.time() - SPAN_S)
        settings = TelemetrySettings(requests_per_s=10_000, logs_per_s=10_000, keep_mb=KEEP_MB, keep_days=8)
        store = Store(folder, settings, clock, hub.registry, instance="web-1", redactor=hub.redactor)
        past = _Past(app, store)
        for begun, seconds in _steps():
            past.happens(begun, seconds, clock.now())
            await clock.advance(seconds)
            past.is_written(clock.now(), seconds)
            progress(int(begun), int(SPAN_S), "filling")
        store.writer.stop()
    finally:
        await app.stop()


def _steps() -> Iterator[tuple[float, float]]:
    """Beginning and length of the times between two readings of the metrics."""
    at = 0.0
    while at < SPAN_S:
        left = SPAN_S - at
        step = 900.0 if left > COARSE_S else 60.0 if left > FINE_S else 5.0
        yield at, min(step, left)
        at += step


class _Past:
    """What happens in that time, evenly."""

    def __init__(self, app: Any, store: Any) -> None:
        hooks = app.assembly.telemetry.http
        self._store, self._registry = store, app.assembly.telemetry.registry
        self._operations = [
            (each.name, each.path, hooks.stats(each.name, "GET", each.path)) for each in app.operations
        ]
        self._handlers = [job.name for service in app.services for job in service.jobs]
        self._requests = self._jobs = 0

    def happens(self, begun: float, seconds: float, now: float) -> None:
        """What is due after ``begun + seconds``; the clock shows ``now`` at ``begun``."""
        due = round(REQUESTS * (begun + seconds) / SPAN_S)
        count = due - self._requests
        for each in range(count):
            self._request(now + seconds * each / count)
        due = round(JOBS * (begun + seconds) / SPAN_S)
        count = due - self._jobs
        for each in range(count):
            self._job(now + seconds * each / count)

    def is_written(self, now: float, seconds: float) -> None:
        self._store.feed.tick(seconds)
        self._store.feed.snapshot(now, list(self._registry.collect()))
        self._store.writer.turn()

    def _request(self, at: float) -> None:
        from tenfold.telemetry.render import Line
        from tenfold.telemetry.store.records import RequestSummary

        self._requests += 1
        n, feed = self._requests, self._store.feed
        name, path, stats = self._operations[n * 7919 % len(self._operations)]
        failed, seconds = n % 50 == 0, 0.001 + n % 97 / 1000
        status = 500 if failed else 404 if n % 33 == 0 else 200
        error = f"KeyError: {n % 7}" if failed else ""
        stats.record(status, seconds)
        feed.request(
            RequestSummary(
                at, name, "GET", path, path.replace("{owner}", f"o{n % 997}"), status, seconds, f"{n:032x}", f"r-{n:x}",
                f"t{n % 300}", "", error,
            ),
            fair=True,
        )  # fmt: skip
        if n % 10 == 0:
            level = ("info", "warning", "error")[n // 10 % 3]
            feed.line(
                Line(at, level, "order placed", name, {"order_id": n, "trace_id": f"{n:032x}", "owner": f"o{n % 997}"})
            )  # fmt: skip
        if n % 100 == 0:
            feed.recording(_recording(n, at, seconds, name, error if n % 200 == 0 else ""))

    def _job(self, at: float) -> None:
        from tenfold.telemetry.store.records import JobSummary

        self._jobs += 1
        n = self._jobs
        dead = n % 40 == 3
        error = "OSError: the scale does not answer" if dead else ""
        handler = self._handlers[n % len(self._handlers)]
        summary = JobSummary(
            at, "default", handler, "dead" if dead else "done", 0.05, 0.01, 1, f"{n:032x}", str(n), "", "", error,
        )  # fmt: skip
        self._store.feed.job(summary)


def _recording(n: int, at: float, seconds: float, operation: str, error: str) -> Any:
    from tenfold.telemetry.contract import Span
    from tenfold.telemetry.recording import Recording

    trace_id = f"{n:032x}"
    root = Span(name=operation, trace_id=trace_id, span_id="a" * 16, kind="server", started=at)
    root.ended, root.error = at + seconds, error
    spans = [root]
    for each in range(8):
        below = Span(
            name="db.statement",
            trace_id=trace_id,
            span_id=f"{each:016x}",
            parent_id="a" * 16,
            started=at + each / 2000,
        )
        below.set("db.query.text", "SELECT count(*) FROM orders_things WHERE orders_things.owner = ?")
        below.ended = below.started + 0.0004
        spans.insert(0, below)
    return Recording(trace_id, operation, "request", spans, failed=bool(error))


async def _finished_jobs(app: Any) -> None:
    """The same jobs as the queue's archive has them."""
    import sqlalchemy as sa

    from tenfold.queue.tables import archive

    now, handlers = time.time(), [job.name for service in app.services for job in service.jobs]
    rows = (
        {
            "id": 1_000_000 + n, "kind": "job", "handler": handlers[n % len(handlers)],
            "state": "dead" if n % 40 == 3 else "done", "queue": "default", "lane": "", "share": "", "priority": 0,
            "created_at": now - SPAN_S * (1 - n / JOBS), "finished_at": now - SPAN_S * (1 - n / JOBS), "payload": "{}",
            "fence": 1, "failures": int(n % 40 == 3), "crashes": 0, "expires_at": now + 10 * SPAN_S,
        }
        for n in range(JOBS)
    )  # fmt: skip
    async with app.databases[0].tx() as tx:
        if not await tx.scalar(sa.select(sa.func.count()).select_from(archive)):
            await tx.load(archive, rows)


# ── the pages ─────────────────────────────────────────────────────────────────────────────────────


class _Server:
    """`tenfold run`, and a visitor of its operations listener."""

    def __init__(self, process: subprocess.Popen[bytes], ops_port: int, log: Path) -> None:
        self._process, self._port, self._log = process, ops_port, log

    def wait(self) -> None:
        """Until it answers. Raises Failed."""
        for _ in range(900):
            if self._process.poll() is not None:
                break
            try:
                self.page("/")
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise Failed(f"the app of the pages did not start: see {self._log}")

    def page(self, path: str) -> bytes:
        """Raises Failed when it is not answered with 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request("GET", path, headers={"accept": "text/html"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise Failed(f"{path} was answered with {response.status}: see {self._log}")
        return body

    def cpu_s(self) -> float:
        """Of all threads, from the scheduler."""
        tasks = Path(f"/proc/{self._process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@contextmanager
def _serving(folder: Path, log: Path) -> Iterator[_Server]:
    ops_port = free_port()
    command = [
        sys.executable, "-m", "tenfold", "run", "tenfold_pages:app", "--port", str(free_port()), "--ops-port", str(ops_port),
        "--no-reload", "--data", str(folder),
    ]  # fmt: skip
    with log.open("wb") as told:
        process = subprocess.Popen(
            command, cwd=HERE / "http", env={**os.environ, **ENV}, stdout=told, stderr=subprocess.STDOUT
        )
        try:
            yield _Server(process, ops_port, log)
        finally:
            process.terminate()
            process.wait(30)


def _paths(server: _Server) -> dict[str, str]:
    """Every page, those of one thing with the first of it that its list links to; and the parts that pages fetch later."""
    from tenfold.dashboard.pages import pages

    found: dict[str, str] = {}
    for page in pages():
        if "{" not in page.path:
            found[page.path] = page.path
            continue
        parent = page.path.partition("/{")[0]
        links = _LINK.findall(server.page(f"{parent}?window=7d"))
        of_one = [link.decode() for link in links if link.startswith(parent.encode() + b"/")]
        if not of_one:
            raise Failed(f"{parent} links to no {page.path}")
        found[page.path] = of_one[0]
    found["/database, findings"] = "/database?part=findings"
    found["/traces, requests"] = "/traces?show=requests"
    found["/traces, slow"] = "/traces?slower=5"
    found["/traces, requests, slow"] = "/traces?show=requests&slower=5"
    found["/logs, words"] = "/logs?text=order+placed&level=error"
    found["/logs, no such word"] = "/logs?text=nowhere"
    found["/jobs, dead"] = "/jobs?state=dead"
    found["/jobs, error"] = "/jobs?error=scale"
    return found


def _asked(server: _Server, rounds: int, progress: Progress) -> Rows:
    wanted = [
        (name, window, f"{path}{'&' if '?' in path else '?'}window={window}")
        for name, path in _paths(server).items()
        for window in WINDOWS
    ]
    rows: Rows = []
    for each in range(rounds):
        progress(each, rounds, "pages")
        for name, window, path in wanted:
            cpu, begun = server.cpu_s(), time.perf_counter()
            body = server.page(path)
            took = time.perf_counter() - begun
            rows.append(
                {
                    "what": "page", "page": name, "window": window, "ms": took * 1000,
                    "cpu_ms": (server.cpu_s() - cpu) * 1000, "bytes": len(body),
                }
            )  # fmt: skip
    return rows


# ── what it says ──────────────────────────────────────────────────────────────────────────────────


def share(values: list[float], part: float) -> float:
    """The value that this part of all lies at or below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def kept(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """How much room it takes."""
    (size,) = (row["bytes"] for row in rows if row["what"] == "kept")
    mark = "✓" if size < SIZE_MAX else "✗"
    return ["", "kept", "MB", "at most"], [
        [
            mark,
            f"{REQUESTS:,} requests, {JOBS:,} jobs, {SPAN_S / 86_400:.0f} days",
            number(size / 1e6),
            number(SIZE_MAX / 1e6),
        ]
    ]


def table(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """Page by page, the slowest first."""
    groups: dict[tuple[str, str], Rows] = {}
    for row in rows:
        if row["what"] == "page":
            groups.setdefault((row["page"], row["window"]), []).append(row)
    lines = []
    for (page, window), found in sorted(
        groups.items(), key=lambda one: -share([r["cpu_ms"] for r in one[1]], 0.95)
    ):
        took, cpu = [r["ms"] for r in found], [r["cpu_ms"] for r in found]
        # By its own time where the machine was busy: what others took of the processor is not the page's.
        mark = "✓" if share(took, 0.95) <= PAGE_MAX_MS else "?" if share(cpu, 0.95) <= PAGE_MAX_MS else "✗"
        lines.append(
            [
                mark, page, window, f"{share(took, 0.5):.1f}", f"{share(took, 0.95):.1f}", f"{share(cpu, 0.5):.1f}",
                f"{share(cpu, 0.95):.1f}", number(max(r["bytes"] for r in found) / 1000), str(len(found)),
            ]
        )  # fmt: skip
    return ["", "page", "window", "p50 ms", "p95 ms", "CPU p50 ms", "CPU p95 ms", "kB", "N"], lines
