"""A schedule of load on one server: stretches as fast as answers come, and such that wait for nobody.

python openload.py <port> <what as JSON>  ->  one JSON line

``what``: ``phases``, each ``[name, {"connections": n}, seconds]`` (each sends its next request when it has its answer; the
good answers a second of the first such phase are *the peak*) or ``[name, {"peaks": x}, seconds]`` (that many times the
peak); ``skip_s`` (of each phase: sent, not counted); deadline_ms, give_up_s, seed; ``mix``, a list of ``[name, share, path,
headers]``; ``pid`` of the server, whose CPU time is read at the ends of each phase, and ``core``, the one that it runs on: what
others took of that. (How long a server's threads were ready and not let run says less: they also wait for each other.)

What waits for nobody is a Poisson process, as independent clients make it; evenly spaced arrivals never meet, so a server
looks idle below its capacity and has no latency to compare with. Latency counts from the intended time.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import uvloop

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Row(NamedTuple):
    """One request."""

    at: float
    """When it was due, in seconds from the beginning of its phase."""
    name: str
    outcome: str
    seconds: float


class Phase:
    """What was asked for, and what became of it."""

    def __init__(self, name: str, how: dict[str, float], seconds: float) -> None:
        self.name, self.how, self.seconds = name, how, seconds
        self.rows: list[Row] = []
        self.late_s = 0.0
        """How far the generator was behind, at most."""
        self.server_cpu_s = self.held_s = self.own_cpu_s = self.took_s = 0.0


class Load:
    def __init__(self, port: int, what: dict[str, Any]) -> None:
        self.port, self.what = port, what
        self.phases = [Phase(*phase) for phase in what["phases"]]
        self.peak = 0.0
        self.idle: list[Connection] = []
        self.random = random.Random(what["seed"])
        self.mix = [
            (name, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())
            for name, _, path, headers in what["mix"]
        ]
        self.shares = [share for _, share, _, _ in what["mix"]]
        root = psutil.Process(what["pid"])
        self._server = [root, *root.children(recursive=True)]

    async def run(self) -> None:
        """All phases, one after another. Who is not answered when its phase ends is waited for in the next one."""
        tasks: set[asyncio.Task[None]] = set()
        for phase in self.phases:
            began, server_s, own_s = time.perf_counter(), self._server_cpu_s(), time.process_time()
            busy_s = self._core_busy_s()
            if "connections" in phase.how:
                await self._closed(phase, began)
                self.peak = self.peak or good_per_s(phase, self.what)
            else:
                await self._open(phase, began, tasks)
            phase.took_s = time.perf_counter() - began
            phase.server_cpu_s = self._server_cpu_s() - server_s
            phase.held_s = max(0.0, self._core_busy_s() - busy_s - phase.server_cpu_s)
            phase.own_cpu_s = time.process_time() - own_s
        if tasks:
            await asyncio.wait(tasks)

    def _server_cpu_s(self) -> float:
        times = [process.cpu_times() for process in self._server]
        return sum(each.user + each.system for each in times)

    def _core_busy_s(self) -> float:
        """How long the server's core was busy, with the server or another's work (Linux, man 5 proc_stat)."""
        core = f"cpu{self.what['core']}"
        cores = (line.split() for line in Path("/proc/stat").read_text().splitlines())
        user, nice, system, _, _, _, _, steal = next(map(int, line[1:9]) for line in cores if line[0] == core)
        return (user + nice + system + steal) / os.sysconf("SC_CLK_TCK")

    async def _closed(self, phase: Phase, began: float) -> None:
        async def client() -> None:
            while (due := time.perf_counter()) < began + phase.seconds:
                name, request = self._next()
                await self._one(phase, due, due - began, name, request)

        await asyncio.gather(*(client() for _ in range(int(phase.how["connections"]))))

    async def _open(self, phase: Phase, began: float, tasks: set[asyncio.Task[None]]) -> None:
        due, rate = began, phase.how["peaks"] * self.peak
        while (due := due + self.random.expovariate(rate)) < began + phase.seconds:
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            phase.late_s = max(phase.late_s, -wait)
            task = asyncio.ensure_future(self._one(phase, due, due - began, *self._next()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(max(0.0, began + phase.seconds - time.perf_counter()))

    def _next(self) -> tuple[str, bytes]:
        return self.random.choices(self.mix, self.shares)[0]

    async def _one(self, phase: Phase, due: float, at: float, name: str, request: bytes) -> None:
        connection: Connection | None = None
        outcome = "failed"
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + self.what["give_up_s"]):
                connection = (
                    self.idle.pop() if self.idle else await asyncio.open_connection("127.0.0.1", self.port)
                )
                status, keep = await _exchange(*connection, request)
            outcome = "ok" if status == 200 else "shed" if status in (429, 503) else f"status {status}"
            if keep:
                self.idle.append(connection)
            else:
                connection[1].close()
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
            if connection is not None:
                connection[1].close()
        phase.rows.append(Row(at, name, outcome, time.perf_counter() - due))


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, bool]:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    low = head.lower()
    if b"content-length:" in low:
        await reader.readexactly(int(low.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
    elif b"chunked" in low:
        while (await reader.readuntil(b"\r\n")) != b"0\r\n":
            pass
        await reader.readuntil(b"\r\n")
    return int(head[9:12]), b"connection: close" not in low


def figures(load: Load) -> dict[str, Any]:
    """By phase, in their order."""
    return {"peak": load.peak, "phases": [_of_phase(phase, load) for phase in load.phases]}


def good_per_s(phase: Phase, what: dict[str, Any]) -> float:
    """Answers of 200 in time, a second, of what counts."""
    skip_s: float = what["skip_s"].get(phase.name, 0.0)
    good = sum(is_good(row, what["deadline_ms"]) for row in phase.rows if row.at >= skip_s)
    return good / (phase.seconds - skip_s)


def is_good(row: Row, deadline_ms: float) -> bool:
    return row.outcome == "ok" and row.seconds * 1e3 <= deadline_ms


def _of_phase(phase: Phase, load: Load) -> dict[str, Any]:
    skip_s, deadline_ms = load.what["skip_s"].get(phase.name, 0.0), load.what["deadline_ms"]
    counted = [row for row in phase.rows if row.at >= skip_s]
    return {
        "name": phase.name,
        "good_per_s": good_per_s(phase, load.what),
        "server_cpu": phase.server_cpu_s / phase.took_s,
        "held": phase.held_s / phase.took_s,
        "own_cpu": phase.own_cpu_s / phase.took_s,
        "late_ms": phase.late_s * 1e3,
        **_of(counted),
        "by": {name: _of([row for row in counted if row.name == name]) for name, _ in load.mix},
        "took_ms": sorted(round(row.seconds * 1e3, 1) for row in counted if row.outcome == "ok"),
        "well_after_s": _well_after_s(phase, deadline_ms),
    }


def _of(rows: list[Row]) -> dict[str, Any]:
    took = sorted(row.seconds * 1e3 for row in rows if row.outcome == "ok")
    outcomes = [row.outcome for row in rows]
    return {
        "sent": len(rows), "ok": len(took), "shed": outcomes.count("shed"),
        "failed": len(rows) - len(took) - outcomes.count("shed"),
        "p50": quantile(took, 0.5), "p99": quantile(took, 0.99),
    }  # fmt: skip


def _well_after_s(phase: Phase, deadline_ms: float) -> float | None:
    """Seconds from the phase's beginning after which, in every half second, 99 % were answered in time."""
    halves: dict[int, list[Row]] = {}
    for row in phase.rows:
        halves.setdefault(int(row.at * 2), []).append(row)
    bad = [
        half
        for half, rows in halves.items()
        if sum(is_good(row, deadline_ms) for row in rows) < 0.99 * len(rows)
    ]
    last = (max(bad) + 1) / 2 if bad else 0.0
    return None if last >= phase.seconds else last


def quantile(values: list[float], q: float) -> float | None:
    """Of sorted values."""
    return values[min(len(values) - 1, int(len(values) * q))] if values else None


def main() -> None:
    load = Load(int(sys.argv[1]), json.loads(sys.argv[2]))
    uvloop.run(load.run())
    print(json.dumps(figures(load)))


if __name__ == "__main__":
    main()
