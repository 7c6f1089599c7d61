"""One, two and three web processes behind NGINX and HAProxy, beside one process that is asked directly.

Everything runs on the same cores, wrk included, so what a configuration is worth is what is left for the app. Each burst says
where the time went, too: CPU µs per request of the app, of the balancer and of wrk. A round takes each configuration once.
The balancers run with what ``tenfold up`` writes for them, all of them beside each other; those without load cost next to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from servers import CONNECTIONS, Failed, answers, free_port, parsed

from tenfold.runtime.balance import Listener, Options, Plan, Pool, Upstream, balancer_of

TITLE = "Processes behind a balancer"
ABOUT = """One, two and three `tenfold run` behind NGINX and behind HAProxy, with the configurations that `tenfold up` writes, beside one
process that is asked directly; nothing is pinned, and wrk (one thread, 32 keep-alive connections) shares the machine's cores
with all of them. `items` is a typed GET, the cheapest thing an app does; the others take so much CPU time of the app besides.
CPU µs are user and system time per request. One process alone has a core of its own, and the load the other one. Behind a
balancer all share both: requests a second are then the cores over the sum of the three columns, so what an app gains by a
second process is bounded by what the balancer and the load cost beside a request of its own: 1.6 times as much from two cores
takes an app whose requests cost four times as much as these do together (2 / (app + rest) = 1.6 / app). From there on more
processes add nothing.
In brackets the smallest and the largest of the rounds.
"""

HERE = Path(__file__).parent
COUNTS = (1, 2, 3)
KINDS = ("nginx", "haproxy")
DIRECT = "direct"
PATHS = {"items": "/items/42?q=abc", "busy 0.3 ms": "/busy/300", "busy 1 ms": "/busy/1000"}
"""A typed GET, which costs the app the least there is, and requests that cost it so much CPU time besides."""
AT_LEAST = 1.6
WARM_S, BURST_S = 0.4, 1.0
COLOURS = {"nginx": "#0b6e4f", "haproxy": "#2f5fd0", DIRECT: "#8a93a5"}


def measure(rounds: int, out: Path, progress: Any) -> list[dict[str, Any]]:
    """One row per round, endpoint, way in and number of processes."""
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        ways = _started(stack, out)
        todo = [(what, way) for what in PATHS for way in ways]
        for number in range(rounds):
            for at, (what, way) in enumerate(todo):
                progress(number * len(todo) + at, rounds * len(todo), f"{what}: {way.name}")
                try:
                    rows.append({"round": number, "what": what, **way.load(PATHS[what])})
                except Failed as error:
                    print(f"{way.name}, {what}, not kept: {error}", file=sys.stderr)
    return rows


class Way:
    """A way in: a port, and the processes that have a part in answering there."""

    def __init__(
        self, kind: str, count: int, port: int, app: list[psutil.Process], balancer: list[psutil.Process]
    ) -> None:
        self.kind, self.count, self.port = kind, count, port
        self._app, self._balancer = app, balancer

    @property
    def name(self) -> str:
        return f"{self.count} {self.kind}"

    def load(self, path: str) -> dict[str, Any]:
        """One burst."""
        self._wrk(path, WARM_S)
        app, balancer, own = _cpu_s(self._app), _cpu_s(self._balancer), _children_s()
        row = self._wrk(path, BURST_S)
        each = 1e6 / max(row["n"], 1)
        return {
            "kind": self.kind,
            "count": self.count,
            **row,
            "app_us": (_cpu_s(self._app) - app) * each,
            "balancer_us": (_cpu_s(self._balancer) - balancer) * each,
            "wrk_us": (_children_s() - own) * each,
        }

    def _wrk(self, path: str, seconds: float) -> dict[str, Any]:
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d60s", "--latency"]
        wrk = subprocess.Popen(
            [*command, f"http://127.0.0.1:{self.port}{path}"], stdout=subprocess.PIPE, text=True
        )
        time.sleep(seconds)
        wrk.send_signal(signal.SIGINT)
        return parsed(wrk.communicate()[0])


def _started(stack: ExitStack, out: Path) -> list[Way]:
    ports, apps = [], []
    for number in range(max(COUNTS)):
        port, process = stack.enter_context(_app(out / f"fleet-{number}.log"))
        ports.append(port)
        apps.append(process)
    ways = [Way(DIRECT, 1, ports[0], apps[:1], [])]
    for kind in KINDS:
        for count in COUNTS:
            port, processes = stack.enter_context(_balancer(kind, ports[:count]))
            ways.append(Way(kind, count, port, apps[:count], processes))
    for way in ways:
        for path in PATHS.values():
            answers(way.port, path)
    return ways


@contextlib.contextmanager
def _app(log: Path) -> Iterator[tuple[int, psutil.Process]]:
    """One web process with data of its own, as ``tenfold up`` starts it but for the worker in it."""
    port = free_port()
    env = {**os.environ, "TENFOLD_LOG_ACCESS": "false", "PYTHONPATH": os.pathsep.join([".", os.environ.get("PYTHONPATH", "")])}  # fmt: skip
    command = [
        sys.executable, "-m", "tenfold", "run", "tenfold_app:app", "--port", str(port), "--ops-port", "0", "--no-worker",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="tenfold-bench-") as data, log.open("wb") as to:
        process = subprocess.Popen(
            command, cwd=HERE / "http", env={**env, "TENFOLD_APP_DATA_DIR": data}, stdout=to, stderr=to
        )
        try:
            answers(port, "/json", within_s=60.0)
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def _balancer(kind: str, ports: list[int]) -> Iterator[tuple[int, list[psutil.Process]]]:
    port = free_port()
    pool = Pool(
        "web",
        tuple(Upstream(f"web.{at}", "127.0.0.1", to, slow_start=False) for at, to in enumerate(ports, 1)),
    )
    plan = Plan((Listener("public", "127.0.0.1", port),), (pool,), options=Options(stop_timeout_s=1.0))
    with tempfile.TemporaryDirectory(prefix="tb-") as folder, asyncio.Runner() as runner:
        balancer = balancer_of(kind)
        assert balancer is not None
        runner.run(balancer.apply(plan, Path(folder)))
        try:
            master = psutil.Process(balancer.running(Path(folder)))
            yield port, [master, *master.children(recursive=True)]
        finally:
            runner.run(balancer.stop())


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (each.cpu_times() for each in processes))


def _children_s() -> float:
    """Of wrk: those that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# ── what comes of it ──


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Medians over the rounds; the smallest and the largest in brackets."""
    head = [
        "",
        "processes",
        "requests a second",
        "× one direct",
        "CPU µs: app",
        "balancer",
        "wrk",
        "cores in use",
    ]
    lines = []
    for what, kind, count in _ways(rows):
        ratios = _ratios(rows, what, (kind, count), (DIRECT, 1))
        cpu = {part: _middle(rows, what, kind, count, f"{part}_us") for part in ("app", "balancer", "wrk")}
        rate = _middle(rows, what, kind, count, "rps")
        lines.append(
            [
                f"{what}, {kind}",
                str(count),
                f"{rate:,.0f}",
                _spread(ratios),
                *(f"{value:.0f}" for value in cpu.values()),
                f"{rate * sum(cpu.values()) / 1e6:.2f}",
            ]
        )
    return head, lines


def verdicts(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Two processes behind each balancer over one, in each round."""
    lines = []
    for what in PATHS:
        for kind in KINDS:
            for base in ((DIRECT, 1), (kind, 1)):
                ratios = _ratios(rows, what, (kind, 2), base)
                if not ratios:
                    continue
                mark = "✓" if min(ratios) >= AT_LEAST else "✗" if max(ratios) < AT_LEAST else "?"
                against = "one, direct" if base[0] == DIRECT else f"one behind {kind}"
                lines.append(
                    [
                        mark,
                        what,
                        f"two behind {kind}",
                        against,
                        f"{AT_LEAST:g}",
                        _spread(ratios),
                        str(len(ratios)),
                    ]
                )
    return ["", "endpoint", "", "against", "target", "ratio", "N"], lines


