"""A real process: ready only when it is, drained before it ends, gone at once when told twice."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals
from typing import Any

import httpx2
import pytest

from support.process import Process, ProcessFailed

APP = """
import asyncio, os
import sqlalchemy as sa
from tenfold import App, Service, public

slow = Service("slow", auth=public)
db = slow.database(sa.MetaData())

@slow.on_start
async def wait_for_go() -> None:
    print("starting", flush=True)
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)

@slow.get("/quick")
async def quick() -> str:
    return "quick"

@slow.get("/slow")
async def answer_slowly() -> str:
    print("in flight", flush=True)
    while not os.path.exists("answer"):
        await asyncio.sleep(0.01)
    return "slow"

@slow.job(timeout=None)
async def endless() -> None:
    print("job running", flush=True)
    await asyncio.Event().wait()

@slow.post("/endless")
async def begin() -> None:
    async with db.tx() as tx:
        await endless.enqueue(tx)

app = App("slow", [slow])
"""


class Server:
    """One process in a folder of its own; it starts up when it finds the file ``go`` there."""

    def __init__(self, folder: Path, *words: str, port: int = 0, ops_port: int = 0, **settings: str) -> None:
        self.folder = folder
        (folder / "served.py").write_text(APP)
        (folder / "go").touch()
        self.port, self.ops_port = port or free_port(), ops_port or free_port()
        self.url, self.ops = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.ops_port}"
        ports = ["--port", str(self.port), "--ops-port", str(self.ops_port)]
        env = {f"TENFOLD_{name}": value for name, value in settings.items()}
        self.process = Process(
            [sys.executable, "-m", "tenfold", "run", "served:app", *ports, *words],
            cwd=folder,
            env={"PYTHONPATH": _path(folder), **env},
        )

    def touch(self, name: str) -> None:
        (self.folder / name).touch()

    def ready(self) -> Server:
        self.process.wait_for("Ready after")
        return self

    def background(self, path: str) -> Callable[[], httpx2.Response]:
        """Send a request; what is returned waits for its answer."""
        answers: list[httpx2.Response] = []

        def ask() -> None:
            with contextlib.suppress(httpx2.HTTPError):  # a process that is cut off answers nothing
                answers.append(httpx2.get(self.url + path, timeout=30))

        thread = threading.Thread(target=ask)
        thread.start()

        def answer() -> httpx2.Response:
            thread.join(30)
            return answers[0]

        return answer

    def refused(self, port: int) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                return False
        except ConnectionResetError:  # it was in the queue of a listener that closed: ask once more
            return False
        except ConnectionRefusedError:
            return True

    def wait_until_refused(self) -> None:
        waiting = threading.Event()
        for _ in range(500):
            if self.refused(self.port):
                return
            waiting.wait(0.01)
        raise AssertionError(f"port {self.port} still accepts connections: {self.process.output}")


def _path(folder: Path) -> str:
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def serve(tmp_path: Path) -> Generator[Callable[..., Server]]:
    made: list[Server] = []

    def start(*words: str, **options: Any) -> Server:
        made.append(Server(tmp_path, *words, **options))
        return made[-1]

    yield start
    for server in made:
        server.process.kill()


servers = pytest.mark.parametrize("server", ["uvicorn", "granian"])


@servers
def test_nothing_answers_before_the_app_has_started(
    serve: Callable[..., Server], tmp_path: Path, server: str
) -> None:
    running = serve("--server", server)
    (tmp_path / "go").unlink()
    running.process.wait_for("starting")
    assert running.refused(running.ops_port) or httpx2.get(f"{running.ops}/health/ready").status_code == 503
    running.touch("go")
    running.ready()
    assert httpx2.get(f"{running.ops}/health/ready").status_code == 200
    assert httpx2.get(f"{running.url}/quick").json() == "quick"
    assert running.process.stop() == 0


@servers
@pytest.mark.parametrize("signal", [SIGTERM, SIGINT])
def test_a_signal_drains_what_is_in_flight_and_refuses_what_is_new(
    serve: Callable[..., Server], server: str, signal: Signals
) -> None:
    running = serve("--server", server).ready()
    answer = running.background("/slow")
    running.process.wait_for("in flight")
    running.process.send(signal)
    running.wait_until_refused()
    assert httpx2.get(f"{running.ops}/health/ready").status_code == 503
    assert httpx2.get(f"{running.ops}/health/live").status_code == 200
    assert running.process.status is None
    running.touch("answer")
    assert (answer().status_code, answer().json()) == (200, "slow")
    assert running.process.wait() == 0


def test_a_second_signal_leaves_at_once(serve: Callable[..., Server]) -> None:
    running = serve().ready()
    running.background("/slow")
    running.process.wait_for("in flight")
    running.process.send(SIGTERM)
    running.wait_until_refused()
    running.process.send(SIGTERM)
    assert running.process.wait(5) == 128 + SIGTERM
    assert "second signal: leaving at once" in running.process.output


HANGING = {
    "awaits": "await asyncio.sleep(3600)",
    "blocks": "time.sleep(3600)",
    "has a thread": "await asyncio.to_thread(time.sleep, 3600)",
}
HANGS = """
import asyncio, time
from tenfold import App, Service

