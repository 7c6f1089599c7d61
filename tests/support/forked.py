"""Children of tests, forked from a process that has imported everything: half a second and more of work, paid for once.

Beside each process of a test run there is one such process for each app, started by the first :class:`Forked` of it. It
waits on the socket that is its standard input, imports the module of a child before it forks the first one, and ends with
the run.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from support.orphans import die_with_parent

TESTS = Path(__file__).parents[1]
OURS = [TESTS, TESTS.parent / "src", TESTS.parent / "examples"]
"""Where modules are looked for first: this checkout, rather than one that is installed."""
BACKENDS = ("sqlite", "postgresql", "mysql")
"""Those of databases, which are imported when a URL names them."""


class Forked:
    """A process, in a group of its own, that runs ``child(*words)`` of a module, with failpoints as ``TENFOLD_FAILPOINTS``
    names them. It is used as a :class:`subprocess.Popen` is, and read to its end or killed by whoever starts it.

    ``app`` is a module to import beforehand; its children have nothing in memory that those of another one have.
    ``together``: standard output and error are one.
    """

    def __init__(
        self,
        module: str,
        *words: str,
        failpoints: str = "",
        app: str = "",
        env: Mapping[str, str] | None = None,
        cwd: Path = TESTS,
        together: bool = False,
    ) -> None:
        ours, theirs = os.pipe()
        self.stdout = os.fdopen(ours, encoding="utf-8")
        self._zygote = _zygote(app)
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read when it has ended
        order = {
            "modules": [app, module] if app else [module], "words": words, "failpoints": failpoints, "cwd": str(cwd),
            "env": dict(os.environ if env is None else env),
        }  # fmt: skip
        try:
            answer = self._zygote.ask(order, theirs, theirs if together else self._errors.fileno())
        finally:
            os.close(theirs)
        if isinstance(answer, str):
            raise RuntimeError(f"{module} cannot be imported:\n{answer}")
        self.pid: int = answer
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.returncode = self._zygote.ask({"ended": self.pid})
        return self.returncode

    def wait(self, timeout_s: float = 60.0) -> int:
        """Block until it has ended; the exit status. Raises subprocess.TimeoutExpired."""
        until = time.monotonic() + timeout_s
        while (status := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout_s, stderr=self.errors())
            time.sleep(0.005)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def errors(self) -> str:
        """What it wrote to its standard error."""
        self._errors.seek(0)
        return self._errors.read()


class _Zygote:
    def __init__(self) -> None:
        self._link, theirs = socket.socketpair()
        self._lock = threading.Lock()
        # It ends when nobody holds the other end of its socket, and not, as with die_with_parent, with this thread.
        subprocess.Popen(
            [sys.executable, "-m", "support.forked"], cwd=TESTS, stdin=theirs, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, OURS), *sys.path])},
        )  # fmt: skip
        theirs.close()

    def ask(self, order: dict[str, Any], *files: int) -> Any:
        with self._lock:
            socket.send_fds(self._link, [json.dumps(order).encode()], files)
            return json.loads(self._link.recv(65_536))


_made: dict[str, _Zygote] = {}
_making = threading.Lock()


def _zygote(app: str) -> _Zygote:
    with _making:
        if app not in _made:
            _made[app] = _Zygote()
        return _made[app]


# ── in the process that has imported everything ──


def main() -> None:
    link = socket.socket(fileno=0)
    for name in BACKENDS:
        importlib.import_module(f"tenfold.db.backends.{name}")
    while True:
        message, files, _, _ = socket.recv_fds(link, 65_536, 2)
        if not message:
            return
        order = json.loads(message)
        answer = _status(order["ended"]) if "ended" in order else _fork(order, files)
        link.sendall(json.dumps(answer).encode())


def _status(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _fork(order: dict[str, Any], files: list[int]) -> int | str:
    """The pid of the child, or why there is none."""
    try:
        module = [importlib.import_module(name) for name in order["modules"]][-1]
    except Exception:
        return traceback.format_exc()
    pid = os.fork()
    if pid == 0:
        _run(module, order, files)
    os.setpgid(pid, pid)  # as the child does: neither knows who comes first
    for file in files:
        os.close(file)
    return pid


def _run(module: Any, order: dict[str, Any], files: list[int]) -> NoReturn:
    from tenfold._core.failpoints import failpoints

    die_with_parent()
    os.setpgid(0, 0)
    for number, file in enumerate([os.open(os.devnull, os.O_RDONLY), *files]):
        os.dup2(file, number)
        os.close(file)
    sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr] # as with PYTHONUNBUFFERED
    os.environ.clear()
    os.environ.update(order["env"])
    code = 1
    try:
        os.chdir(order["cwd"])
        failpoints.configure(order["failpoints"])
        module.child(*order["words"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
