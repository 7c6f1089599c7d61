"""A contender as a running process on CPU 0, and wrk on CPU 1 against it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from contenders import ORDER, POST, Contender, Measure

HERE = Path(__file__).parent
SERVER_CPU, LOAD_CPU = "0", "1"
CONNECTIONS = 32
START_S = 30.0
SETTLE_S = 0.2
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


class Failed(Exception):
    """A sentence about a contender that cannot be measured."""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class Server:
    """One contender, started. All of them stay up while one is under load; :meth:`freeze` keeps the others from taking
    their share of the CPU and its caches meanwhile, as timers of idle servers do."""

    def __init__(
        self, contender: Contender, folder: Path, bin_: Path, env: dict[str, str], out: Path
    ) -> None:
        self.contender = contender
        self.port = free_port()
        self._data = tempfile.TemporaryDirectory(prefix="tenfold-bench-")
        self._log = out / f"{re.sub('[^a-z0-9]+', '-', contender.name.lower())}.log"
        if contender.whose == "tenfold":
            known = {"dsn": env.get("BENCH_DSN", ""), "redis": env.get("BENCH_REDIS", "")}
            env = {name: value.format(**known) for name, value in contender.env.items()}
            env = {**env, "TENFOLD_APP_DATA_DIR": self._data.name, "TENFOLD_AUTH_ACCESS_TTL_S": "86400"}
        # Of ours this checkout is measured, whichever one its virtual environment was made for.
        ours = [str(HERE.parent / "src")] if contender.whose == "tenfold" else []
        program, *arguments = contender.command.format(port=self.port).split()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["taskset", "-c", SERVER_CPU, str(bin_ / program), *arguments],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([".", *ours]), **contender.env, **env},
                stdout=subprocess.DEVNULL if contender.token else log,  # its access log would fill the disk
                stderr=log,
                start_new_session=True,
            )
        self.token = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> None:
        """Until it answers. Raises Failed."""
        end = time.monotonic() + START_S
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.fetch("/json")
                if self.contender.token:
                    self.token = "Bearer " + json.loads(self.fetch("/token", b"")[1])["token"]
                return
            time.sleep(0.1)
        raise Failed(f"{self.contender.name} did not start: see {self._log}")

    def fetch(self, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"authorization": self.token} if self.token else {}
        if body:
            headers["content-type"] = "application/json"
        try:
            connection.request("GET" if body is None else "POST", path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def check(self, measure: Measure) -> None:
        """Raises Failed when the answer is not the right one."""
        sent = {"post": POST, "order": ORDER}.get(measure.shape)
        status, body = self.fetch(measure.probe or measure.path, sent)
        if status != 200 or not measure.right(json.loads(body)):
            raise Failed(f"{self.contender.name} answers {measure.path} wrongly: HTTP {status} {body[:80]!r}")

    def load(self, measure: Measure, seconds: float) -> dict[str, Any]:
        """One burst: requests a second, latencies in ms, and CPU µs per request of server and children."""
        self._wrk(measure, 0.4)
        cpu = self._cpu_s()
        row = self._wrk(measure, seconds)
        row["cpu_us"] = (self._cpu_s() - cpu) / max(row["n"], 1) * 1e6
        return row

    def freeze(self) -> None:
        """Stop for the time being, with all children."""
        self._signal(signal.SIGSTOP)

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Inside the block it runs, after a moment for what has become due meanwhile."""
        self._signal(signal.SIGCONT)
        time.sleep(SETTLE_S)
        try:
            yield
        finally:
            self.freeze()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)  # it began a session of its own

    def _wrk(self, measure: Measure, seconds: float) -> dict[str, Any]:
        # wrk takes whole seconds only; a shorter run is ended by the signal that it prints its results on
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d60s", "--latency", "-s", str(HERE / "load.lua")]
        wrk = subprocess.Popen(
            ["taskset", "-c", LOAD_CPU, *command, f"http://127.0.0.1:{self.port}{measure.path}"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "SHAPE": measure.shape, **({"TOKEN": self.token} if self.token else {})},
        )
        time.sleep(seconds)
        wrk.send_signal(signal.SIGINT)
        return parsed(wrk.communicate()[0])

    def _cpu_s(self) -> float:
        total = 0.0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def _tree(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._process.pid)
            return [root, *root.children(recursive=True)]
        return []

    def stop(self) -> None:
        processes = self._tree()
        self._signal(signal.SIGCONT)
        self._process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=5)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        self._data.cleanup()


def answers(port: int, path: str, *, within_s: float = 5.0) -> None:
    """Raises Failed when nobody answers 200 there in time."""
    end = time.monotonic() + within_s
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=within_s)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        if time.monotonic() > end:
            raise Failed(f"nobody answers http://127.0.0.1:{port}{path} with 200")
        time.sleep(0.1)


def parsed(out: str) -> dict[str, Any]:
    found = {
        key: float(value) * _UNITS[unit]
        for key, value, unit in re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)", out, re.MULTILINE)
    }
    done = re.search(r"(\d+) requests in", out)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    if done is None or rate is None:
        raise Failed(f"wrk said: {out[-200:]}")
    if bad := re.search(r"Non-2xx or 3xx responses: (\d+)", out):
        raise Failed(f"{bad[1]} answers were no 2xx")
    return {"rps": float(rate[1]), "n": int(done[1]), "p50_ms": found.get("50"), "p99_ms": found.get("99")}