hanging = Service("hanging")

@hanging.on_start
async def hang() -> None:
    print("starting", flush=True)
    {how}

app = App("hanging", [hanging])
"""


@pytest.mark.parametrize("how", HANGING)
def test_a_start_that_hangs_ends_with_a_signal_and_says_where(how: str, tmp_path: Path) -> None:
    (tmp_path / "hung.py").write_text(HANGS.format(how=HANGING[how]))
    run = [sys.executable, "-m", "tenfold", "run", "hung:app", "--port", "0", "--ops-port", "0"]
    env = {"PYTHONPATH": _path(tmp_path), "TENFOLD_APP_STOP_TIMEOUT_S": "1"}
    with Process(run, ready="starting", cwd=tmp_path, env=env, timeout_s=60) as process:
        process.send(SIGTERM)
        status = process.wait(60)
        said = process.output
    assert "told to end before it was ready: the start is called off" in said
    assert "Traceback" not in said
    if how == "blocks":
        assert (status, "hung.py: leaving at once" in said) == (128 + SIGTERM, True)
    else:
        assert status == (0 if how == "awaits" else 128 + SIGTERM)
        assert "hooks of hanging had not started" in said


@servers
def test_what_does_not_end_in_time_is_cut_off(serve: Callable[..., Server], server: str) -> None:
    running = serve("--server", server, APP_STOP_TIMEOUT_S="1").ready()
    running.background("/slow")
    running.process.wait_for("in flight")
    running.process.send(SIGTERM)
    assert running.process.wait(10) == 0


def test_unfinished_jobs_are_handed_back(serve: Callable[..., Server], tmp_path: Path) -> None:
    running = serve(APP_STOP_TIMEOUT_S="1").ready()
    assert httpx2.post(f"{running.url}/endless").status_code == 204
    running.process.wait_for("job running")
    assert running.process.stop() == 0
    with sqlite3.connect(tmp_path / "data" / "app.db") as db:
        rows = db.execute("select state, failures, crashes, lease_until from tenfold_message").fetchall()
    assert rows == [("ready", 0, 0, None)]
    again = serve().ready()
    again.process.wait_for("job running")


def test_a_port_in_use_is_a_sentence_and_starts_nothing(serve: Callable[..., Server]) -> None:
    for where, option in (("http.port", "port"), ("ops.port", "ops_port")):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            running = serve(**{option: port})
            assert running.process.wait() != 0
            assert f"{where}: port {port} on 127.0.0.1 is taken by another process." in running.process.output
            assert "starting" not in running.process.output
            assert "Traceback" not in running.process.output


def test_an_app_that_cannot_start_ends_with_a_sentence(serve: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    running = serve()
    with pytest.raises(ProcessFailed):
        running.ready()
    assert running.process.wait() != 0
    assert "app.data_dir: the folder data cannot be made: File exists." in running.process.output


@servers
def test_the_operations_listener_shows_health_and_numbers(serve: Callable[..., Server], server: str) -> None:
    running = serve("--server", server).ready()
    assert httpx2.get(f"{running.url}/quick").status_code == 200
    numbers = httpx2.get(f"{running.ops}/metrics").text
    assert (
        'tenfold_http_requests_total{method="GET",operation="slow.quick",route="/quick",status="2xx"} 1'
        in numbers
    )
    assert "tenfold_worker" in numbers
    assert httpx2.get(f"{running.url}/metrics").status_code == 404
    assert running.process.stop() == 0
