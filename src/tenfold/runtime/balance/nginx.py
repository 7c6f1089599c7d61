"""NGINX, 1.19.5 and later, as it comes with systems (without modules of others).

What it cannot do: it has no health checks of its own (an instance is left out for a second when it does not answer; one that
is leaving is taken out by a new configuration), and no slow start. ``sticky`` goes by the client's address.

**Changing without loss.** NGINX's reload closes each idle connection at once, also one whose next request has arrived and was
not yet read; its client sees a failure that it may not repeat a POST after. So a new configuration comes in another way, which
NGINX has for changing its program (SIGUSR2): a second process takes the same sockets over and both accept. The first one is
told by a file that it is leaving, and answers every request with ``Connection: close``. Connections that stayed silent for
``drain_s`` are closed at its end (SIGQUIT). HTTP/2 has GOAWAY for this.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import signal
from pathlib import Path

from tenfold.errors import ConfigError
from tenfold.runtime.balance import programs
from tenfold.runtime.balance.contract import Balancer
from tenfold.runtime.balance.model import Plan
from tenfold.runtime.balance.nginx_config import GENERATION, PID, config

CONFIG, OLD_PID = "nginx.conf", "nginx.pid.oldbin"
LAST_S = 1.0
"""Time for the last requests of a process that accepts nothing any more."""
LEAVING, KEEPING = "is shutting down", "nginx: cache "
"""What a worker of NGINX calls itself that accepts nothing any more, and how the titles of those begin that never do."""


class Nginx(Balancer):
    """NGINX as a process of ours, below a folder of its own."""

    name = "NGINX"
    program_name = "nginx"

    def render(self, plan: Plan) -> dict[str, str]:
        return {CONFIG: "\n".join(config(plan)) + "\n"}

    async def check(self, folder: Path) -> None:
        _prepare(folder)
        if not (folder / GENERATION).exists():
            _put_generation(folder, 0)
        done = await programs.run(*self._command(folder), "-q", "-t")
        if done.status:
            raise ConfigError(
                f"NGINX refuses its configuration: {_first_error(done.said)}.", where=str(folder / CONFIG)
            )

    async def start(self, folder: Path) -> None:
        self.folder = folder
        if self.running(folder):
            return
        _prepare(folder)
        for flag in (folder / "leaving").iterdir():
            flag.unlink()
        _put_generation(folder, 1)
        (folder / PID).unlink(missing_ok=True)
        programs.allow_files()
        done = await programs.run(*self._command(folder))
        if done.status:
            raise ConfigError(f"NGINX does not start: {_first_error(done.said)}.", where="balancer")
        if not await programs.until(lambda: self.running(folder) != 0, programs.ANSWER_S, self._clock):
            raise self._failed("did not start", folder)

    async def reload(self, folder: Path) -> None:
        self.folder = folder
        old = self.running(folder)
        await self._end_former(folder)
        generation = _generation(folder)
        _put_generation(folder, generation + 1)
        programs.tell(old, signal.SIGUSR2)
        if not await programs.until(
            lambda: self.running(folder) not in {0, old}, programs.ANSWER_S, self._clock
        ):
            _put_generation(folder, generation)
            raise self._failed("did not take its new configuration, and goes on with the old one", folder)
        _flag(folder, generation).touch()
        await self._clock.sleep(self._drain_s)
        programs.tell(old, signal.SIGQUIT)
        await self._until_heard(old)
        # What it has accepted before, it still answers by its former configuration; only streams take longer than this.
        await programs.until(lambda: not self._lives(old), LAST_S, self._clock)

    async def stop(self) -> None:
        if self.folder is None:
            return
        folder, main = self.folder, self.running(self.folder)
        for pid in filter(None, (main, self._former(folder))):
            programs.tell(pid, signal.SIGQUIT)
        limit = self._stop_timeout_s + 2.0  # NGINX ends what is left by itself at worker_shutdown_timeout
        if not await programs.until(lambda: not self._lives(main), limit, self._clock):
            programs.tell(main, signal.SIGTERM)
            await programs.until(lambda: not self._lives(main), programs.ANSWER_S, self._clock)

    def running(self, folder: Path) -> int:
        pid = programs.pid_in(folder / PID)
        return pid if programs.process_of(pid, folder) is not None else 0

    def _former(self, folder: Path) -> int:
        pid = programs.pid_in(folder / OLD_PID)
        return pid if programs.process_of(pid, folder) is not None else 0

    def _lives(self, pid: int) -> bool:
        return self.folder is not None and programs.process_of(pid, self.folder) is not None

    async def _until_heard(self, pid: int) -> None:
        """Wait until no worker of this master accepts anything: one on a busy machine takes its time to hear that it is to end,
        and would go on sending requests to instances that have left."""
        if self.folder is None:
            return
        successor = self.running(self.folder)
        if not await programs.until(lambda: not _accepts(pid, successor), programs.ANSWER_S, self._clock):
            raise self._failed("goes on accepting by its former configuration", self.folder)

    async def _end_former(self, folder: Path) -> None:
        """NGINX takes no second change while the master of the first one lives, which waits for its workers' last streams.

        The workers have been told to end, and do that without their master, by ``worker_shutdown_timeout`` at the latest.
        """
        former = self._former(folder)
        if not former:
            return
        programs.tell(former, signal.SIGQUIT)  # it was not, if a change was broken off in the middle
        await self._until_heard(former)
        if not await programs.until(lambda: not self._former(folder), 0.5, self._clock):
            programs.tell(former, signal.SIGKILL)
            await programs.until(lambda: not self._lives(former), programs.ANSWER_S, self._clock)

    def _command(self, folder: Path) -> list[str]:
        # A changed program is found by the first word, so it has to be a whole path.
        command = [self.program, "-p", f"{folder}/", "-c", CONFIG, "-e", programs.LOG]
        if os.geteuid() == 0:  # or its workers would be somebody who may not read our folders
            user, group = pwd.getpwuid(0).pw_name, grp.getgrgid(os.getegid()).gr_name
            command += ["-g", f"user {user} {group};"]
        return command


def _accepts(pid: int, successor: int) -> bool:
    """Whether a worker of this master takes connections, or will: one that has just begun has its master's title."""
    titles = programs.titles_of_children(pid)
    return any(
        title and LEAVING not in title and not title.startswith(KEEPING)
        for child, title in titles.items()
        if child != successor
    )


def _prepare(folder: Path) -> None:
    for name in ("leaving", "temporary", "cache"):
        (folder / name).mkdir(parents=True, exist_ok=True)


def _flag(folder: Path, generation: int) -> Path:
    return folder / "leaving" / str(generation)


def _put_generation(folder: Path, number: int) -> None:
    text = f'# The process that reads this is leaving once this file exists.\nset $leaving "{_flag(folder, number)}";\n'
    programs.put(folder, {GENERATION: text}, {})


def _generation(folder: Path) -> int:
    found = re.search(r'/(\d+)";', (folder / GENERATION).read_text(encoding="utf-8"))
    return int(found[1]) if found else 0


def _first_error(said: str) -> str:
    lines = (
        [line for line in said.splitlines() if "[emerg]" in line] or said.splitlines() or ["no reason given"]
    )
    return lines[0].removeprefix("nginx: ").removeprefix("[emerg] ").rstrip(".")
