"""The command line as people use it: real processes, real ports, real signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.process import Process

APP = """
from __future__ import annotations
import asyncio
import sqlalchemy as sa
from tenfold import App, Service, Tx, injected, public

hello = Service("hello", auth=public)
metadata = sa.MetaData()
table = sa.Table("words", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("word", sa.String(20)))
db = hello.database(metadata)


@hello.get("/word")
async def word() -> str:
    return "first"


@hello.get("/slow")
async def slow() -> str:
    print("slow began", flush=True)
    await asyncio.sleep(1)
    return "done"


@hello.post("/fail", status=202)
async def ask(tx: Tx) -> None:
    await fails.enqueue(tx, 7)


@hello.job()
async def fails(number: int, tx: Tx = injected()) -> None:
    raise ValueError("no such luck")


app = App("greeter", [hello])
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a small app in ``greeter/app.py``."""
    package = tmp_path / "greeter"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "app.py").write_text(APP)
    return tmp_path


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TENFOLD_")}
    return {**kept, "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def tenfold(folder: Path, *words: str, status: int = 0, stdin: str = "") -> str:
    """Run a command to its end; what it wrote, errors included."""
    done = subprocess.run(  # noqa: PLW1510 - the status is asserted below
        [sys.executable, "-m", "tenfold", *words],
        cwd=folder,
        env=environment(),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.fixture
def serving(project: Path) -> Iterator[Process]:
    """The app of ``project``, served on free ports and reloading."""
    command = [sys.executable, "-m", "tenfold", "run", "--port", "0", "--ops-port", "0", "--reload"]
    with Process(command, cwd=project, env={"NO_COLOR": "1"}, ready=r"Ready after") as process:
        yield process


def address(process: Process, name: str = "API") -> str:
    """The last address that a banner gave."""
    lines = [line.split() for line in process.output.splitlines()]
    return [words[1] for words in lines if words[:1] == [name]][-1]


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_the_banner_gives_addresses_that_answer(serving: Process) -> None:
    assert json.loads(get(f"{address(serving)}/word")) == "first"
    assert get(address(serving, "Docs")).lstrip().startswith("<!doctype html>")
    assert get(f"{address(serving, 'Operations')}/health/ready")
    assert "on, 1 job" in serving.output


def test_sigterm_answers_what_is_in_flight_and_ends_with_zero(serving: Process) -> None:
    with socket.create_connection(("127.0.0.1", int(address(serving).rpartition(":")[2]))) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        serving.wait_for("slow began")
        serving.send(signal.SIGTERM)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert b"200" in answer.split(b"\r\n")[0]
    assert answer.endswith(b'"done"')
    assert serving.wait() == 0


def test_a_change_is_picked_up_by_the_same_process(project: Path, serving: Process) -> None:
    file, pid = project / "greeter" / "app.py", serving.pid

    file.write_text(APP.replace('"first"', '"second"'))
    serving.wait_for(r"starting again[\s\S]*Ready after")

    assert json.loads(get(f"{address(serving)}/word")) == "second"
    assert serving.pid == pid
    assert serving.status is None


def test_code_that_does_not_import_is_shown_and_mended_without_a_restart(
    project: Path, serving: Process
) -> None:
    file = project / "greeter" / "app.py"

    file.write_text(f"{APP}\nbroken = nothing\n")
    serving.wait_for("Waiting for a change")
    assert "greeter/app.py:" in serving.output
    assert "NameError: name 'nothing' is not defined" in serving.output
    assert "Traceback" not in serving.output

    file.write_text(APP.replace('"first"', '"third"'))
    serving.wait_for(r"Waiting for a change[\s\S]*Ready after")
    assert json.loads(get(f"{address(serving)}/word")) == "third"


def test_a_port_in_use_is_said_in_a_sentence(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = tenfold(project, "run", "--port", port, "--ops-port", "0", status=2)
    assert said.splitlines()[-1] == (
        f"error: http.port: port {port} on 127.0.0.1 is taken by another process. Stop that process, or choose "
        "another port (0 takes any free one)."
    )


def test_a_wrong_setting_names_the_nearest_right_one(project: Path) -> None:
    (project / "tenfold.toml").write_text("[http]\nprot = 9000\n")
    said = tenfold(project, "run", status=2)
    assert said == ("error: tenfold.toml: http.prot: there is no such setting. Did you mean 'http.port'?\n")


def test_a_broken_import_shows_the_line_and_no_traceback(project: Path) -> None:
    (project / "greeter" / "app.py").write_text("from greeter import nothing_there\n")
    said = tenfold(project, "check", status=2)
    assert "greeter/app.py:1\n    from greeter import nothing_there\nImportError: cannot import name" in said
    assert "Traceback" not in said


def test_an_error_at_start_shows_the_users_line(project: Path) -> None:
    hook = '\n@hello.on_start\nasync def wake() -> None:\n    raise RuntimeError("not today")\n'
    (project / "greeter" / "app.py").write_text(APP + hook)
    said = tenfold(project, "run", "--port", "0", "--ops-port", "0", status=1)
    assert 'raise RuntimeError("not today")\nRuntimeError: not today' in said
    assert "Traceback" not in said


def test_a_worker_runs_what_the_server_enqueued(project: Path) -> None:
    served = [sys.executable, "-m", "tenfold", "run", "--port", "0", "--ops-port", "0", "--no-worker"]
    with Process(served, cwd=project, env={"NO_COLOR": "1"}, ready="Ready after") as server:
        assert "Worker      off" in server.output
        request = urllib.request.Request(f"{address(server)}/fail", method="POST")
        urllib.request.urlopen(request, timeout=10).close()
        worker = [sys.executable, "-m", "tenfold", "worker"]
        with Process(worker, cwd=project, env={"NO_COLOR": "1"}, ready="Ready after") as working:
            working.wait_for("no such luck")
            assert working.stop() == 0
        listed = tenfold(project, "jobs", "list", "--handler", "hello.fails")
        assert "ValueError: no such luck" in listed
        assert server.stop() == 0


def test_the_shell_runs_statements_and_awaits_inside_the_app(project: Path) -> None:
    lines = (
        'x = 20\nx + 1\nawait db.read().scalar(__import__("sqlalchemy").text("select 2 + 2"))\nhello\n1 / 0\n'
    )
    said = tenfold(project, "shell", stdin=lines)
    assert said.splitlines()[:3] == ["21", "4", "<Service hello>"]
    assert "ZeroDivisionError" in said


@pytest.mark.soak
def test_a_new_project_passes_its_tests_and_runs(tmp_path: Path) -> None:
    """In the ordinary run a guide does that, docs/guides/first-backend.md."""
    tenfold(tmp_path, "new", "my-notes")
    project = tmp_path / "my-notes"
    tests = subprocess.run(  # noqa: PLW1510 - the status is asserted below
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tenfold.pytest_plugin"],
        cwd=project,
        env={**environment(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # as where only pytest is installed
        capture_output=True,
        text=True,
    )
    assert tests.returncode == 0, tests.stdout
    assert "4 passed" in tests.stdout

    assert "Nothing is wrong" in tenfold(project, "check")
    assert "applied 3f1d0a6b52c7" in tenfold(project, "migrate")
    command = [sys.executable, "-m", "tenfold", "run", "--port", "0", "--ops-port", "0"]
    with Process(command, cwd=project, env={"NO_COLOR": "1"}, ready="Ready after") as process:
        assert json.loads(get(f"{address(process)}/notes")) == []
        assert process.stop() == 0


def test_a_new_project_needs_no_migration_of_its_own_tables(tmp_path: Path) -> None:
    """The script that the template carries makes what the template declares."""
    assert "cd fresh" in tenfold(tmp_path, "new", "fresh")
    assert (tmp_path / "fresh" / ".gitignore").exists()
    assert "is not an empty folder" in tenfold(tmp_path, "new", "fresh", status=2)
    tenfold(tmp_path / "fresh", "migrate")
    assert "Nothing changed" in tenfold(tmp_path / "fresh", "migrate", "--new", "nothing to do")


@pytest.mark.parametrize("tool", ["ruff", pytest.param("mypy", marks=pytest.mark.soak)])
def test_a_new_project_is_clean_in_the_eyes_of(tool: str, tmp_path: Path) -> None:
    tenfold(tmp_path, "new", "tidy")
    words = {"ruff": ["check", "--select", "E,F,I,UP,SIM", "."], "mypy": ["--strict", "tidy", "tests"]}[tool]
    done = subprocess.run(  # noqa: PLW1510 - the status is asserted below
        [sys.executable, "-m", tool, *words], cwd=tmp_path / "tidy", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
