"""Queues: enqueue one by one and in bulk, drain, and the time from enqueue to start; ours beside the peers'.

A round takes every contender once. The client runs on CPU 1, the worker on CPU 0, PostgreSQL and Redis where they
like. A job appends 16 bytes to a file: when it was sent, and when it began.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import environment
import psutil
from servers import LOAD_CPU, SERVER_CPU, Failed

TITLE = "Queues"
ABOUT = """One worker process on CPU 0, the client on CPU 1, PostgreSQL (fsync off) and Redis where they like; the rounds are
interleaved. A job appends 16 bytes to a file. Enqueued one by one: one transaction each, one after another, from one
task; in bulk: 1,000 per call. Drained: 20,000 jobs that wait, from the first start to the last. Start: at 200 jobs a
second, from the call that enqueues to the first line of the job, in another process. Peers as their documentation
suggests for short jobs, each on a store of its kind; ✓ and ✗ where every round lies on one side of the best peer on
PostgreSQL.
"""

OURS = Path(__file__).parent / "jobs"
RATE, LATENCY_S = 200, 5
ONE_CAP_S, BULK = 5, 20_000
MEASURES = {"one": "enqueued one by one /s", "bulk": "enqueued in bulk /s", "drain": "drained /s",
            "p50": "start, p50 ms", "p99": "start, p99 ms"}  # fmt: skip
LOWER_IS_BETTER = frozenset({"p50", "p99"})


@dataclass(frozen=True)
class Contender:
    """``module`` has the client's functions; ``worker`` is the command of one worker process."""

    name: str
    module: str
    worker: str
    store: str = "PostgreSQL"
    setup: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        return self.name == "Tenfold"

    @property
    def folder(self) -> Path:
        return OURS if self.ours else environment.SHARED / "jobs"

    @property
    def bin(self) -> Path:
        return Path(sys.executable).parent if self.ours else environment.peers_bin()


CONTENDERS = [
    Contender("Tenfold", "tenfold_pg", "tenfold worker tenfold_pg:app", setup=("tenfold migrate tenfold_pg:app",)),
    Contender("pgqueuer, batch 100", "pgqueuer_pg", "python pgqueuer_pg.py"),
    Contender(
        "procrastinate, 10", "procrastinate_pg",
        "procrastinate --log-level warning --app procrastinate_pg.app worker --concurrency 10",
    ),
    Contender("chancy, 100", "chancy_pg", "python chancy_pg.py", setup=("python chancy_pg.py setup",)),
    Contender("DBOS queue", "dbos_pg", "python dbos_pg.py"),
    Contender("huey, 4 threads", "huey_redis", "huey_consumer huey_redis.huey -k thread -w 4 -q", "Redis"),
    Contender("SAQ, 10", "saq_redis", "saq saq_redis.settings --quiet", "Redis"),
    Contender(
        "Taskiq stream, 100", "taskiq_redis_stream",
        "taskiq worker --workers 1 --log-level ERROR taskiq_redis_stream:broker", "Redis",
    ),
]  # fmt: skip


