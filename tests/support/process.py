"""Real processes in tests: start, wait until ready, kill by pid, read what they said. Never a blind sleep."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from support.forked import Forked
from support.orphans import die_with_parent


class ProcessFailed(AssertionError):
    """The process ended or did not become ready in time; the message holds its output."""


class Process:
    """One child process, in a group of its own, with its output collected.

    ``ready`` is an ``http://`` address that must answer with a status below 500, or a regular expression that
    must occur in the output; without it, the process counts as ready at once. Use as a context manager: at the
    end everything it started is killed. ``forked`` is the module of an app, and ``argv`` what follows
    ``tenfold`` in a command line, which then runs in a child of :mod:`support.forked`.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        ready: str = "",
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        forked: str = "",
    ) -> None:
        self.argv = [str(word) for word in argv]
        self._ready, self._timeout_s = ready, timeout_s
        self._chunks: list[str] = []
        self._said = threading.Condition()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._process: subprocess.Popen[bytes] | Forked
        if forked:
            points = environment.get("TENFOLD_FAILPOINTS", "")
            self._process = Forked(
                "support.tenfold_child", *self.argv,
                app=forked, failpoints=points, env=environment, cwd=cwd or Path.cwd(), together=True,
            )  # fmt: skip
        else:
            self._process = subprocess.Popen(
                self.argv,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def output(self) -> str:
        """What it wrote so far, standard output and error as they came."""
        with self._said:
            return "".join(self._chunks)

    def wait_ready(self) -> None:
        """Block until it is ready; raises ProcessFailed with its output when it ends or takes too long."""
        if self._ready.startswith("http"):
            self._wait_for_http()
        elif self._ready:
            self.wait_for(self._ready)

    def wait_for(self, pattern: str, *, start: int = 0) -> re.Match[str]:
        """Block until ``pattern`` occurs in the output from character ``start`` on."""
        end = time.monotonic() + self._timeout_s
        with self._said:
            while True:
                match = re.compile(pattern).search("".join(self._chunks), start)
                if match is not None:
                    return match
                left = end - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    break
                self._said.wait(min(left, 1.0))
        if not self._reader.is_alive():
            self._process.wait(5)  # its output ended, so it is about to be gone
        raise self._failure(f"{pattern!r} did not occur in its output")

    def wait(self, timeout_s: float | None = None) -> int:
        """Block until it ends by itself; the exit status."""
        try:
            status = self._process.wait(timeout_s or self._timeout_s)
        except subprocess.TimeoutExpired:
            raise self._failure("it did not end") from None
        self._reader.join(5)
        return status

    def send(self, signal_: signal.Signals) -> None:
        """Send a signal to the process itself, not to its children."""
        self._process.send_signal(signal_)

    def stop(self, timeout_s: float | None = None) -> int:
        """SIGTERM, then wait for the end; the exit status."""
        self.send(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL the process and everything it started. Idempotent."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # the group is gone
        self._process.wait()
        self._reader.join(5)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while chunk := os.read(self._process.stdout.fileno(), 65_536):
            with self._said:
                self._chunks.append(chunk.decode(errors="replace"))
                self._said.notify_all()
        with self._said:
            self._said.notify_all()

    def _wait_for_http(self) -> None:
        end = time.monotonic() + self._timeout_s
        while time.monotonic() < end and self.status is None:
            try:
                with urllib.request.urlopen(self._ready, timeout=2):
                    return
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    return
            except OSError:
                pass  # not listening yet
            with self._said:
                self._said.wait(0.05)
        raise self._failure(f"{self._ready} did not answer")

    def _failure(self, what: str) -> ProcessFailed:
        state = "it runs" if self.status is None else f"it ended with status {self.status}"
        return ProcessFailed(
            f"{' '.join(self.argv)}: {what} within {self._timeout_s:g} s; {state}. Output:\n{self.output}"
        )
