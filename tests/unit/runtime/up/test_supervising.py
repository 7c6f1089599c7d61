"""The parts of the supervisor that touch the world: processes, their output, the state file, the socket."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tenfold.app import App
from tenfold.errors import ConfigError
from tenfold.runtime.up import output
from tenfold.runtime.up.answers import is_ready
from tenfold.runtime.up.control import Request, Row, Said, Server, ask
from tenfold.runtime.up.fleet import Fleet, Group
from tenfold.runtime.up.instance import Instance
from tenfold.runtime.up.launch import Launch, free, free_port
from tenfold.runtime.up.output import Output, Prefixed
from tenfold.runtime.up.process import Process
from tenfold.runtime.up.roles import NICER, Role
from tenfold.runtime.up.state import State, Taken


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


# ── processes ──


def start(tmp_path: Path, code: str) -> Process:
    return Process.start([sys.executable, "-c", code], "web.1", tmp_path / "log", {"GREETING": "hello"})


def test_a_process_knows_its_name_and_its_end_is_told_with_its_status(tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['TENFOLD_INSTANCE'], os.environ['GREETING']); sys.exit(3)"
    process = start(tmp_path, code)
    wait_until(process.ended)
    assert process.ended() == "exit status 3"
    assert (tmp_path / "log").read_text() == "web.1 hello\n"


def test_who_runs_jobs_is_nicer_than_who_answers_requests(tmp_path: Path) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    roles: list[tuple[Role, int]] = [("web", own), ("worker", min(19, own + 5))]
    for role, expected in roles:
        process = Process.start(["sleep", "60"], f"{role}.1", tmp_path / "log", {}, nicer=NICER.get(role, 0))
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == expected
        process.kill()


def test_what_an_instance_had_started_ends_with_it(tmp_path: Path) -> None:
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True); sys.stdin.read(); sys.exit(1)"
    process = start(tmp_path, code)
    wait_until(process.ended)
    child = int((tmp_path / "log").read_text())
    wait_until(
        lambda: not Path(f"/proc/{child}").exists() or " Z " in Path(f"/proc/{child}/stat").read_text()
    )


def test_a_process_is_adopted_by_its_id_and_creation(tmp_path: Path) -> None:
    process = start(tmp_path, "import time; time.sleep(60)")
    instance = Instance(name="web.1", role="web", pid=process.pid, created_at=process.created_at)
    adopted = Process.adopt(instance)
    assert adopted is not None
    assert not adopted.ended()
    wait_until(lambda: adopted.usage()[0] > 1 << 20)
    instance.created_at -= 5
    assert Process.adopt(instance) is None, "another process that was given the same number"
    process.kill()
    wait_until(process.ended)
    assert process.ended() == "SIGKILL"
    assert adopted.ended()


def test_memory_is_counted_with_that_of_what_was_started(tmp_path: Path) -> None:
    large = "held = bytearray(64 << 20); print('here', flush=True); import time; time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {large!r}])"
    process = start(tmp_path, code)
    wait_until(lambda: "here" in (tmp_path / "log").read_text())
    assert process.usage()[0] > 64 << 20
    process.kill()
    wait_until(process.ended)


# ── output ──


def test_lines_are_shown_whole_and_the_last_ones_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("of an earlier supervisor\n")
    out = Output(path)
    with path.open("a") as file:
        print("one", "two", sep="\n", file=file)
        file.write("half")
        file.flush()
        assert out.lines() == ["one", "two"]
        file.write(" a line\nno end")
    assert out.lines() == ["half a line"]
    assert out.lines(end=True) == ["no end"]
    assert list(out.last) == ["one", "two", "half a line", "no end"]


def test_a_file_that_was_shown_is_emptied_when_it_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "LOG_MAX", 100)
    path = tmp_path / "log"
    out = Output(path)
    with path.open("ab", buffering=0) as file:
        file.write(b"x" * 200 + b"\n")
        assert len(out.lines()) == 1
        assert path.stat().st_size == 0
        file.write(b"later\n")
        assert out.lines() == ["later"]


def test_lines_have_the_name_in_front_and_json_stays_json() -> None:
    written: list[str] = []
    plain, coloured = Prefixed(written.append, colours=False), Prefixed(written.append, colours=True)
    plain.show("web.1", ["Traceback", "", '{"event":"request"}'])
    coloured.show("worker.1", ["one"])
    assert written == [
        'web.1 | Traceback\n{"instance":"web.1","event":"request"}\n',
        "\x1b[36mworker.1 |\x1b[0m one\n",
    ]


# ── state ──


def test_one_supervisor_has_a_fleet_and_the_next_finds_its_state(tmp_path: Path) -> None:
    state = State(tmp_path)
    lock = state.lock()
    with pytest.raises(Taken, match="tenfold ps"):
        State(tmp_path).lock()
    fleet = Fleet({"web": Group(role="web")}, {"web.1": Instance(name="web.1", role="web", pid=7)})
    state.save(fleet)
    os.close(lock)
    os.close(State(tmp_path).lock())
    assert State(tmp_path).load() == fleet
    assert state.folder.stat().st_mode & 0o777 == 0o700


def test_a_damaged_state_is_refused_since_it_may_name_processes(tmp_path: Path) -> None:
    state = State(tmp_path)
    os.close(state.lock())
    state.file.write_text("{")
    with pytest.raises(ConfigError, match="delete the file"):
        state.load()


# ── launching ──


def test_the_command_line_of_an_instance(tmp_path: Path) -> None:
    launch = Launch("shop.app:app", tmp_path, rest=("users",), works_beside=True)
    web = launch.command(Instance(name="web.1", role="web", port=81, ops_port=82))
    assert web[1:4] == ["-m", "tenfold", "run"]
    assert " ".join(web).endswith(f"--data {tmp_path} --host 127.0.0.1 --port 81 --service users --worker")
    worker = launch.command(Instance(name="worker.1", role="worker", ops_port=83))
    assert "--worker" not in worker
    assert "--port" not in worker
    orders = launch.command(Instance(name="orders.1", role="web", service="orders", port=84, ops_port=85))
    assert orders[orders.index("--service") + 1] == "orders"


def test_without_a_balancer_a_port_in_use_is_said_in_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        launch = Launch("a:b", tmp_path, port=port)
        with pytest.raises(ConfigError, match=rf"port {port} .* taken by another process, and web\.1"):
            launch.instance(Group(role="web"), "web.1", set(), 0.0)
        found = launch.instance(Group(role="web", balanced=True), "web.1", set(), 0.0)
        assert found.port not in {port, 0, found.ops_port}
    assert free(port)
    assert free_port({port}) != port


# ── the socket ──


async def answer(request: Request) -> AsyncIterator[Said]:
    if request.command == "down":
        raise ConfigError("it is not told.", where="down")
    yield Said("one moment")
    yield Said(done=True, rows=[Row(Instance(name="web.1", role="web"), 3.0)])


async def test_a_command_hears_sentences_until_it_is_done(tmp_path: Path) -> None:
    server = Server(tmp_path / "up.sock", answer)
    await server.start()
    try:
        assert (tmp_path / "up.sock").stat().st_mode & 0o777 == 0o600
        said = await asyncio.to_thread(lambda: list(ask(tmp_path / "up.sock", Request("ps"))))
        assert [each.sentence for each in said] == ["one moment", ""]
        assert said[-1].rows[0].instance.name == "web.1"
        refused = await asyncio.to_thread(lambda: list(ask(tmp_path / "up.sock", Request("down"))))
        assert refused[-1].failed
        assert refused[-1].sentence == "down: it is not told."
    finally:
        await server.stop()
    with pytest.raises(ConfigError, match="tenfold up"):
        list(ask(tmp_path / "up.sock", Request("ps")))


async def test_nonsense_is_answered_and_not_obeyed(tmp_path: Path) -> None:
    server = Server(tmp_path / "up.sock", answer)
    await server.start()
    try:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "up.sock")
        writer.write(b'{"command":"reboot"}\n')
        assert b'"failed":true' in await reader.readline()
        writer.close()
    finally:
        await server.stop()


async def test_readiness_is_what_the_operations_listener_says() -> None:
    says = [b""]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(says[0])
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for says[0], ready in (
            (b"HTTP/1.1 200 OK\r\n\r\n", True),
            (b"HTTP/1.1 503 No\r\n\r\n", False),
            (b"SSH-2\r\n", None),
        ):
            assert await is_ready(port) is ready
    assert await is_ready(free_port(())) is None


async def test_the_operations_listener_of_an_app_that_has_ended_says_so() -> None:
    sent: list[dict[str, object]] = []

    async def send(message: object) -> None:
        sent.append(dict(message))  # type: ignore[call-overload]

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": "/health/ready"}
    await App("ended", []).ops(scope, receive, send)
    assert sent[0]["status"] == 503