class Field:
    """The servers and the file of records that all contenders of a run share."""

    def __init__(self, dsn: str, redis: str, folder: Path) -> None:
        self.record = folder / "record.bin"
        shared = str(environment.SHARED / "jobs")
        self.env = {
            **os.environ, "BENCH_DSN": dsn, "BENCH_REDIS": redis, "BENCH_RECORD": str(self.record),
            # Of ours this checkout is measured, whichever one its virtual environment was made for.
            "PYTHONPATH": os.pathsep.join([".", shared, str(environment.ROOT / "src")]), "TENFOLD_APP_DATA_DIR": str(folder),
            "PGHOST": "127.0.0.1", "PGUSER": "bench", "PGDATABASE": "bench", "PGPORT": dsn.split(":")[-1].split("/")[0],
        }  # fmt: skip
        self._dsn, self._redis = dsn, redis

    def run(self, contender: Contender, command: str, cpu: str = LOAD_CPU) -> str:
        """A command of the contender's environment, to its end."""
        done = subprocess.run(
            self._command(contender, command, cpu), cwd=contender.folder, env=self._env(contender),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Failed(f"{contender.name}: {command}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def client(self, contender: Contender, mode: str, n: int, cap: float) -> dict[str, Any]:
        client = environment.SHARED / "jobs" / "client.py"
        found = self.run(contender, f"python {client} {contender.module} {mode} {n} {cap}")
        answer: dict[str, Any] = json.loads(found.splitlines()[-1])
        return answer

    @contextmanager
    def worker(self, contender: Contender) -> Iterator[psutil.Process]:
        process = subprocess.Popen(
            self._command(contender, contender.worker, SERVER_CPU), cwd=contender.folder, env=self._env(contender),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        root = psutil.Process(process.pid)
        try:
            yield root
        finally:
            for child in [*root.children(recursive=True), root]:
                child.kill()
            process.wait()

    def purge(self, contender: Contender, *, new: bool = False) -> None:
        """As the peers' own driver does: nothing is left of the round before. Some make their tables when they are first
        used, so of a ``new`` one there may be nothing to purge. Raises Failed."""
        subprocess.run(["redis-cli", "-u", self._redis, "flushall"], check=True, stdout=subprocess.DEVNULL)
        for line in (contender.folder / f"{contender.module}.py").read_text().splitlines():
            if line.startswith("PURGE = "):
                sql = line.partition("=")[2].strip().strip('"')
                done = subprocess.run(["psql", "-q", self._dsn, "-c", sql], capture_output=True, check=False)
                if done.returncode and not new:
                    raise Failed(f"{contender.name} could not be purged: {done.stderr.decode().strip()}")
        self.record.write_bytes(b"")

    def records(self, n: int, seconds: float) -> list[tuple[float, float]]:
        """``(latency, started at)`` of what has begun, when there are ``n`` of them or the time is over."""
        end = time.monotonic() + seconds
        while self.record.stat().st_size < n * 16 and time.monotonic() < end:
            time.sleep(0.02)
        return list(struct.iter_unpack("dd", self.record.read_bytes()))

    def _command(self, contender: Contender, command: str, cpu: str) -> list[str]:
        program, *arguments = command.split()
        return ["taskset", "-c", cpu, str(contender.bin / program), *arguments]

    def _env(self, contender: Contender) -> dict[str, str]:
        return {**self.env, "PATH": f"{contender.bin}:{self.env['PATH']}"}


def measure(only: list[str], rounds: int, progress: Any) -> list[dict[str, Any]]:
    """One row per round and contender. A contender that fails is named and left out of that round."""
    chosen = [c for c in CONTENDERS if not only or any(part.lower() in c.name.lower() for part in only)]
    if not environment.SHARED.exists():
        raise Failed("the client of this part lies beside the peers' programs (BENCH_SHARED).")
    if shutil.which("redis-cli") is None or shutil.which("psql") is None:
        raise Failed(
            "the rounds are purged with redis-cli and psql: apt-get install redis-tools postgresql-client"
        )
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tenfold-jobs-")))
        folder.chmod(0o755)
        field = Field(
            stack.enter_context(environment.postgres()), stack.enter_context(environment.redis()), folder
        )
        for contender in chosen:
            for command in contender.setup:
                field.run(contender, command)
        for number in range(rounds):
            for at, contender in enumerate(chosen):
                progress(number * len(chosen) + at, rounds * len(chosen), contender.name)
                try:
                    rows.append(
                        {
                            "round": number,
                            "who": contender.name,
                            "store": contender.store,
                            **_round(field, contender, new=number == 0),
                        }
                    )
                except Failed as error:
                    print(error, file=sys.stderr)
    return rows


def _round(field: Field, contender: Contender, *, new: bool) -> dict[str, float]:
    field.purge(contender, new=new)
    one = field.client(contender, "one", 5_000, ONE_CAP_S)
    field.purge(contender)
    bulk = field.client(contender, "bulk", BULK, ONE_CAP_S * 2)
    drained = _drained(field, contender, bulk["n"] + 1)
    field.purge(contender)
    late = _started(field, contender)
    return {"one": one["n"] / one["seconds"], "bulk": bulk["n"] / bulk["seconds"], **drained, **late}


def _drained(field: Field, contender: Contender, queued: int) -> dict[str, float]:
    """From the first start to the last, 10 s of it at most; and the worker's CPU time per job."""
    with field.worker(contender) as worker:
        field.records(1, 20)
        times = sorted(at for _, at in field.records(queued, 10))
        cpu_s = sum(sum(p.cpu_times()[:2]) for p in [worker, *worker.children(recursive=True)])
    if len(times) < 2:
        raise Failed(f"{contender.name}: nothing was drained")
    return {"drain": (len(times) - 1) / (times[-1] - times[0]), "cpu_us": cpu_s / len(times) * 1e6}


def _started(field: Field, contender: Contender) -> dict[str, float]:
    """Latency at a steady rate, one enqueue at a time; the first 50 are dropped."""
    with field.worker(contender):
        field.client(contender, "one", 20, 20)
        field.records(20, 20)
        time.sleep(1)
        before = len(field.records(0, 0))
        field.client(contender, "rate", RATE * LATENCY_S, RATE)
        found = field.records(before + RATE * LATENCY_S, 5)[before + 50 :]
    if not found:
        raise Failed(f"{contender.name}: nothing was started")
    late = sorted(latency * 1e3 for latency, _ in found)
    return {"p50": median(late), "p99": late[int(len(late) * 0.99)]}


TARGETS = {"one": 4_000, "bulk": 80_000, "drain": 20_000, "p50": 1.5, "p99": 3.0}
"""On the machine of the peers' own tables; a slower one is judged by the ratios beside them."""


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Medians of the rounds; the last column is the worker's CPU time per job while it drains."""
    lines = []
    for who in dict.fromkeys(row["who"] for row in rows):
        own = [row for row in rows if row["who"] == who]
        cells = [_figure(median(row[key] for row in own)) for key in (*MEASURES, "cpu_us")]
        lines.append([who, own[0]["store"], *cells, str(len(own))])
    return ["", "on", *MEASURES.values(), "worker's CPU µs per job", "N"], lines


def verdicts(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Ours over the best peer on the same database, per measure, formed within each round."""
    lines = []
    for key, name in MEASURES.items():
        ratios = _ratios(rows, key)
        if not ratios:
            continue
        low, high = ratios[0], ratios[-1]
        mark = "✓" if low > 1 else "✗" if high <= 1 else "?"
        ours = median(row[key] for row in rows if row["who"] == "Tenfold")
        goal = f"{'at most' if key in LOWER_IS_BETTER else 'at least'} {TARGETS[key]:,}"
        lines.append(
            [
                mark,
                name,
                _figure(ours),
                goal,
                f"{median(ratios):.2f}",
                f"{low:.2f} … {high:.2f}",
                str(len(ratios)),
            ]
        )
    return ["", "", "ours", "target", "times as good as the best peer", "rounds", "N"], lines


def _ratios(rows: list[dict[str, Any]], key: str) -> list[float]:
    found = []
    for number in {row["round"] for row in rows}:
        values = {
            row["who"]: row[key] for row in rows if row["round"] == number and row["store"] == "PostgreSQL"
        }
        ours = values.pop("Tenfold", None)
        if ours and values:
            found.append(
                min(values.values()) / ours if key in LOWER_IS_BETTER else ours / max(values.values())
            )
    return sorted(found)


def _figure(x: float) -> str:
    return f"{x:,.0f}" if x >= 100 else f"{x:.2f}"