def plot(rows: list[dict[str, Any]], to: Path) -> None:
    """Requests a second over processes, in those of one that is asked directly: a small SVG by hand, a panel per endpoint."""
    text = 'font-family="system-ui, sans-serif" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 330" {text} role="img" aria-label="Throughput over web processes">',
        "<style>text{fill:#5d6678}.grid{stroke:#8a93a5;stroke-opacity:.3}polyline{fill:none;stroke-width:2.5}</style>",
    ]
    for number, what in enumerate(PATHS):
        parts += _panel(rows, what, 50 + number * 245)
    for number, kind in enumerate(COLOURS):
        at = 50 + number * 180
        said = "one process, direct: 1" if kind == DIRECT else f"behind {kind}"
        parts.append(
            f'<line x1="{at}" x2="{at + 24}" y1="312" y2="312" stroke="{COLOURS[kind]}" stroke-width="3"/>'
        )
        parts.append(f'<text x="{at + 30}" y="316">{said}</text>')
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _panel(rows: list[dict[str, Any]], what: str, left: int) -> Iterator[str]:
    yield f'<text x="{left}" y="24">{what}</text>'
    for value in (0.0, 0.5, 1.0, 1.5, 2.0):
        yield f'<line class="grid" x1="{left}" x2="{left + 200}" y1="{_y(value)}" y2="{_y(value)}"/>'
        yield f'<text x="{left - 8}" y="{_y(value) + 4}" text-anchor="end">{value:g}</text>'
    yield f'<line x1="{left}" x2="{left + 200}" y1="{_y(1.0)}" y2="{_y(1.0)}" stroke="{COLOURS[DIRECT]}"/>'
    for count in COUNTS:
        yield f'<text x="{left + count * 65 - 30}" y="282" text-anchor="middle">{count}</text>'
    for kind in KINDS:
        ratios = {count: _ratios(rows, what, (kind, count), (DIRECT, 1)) for count in COUNTS}
        points = [(left + count * 65 - 30, _y(median(found))) for count, found in ratios.items() if found]
        yield f'<polyline stroke="{COLOURS[kind]}" points="{" ".join(f"{x},{y}" for x, y in points)}"/>'
        yield from (f'<circle cx="{x}" cy="{y}" r="3.5" fill="{COLOURS[kind]}"/>' for x, y in points)


def _y(value: float) -> float:
    return round(262.0 - min(value, 2.0) * 110.0, 1)


def _ways(rows: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    return list(dict.fromkeys((row["what"], row["kind"], row["count"]) for row in rows))


def _found(rows: list[dict[str, Any]], what: str, kind: str, count: int, key: str) -> dict[int, float]:
    """By round."""
    return {
        row["round"]: row[key]
        for row in rows
        if (row["what"], row["kind"], row["count"]) == (what, kind, count)
    }


def _middle(rows: list[dict[str, Any]], what: str, kind: str, count: int, key: str) -> float:
    return median(_found(rows, what, kind, count, key).values())


def _ratios(
    rows: list[dict[str, Any]], what: str, ours: tuple[str, int], base: tuple[str, int]
) -> list[float]:
    """Of requests a second, in each round that has both."""
    over, under = _found(rows, what, *ours, "rps"), _found(rows, what, *base, "rps")
    return [over[number] / under[number] for number in over if number in under]


def _spread(ratios: list[float]) -> str:
    if not ratios:
        return "–"
    return f"{median(ratios):.2f} [{min(ratios):.2f}–{max(ratios):.2f}]"
