"""What telemetry costs: all of it, beside none but metrics, which are always on.

Two apps in one process take turns, on and off, off and on, called without a server; the difference in CPU time per request,
with all threads (the access log's is in it), and what the store's writer and the readings of the metrics take in a second,
tell what telemetry adds. That is set against what a request costs `tenfold run` without telemetry, its server included,
which is measured in the same round: the share of throughput that telemetry takes from a process that is busy.

The store's budgets are per second, so its time is made to pass here as it would in a process that is busy with such
requests and nothing else, however little of the machine this run gets. "On" is: access log as JSON, 1 % of traces
sampled, the store, and with it traces recorded to be kept if slow or failed.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import environment
from figures import Rows, Table
from servers import Failed, free_port

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "http"))

import tenfold_telemetry  # noqa: E402

from tenfold import App  # noqa: E402
from tenfold.telemetry import access, log  # noqa: E402
from tenfold.telemetry.store import store as store_part  # noqa: E402
from tenfold.telemetry.store import writer  # noqa: E402

TITLE = "What telemetry costs"
ABOUT = """Two apps in one process take turns, on and off, off and on, called without a server: CPU time per request, with all threads, and
what the store's writer and the readings of the metrics take in a second. That is set against what a request costs
`tenfold run` without telemetry, its server included, in the same round: "adds" is the share of throughput that telemetry
takes from a process that is busy, the median of the rounds. On is: access log as JSON, 1 % of traces sampled, the store, and with it traces recorded to
be kept if slow or failed. Metrics are on in both. The target for the read of one row is meant for a database server; in the
process itself, where a read is cheaper, telemetry is a larger share. ✓ and ✗ where the middle half of the rounds lies on one side.
"""

Progress = Callable[[int, int, str], None]
ROUNDS, TURNS = 60, 5
"""In each turn of a round both sides are asked: a busy moment of the machine hits both."""
WARM = 20
"""Requests at the beginning of a turn that are not counted: what the other side has put into the caches goes out."""
OFF = {"TENFOLD_LOG_ACCESS": "false", "TENFOLD_TELEMETRY_STORE": "false", "TENFOLD_TRACE_RATIO": "0"}
PARTS = {
    "log": {"TENFOLD_LOG_FORMAT": "json", "TENFOLD_LOG_ACCESS": "true"},
    "traces": {"TENFOLD_TRACE_RATIO": "0.01"},
    "store": {"TENFOLD_TELEMETRY_STORE": "true"},
}


class Measure(NamedTuple):
    """``most``: what telemetry may add. ``requests``: of each side in a round. ``server``: whether the database is
    PostgreSQL, and not in the process."""

    path: str
    query: bytes
    most: float
    requests: int = 500
    server: bool = False


MEASURES = {
    "typed GET": Measure("/items/42", b"q=abc", 0.10),
    "one-row read, SQLite": Measure("/db", b"", 0.05),
    "one-row read, PostgreSQL": Measure("/db", b"", 0.05, requests=2_000, server=True),
}
CONNECTIONS = 8
HEADERS = [(b"host", b"localhost"), (b"user-agent", b"bench"), (b"accept", b"*/*")]


def on_of(parts: list[str]) -> dict[str, str]:
    env = dict(OFF)
    for part in parts:
        if part not in PARTS:
            raise Failed(f"There is no part {part} of telemetry; there are {', '.join(PARTS)}.")
        env |= PARTS[part]
    return env


# ── without a server ──────────────────────────────────────────────────────────────────────────────


class Side:
    """One of the two apps. ``pass_s`` lets the store's time go by."""

    def __init__(self, env: dict[str, str], folder: Path, out: Any) -> None:
        self.app: App = tenfold_telemetry.made()
        self.app.configure(environ=env, app__data_dir=str(folder), worker__enabled=False)
        self.app.logging = log.configure(self.app.settings.log, self.app.clock, stream=out)
        self._tick_in_s, self._turn_in_s, self._read_in_s = 1.0, 0.5, 5.0
        self.passed_s = self.beside_s = 0.0
        """How much time has gone by here, and how much CPU the store took in it beside the requests."""

    async def request(self, path: str, query: bytes) -> None:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query, "root_path": "", "headers": HEADERS,
            "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        await self.app(scope, _receive, _send)

    def write_lines(self) -> None:
        """What the access log's thread does now and then: here, so that it is counted for who left it the lines."""
        lines = self.app.logging.access if self.app.logging is not None else None
        while lines is not None and (text := lines._taken()):  # pyright: ignore[reportPrivateUsage]
            lines._write(text)  # pyright: ignore[reportPrivateUsage]

    def pass_s(self, seconds: float) -> None:
        store = self.app.assembly.telemetry.store
        if store is None:
            return
        begun = time.process_time()
        self._tick_in_s -= seconds
        if self._tick_in_s <= 0:
            self._tick_in_s += 1.0
            store.feed.tick(1.0)
        self._turn_in_s -= seconds
        self._read_in_s -= seconds
        if self._read_in_s <= 0:
            self._read_in_s += 5.0
            store._read()  # pyright: ignore[reportPrivateUsage]
        if self._turn_in_s <= 0:
            self._turn_in_s += 0.5
            store.writer.turn()
        self.passed_s += seconds
        self.beside_s += time.process_time() - begun


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(_: Any) -> None: ...


async def chunk(side: Side, path: str, query: bytes, requests: int, request_s: float) -> float:
    """Microseconds of this process's CPU per request; ``request_s`` is what one takes a busy server."""
    for _ in range(WARM):
        await side.request(path, query)
    side.write_lines()
    begun = time.process_time()
    for _ in range(requests):
        await side.request(path, query)
    side.write_lines()
    took = time.process_time() - begun
    side.pass_s((WARM + requests) * request_s)
    return took / requests * 1e6


