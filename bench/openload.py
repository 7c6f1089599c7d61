"""An open-loop load: requests leave when they are due, whether or not earlier ones were answered.

python openload.py <port> <what as JSON>  ->  one JSON line

``what``: rate (a second), seconds, skip_s (sent, not counted), deadline_ms, give_up_s, seed, and ``mix``, a list of
``[name, share, path, headers]``; ``then`` is a rate that follows, and its seconds, in which the time to recovery is
sought. Arrivals are a Poisson process, as independent clients make it; evenly spaced ones never meet, so a server
looks idle below its capacity and has no latency to compare with. Latency counts from the intended time.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

import uvloop

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Load:
    def __init__(self, port: int, what: dict[str, Any]) -> None:
        self.port, self.what = port, what
        self.idle: list[Connection] = []
        self.rows: list[tuple[float, str, str, float]] = []
        """Due time, name, outcome, seconds."""
        self.late = 0.0
        self.random = random.Random(what["seed"])
        self.mix = [
            (name, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())
            for name, _, path, headers in what["mix"]
        ]
        self.shares = [share for _, share, _, _ in what["mix"]]

    async def run(self) -> None:
        """All phases, one after another."""
        tasks: set[asyncio.Task[None]] = set()
        began = time.perf_counter()
        due = began
        phases = [(self.what["rate"], self.what["seconds"])]
        if "then" in self.what:
            phases.append(tuple(self.what["then"]))
        for rate, seconds in phases:
            end = due + seconds
            while (due := due + self.random.expovariate(rate)) < end:
                wait = due - time.perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
                self.late = max(self.late, -wait)
                name, request = self.random.choices(self.mix, self.shares)[0]
                task = asyncio.ensure_future(self._one(due, due - began, name, request))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            due = end
        if tasks:
            await asyncio.wait(tasks)

    async def _one(self, due: float, at: float, name: str, request: bytes) -> None:
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
        self.rows.append((at, name, outcome, time.perf_counter() - due))


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
    """Of what counts."""
    what = load.what
    counted = [r for r in load.rows if what["skip_s"] <= r[0] < what["seconds"]]
    seconds = what["seconds"] - what["skip_s"]
    found = _of(counted, seconds, what["deadline_ms"])
    found["late_ms"] = load.late * 1e3
    found["by"] = {
        name: _of([r for r in counted if r[1] == name], seconds, what["deadline_ms"]) for name, _ in load.mix
    }
    if "then" in what:
        found["recovered_s"] = _recovered(load)
    return found


def _of(rows: list[Any], seconds: float, deadline_ms: float) -> dict[str, Any]:
    took = sorted(r[3] * 1e3 for r in rows if r[2] == "ok")
    good = sum(t <= deadline_ms for t in took)
    outcomes = [r[2] for r in rows]
    return {
        "sent": len(rows), "ok": len(took), "shed": outcomes.count("shed"),
        "failed": len(rows) - len(took) - outcomes.count("shed"), "goodput": good / seconds,
        "p50": _quantile(took, 0.5), "p99": _quantile(took, 0.99),
    }  # fmt: skip


def _recovered(load: Load) -> float | None:
    """Seconds from the end of the overload after which, over every half second, 99 % were answered in time."""
    after = [r for r in load.rows if r[0] >= load.what["seconds"]]
    bad = [
        second
        for second in range(int(load.what["then"][1] * 2))
        for rows in [[r for r in after if int((r[0] - load.what["seconds"]) * 2) == second]]
        if rows
        and sum(r[2] == "ok" and r[3] * 1e3 <= load.what["deadline_ms"] for r in rows) < 0.99 * len(rows)
    ]
    last = (max(bad) + 1) / 2 if bad else 0.0
    return None if last >= load.what["then"][1] else last


def _quantile(values: list[float], q: float) -> float | None:
    return values[min(len(values) - 1, int(len(values) * q))] if values else None


def main() -> None:
    load = Load(int(sys.argv[1]), json.loads(sys.argv[2]))
    uvloop.run(load.run())
    print(json.dumps(figures(load)))


if __name__ == "__main__":
    main()
