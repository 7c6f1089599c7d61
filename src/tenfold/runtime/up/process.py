"""The processes of instances: started, looked at, told to end.

They are not tied to the supervisor: each is the head of a session of its own, writes to a file, and lives on when the
supervisor dies. The next one *adopts* it, by its id and the time of its creation, which together name one process. What only
a parent learns, the exit status, is then not known. Needs ``tenfold[fleet]`` (psutil).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tenfold.errors import MissingExtra
from tenfold.runtime.up.instance import Instance

if TYPE_CHECKING:
    import psutil

INSTANCE: Final = "TENFOLD_INSTANCE"
"""Variable with the name of the instance that a process is."""

NICEST: Final = 19
SAME_S: Final = 0.05
"""Creation times are kept in hundredths of a second."""


def require_psutil() -> None:
    """Raise :class:`MissingExtra` where psutil is not installed."""
    try:
        import psutil
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "it needs the library 'psutil', which is not installed.",
            where="tenfold up",
            remedy="Run: pip install 'tenfold[fleet]'",
        ) from error
    del psutil


class Process:
    """One process that was started here, or adopted."""

    def __init__(self, process: psutil.Process, child: subprocess.Popen[bytes] | None = None) -> None:
        self._process, self._child = process, child
        self.pid = process.pid
        self.created_at = process.create_time()
        process.cpu_percent()  # the first answer of psutil is always nought

    @classmethod
    def start(
        cls, command: Sequence[str], name: str, log: Path, env: Mapping[str, str], *, nicer: int = 0
    ) -> Process:
        """Run ``command`` as instance ``name``, its output added to ``log``, by so much nicer than this process. Raises OSError
        when it cannot be started."""
        import psutil

        environment = {**os.environ, **env, INSTANCE: name}
        environment.pop("NOTIFY_SOCKET", None)  # systemd's, which waits for the supervisor
        with log.open("ab") as out:
            child = subprocess.Popen(  # noqa: S603 - our own command line
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        process = psutil.Process(child.pid)
        if nicer:
            with suppress(psutil.NoSuchProcess):  # it has ended at once: whoever looks after it will see
                process.nice(min(NICEST, process.nice() + nicer))
        return cls(process, child)

    @classmethod
    def adopt(cls, instance: Instance) -> Process | None:
        """The process that the instance was, if it lives: another one may have its number by now."""
        import psutil

        with suppress(psutil.Error):
            process = psutil.Process(instance.pid)
            same = abs(process.create_time() - instance.created_at) < SAME_S
            if same and process.status() != psutil.STATUS_ZOMBIE:
                return cls(process)
        return None

    def ended(self) -> str:
        """How it ended ("exit status 1"); empty while it runs. What it had started ends with it."""
        if self._child is not None:
            return self._status(self._child)
        return "" if self._lives() else "how is not known, since an earlier supervisor had started it"

    def tell(self) -> None:
        """SIGTERM, to the process itself: it tells what it has started."""
        import psutil

        with suppress(psutil.Error):
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL, to it and to what it has started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def usage(self) -> tuple[int, float]:
        """Resident bytes, with those of what it has started, and the share of one core that it took itself since the last
        question; noughts when it is gone. Pages that several of them share are counted for each."""
        import psutil

        memory, cpu = 0, 0.0
        with suppress(psutil.Error):
            memory, cpu = self._process.memory_info().rss, self._process.cpu_percent() / 100
            for child in self._process.children(recursive=True):
                with suppress(psutil.Error):  # it has ended meanwhile
                    memory += child.memory_info().rss
        return memory, cpu

    def _lives(self) -> bool:
        import psutil

        with suppress(psutil.Error):
            return self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE
        return False

    def _status(self, child: subprocess.Popen[bytes]) -> str:
        # Seen before it is reaped: until then nobody else gets its number, which is that of its group too.
        if child.returncode is None:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return ""
            self.kill()
        status = child.wait()
        if status >= 0:
            return f"exit status {status}"
        with suppress(ValueError):
            return signal.Signals(-status).name
        return f"signal {-status}"


def python(*words: str) -> list[str]:
    """``python -m tenfold …`` with the interpreter that runs this."""
    return [sys.executable, "-m", "tenfold", *words]