async def settle(side: Side, path: str, query: bytes, request_s: float) -> None:
    """Let the budgets find their masks, as they do in the first seconds under load."""
    for _ in range(12):
        for _ in range(10):
            for _ in range(max(1, int(0.1 / request_s))):
                await side.request(path, query)
            side.write_lines()
            side.pass_s(0.1)
    side.passed_s = side.beside_s = 0.0


# ── with one ──────────────────────────────────────────────────────────────────────────────────────


class Server:
    """One `tenfold run`, and the CPU time it has taken."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port

    def cpu_s(self) -> float:
        """Of all threads, from the scheduler."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@contextmanager
def serving(port: int, env: dict[str, str], folder: Path) -> Iterator[Server]:
    run = f"{sys.executable} -m tenfold run tenfold_telemetry:app --port {port} --ops-port 0 --no-worker --no-reload"
    command = [*shlex.split(run), "--data", str(folder / "served")]
    with (folder / "served.log").open("wb") as out:
        process = subprocess.Popen(
            command, cwd=HERE / "http", env={**os.environ, **env}, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            yield Server(process, port)
        finally:
            process.terminate()
            process.wait(20)


async def ready(server: Server) -> None:
    for _ in range(600):
        if server.process.poll() is not None:
            raise Failed(f"the server ended with {server.process.returncode}")
        try:
            await load(server.port, "/items/1", CONNECTIONS)
            return
        except OSError:
            await asyncio.sleep(0.1)
    raise Failed("the server did not get ready")


async def load(port: int, path: str, requests: int) -> None:
    """So many requests over some connections, each with one request at a time."""
    head = f"GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n".encode()

    async def some(count: int) -> None:
        reader, out = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count):
            out.write(head)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        out.close()

    await asyncio.gather(*(some(requests // CONNECTIONS) for _ in range(CONNECTIONS)))


async def served(server: Server, path: str, requests: int) -> float:
    """Microseconds of the server's CPU per request."""
    await load(server.port, path, 200)
    before = server.cpu_s()
    await load(server.port, path, requests)
    return (server.cpu_s() - before) / requests * 1e6


# ── rounds ────────────────────────────────────────────────────────────────────────────────────────


def measure(only: list[str], rounds: int, progress: Progress) -> Rows:
    """One row per round and measure; ``only``: of log, traces and store, by default all of them."""
    return asyncio.run(_measured(on_of(only or list(PARTS)), max(rounds, ROUNDS), progress))


async def _measured(on: dict[str, str], rounds: int, progress: Progress) -> Rows:
    # Their time is passed by hand.
    writer.TURN_S = store_part.TICK_S = access.GATHER_S = 1e6  # type: ignore[misc]
    with environment.postgres() as dsn:
        embedded = await _of_database({}, on, rounds, progress)
        return embedded + await _of_database({"TENFOLD_DATABASE_URL": dsn}, on, rounds, progress)


async def _of_database(database: dict[str, str], on: dict[str, str], rounds: int, progress: Progress) -> Rows:
    rows: Rows = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        out = stack.enter_context(open(os.devnull, "w"))  # noqa: ASYNC230
        server = stack.enter_context(serving(free_port(), OFF | database, folder))
        await ready(server)
        sides = [Side(env | database, folder / name, out) for name, env in (("off", OFF), ("on", on))]
        for side in sides:
            await side.app.start()
        for what, measure in MEASURES.items():
            if measure.server == bool(database):
                rows += await _alternating(what, server, sides, rounds, progress)
        for side in sides:
            await side.app.stop()
    return rows


async def _alternating(what: str, server: Server, sides: list[Side], rounds: int, progress: Progress) -> Rows:
    path, query, _, requests, _ = MEASURES[what]
    address = f"{path}?{query.decode()}"
    await load(server.port, address, 4_000)
    whole = await served(server, address, 4_000)
    await settle(sides[1], path, query, whole / 1e6)
    rows: Rows = []
    for number in range(rounds):
        progress(number, rounds, what)
        took = [0.0, 0.0]
        for turn in range(TURNS):
            for which in (0, 1) if turn % 2 else (1, 0):
                took[which] += await chunk(sides[which], path, query, requests // TURNS, whole / 1e6)
        off, on = (each / TURNS for each in took)
        row = {"round": number, "what": what, "off_us": off, "on_us": on, "requests": requests}
        rows.append({**row, "served_us": await served(server, address, 1_000)})
    beside = sides[1].beside_s / max(sides[1].passed_s, 1e-9)
    return [{**row, "beside": beside} for row in rows]


def table(rows: Rows) -> Table:
    """What is added to a request, and what share of throughput that is."""
    head = ["", "", "at most", "adds", "middle half", "µs of a request", "beside it", "N"]
    found = [(what, [row for row in rows if row["what"] == what]) for what in MEASURES]
    return head, [_cells(what, some) for what, some in found if some]


def _cells(what: str, rows: Rows) -> list[str]:
    most, beside = MEASURES[what].most, rows[0]["beside"]
    whole = median(r["served_us"] for r in rows)
    shares = [(r["on_us"] - r["off_us"]) / r["served_us"] + beside for r in rows]
    low, adds, high = quantiles(shares, n=4, method="inclusive")
    return [
        "✓" if high <= most else "✗" if low > most else "?", what, f"{most:.0%}", f"{adds:.1%}", f"{low:.1%} … {high:.1%}",
        f"{median(r['on_us'] - r['off_us'] for r in rows):.1f} of {whole:.1f}", f"{beside:.1%}",
        f"{len(rows)} × {rows[0]['requests']}",
    ]  # fmt: skip
