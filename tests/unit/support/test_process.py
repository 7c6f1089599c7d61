from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from support.process import Process, ProcessFailed

_SERVER = (
    "import http.server as h; h.HTTPServer(('127.0.0.1', {port}), h.SimpleHTTPRequestHandler).serve_forever()"
)


def test_it_waits_for_http_and_is_gone_at_the_end(free_port: int) -> None:
    argv = [sys.executable, "-c", _SERVER.format(port=free_port)]
    with Process(argv, ready=f"http://127.0.0.1:{free_port}/") as process:
        assert process.status is None
    assert process.status == -signal.SIGKILL
    assert '"GET / HTTP/1.1" 200' in process.output


def test_it_waits_for_a_line_and_for_the_end() -> None:
    code = "print('port 7'); input_ = open(0).read(); print('bye')"
    with Process([sys.executable, "-c", code], ready=r"port \d+") as process:
        assert process.wait() == 0
        assert process.output == "port 7\nbye\n"


def test_a_process_that_ends_early_fails_with_what_it_said() -> None:
    with (
        pytest.raises(ProcessFailed, match=r"(?s)status 3.*no such thing"),
        Process([sys.executable, "-c", "print('no such thing'); raise SystemExit(3)"], ready="never"),
    ):
        pass


def test_one_that_does_not_get_ready_fails_in_time_and_is_killed() -> None:
    process = Process([sys.executable, "-c", "import time; time.sleep(60)"], ready="never", timeout_s=0.2)
    with pytest.raises(ProcessFailed, match="it runs"), process:
        pass
    assert process.status == -signal.SIGKILL


def test_stop_lets_it_finish() -> None:
    code = "import signal, sys; signal.signal(15, lambda *_: (print('drained'), sys.exit(0))); print('up'); signal.pause()"
    with Process([sys.executable, "-c", code], ready="up") as process:
        assert process.stop() == 0
        assert "drained" in process.output


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent has died")
def test_children_die_with_a_run_that_is_killed() -> None:
    """A run that gets SIGKILL cleans up nothing."""
    runner = (
        "import sys; from support.process import Process; "
        "child = Process([sys.executable, '-c', 'import signal; print(1, flush=True); signal.pause()'], ready='1'); "
        "child.wait_ready(); print('child', child._process.pid, flush=True); child.wait()"
    )
    tests = str(Path(__file__).parents[2])
    with Process([sys.executable, "-c", runner], ready=r"child \d+", env={"PYTHONPATH": tests}) as run:
        child = psutil.Process(int(run.output.split()[-1]))
        os.kill(run._process.pid, signal.SIGKILL)
        assert psutil.wait_procs([child], timeout=10)[1] == []
