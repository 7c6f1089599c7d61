"""Programs that run beside us: find them, run one to its end, know one again by its file of process ids."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tenfold._core.clock import Clock
from tenfold.errors import ConfigError, MissingExtra, TenfoldError

if TYPE_CHECKING:
    import psutil

FOLDERS = "/usr/sbin:/usr/local/sbin:/opt/homebrew/bin:/usr/local/bin"
"""Looked through besides the PATH, which often lacks the folders of servers."""
ANSWER_S = 10.0
"""How long a check or a start may take."""
LOOK_S = 0.02
FILES = 65_536
LOG = "balancer.log"


class Done(NamedTuple):
    """How a program ended."""

    status: int
    said: str


def find(name: str, configured: str) -> str:
    """The absolute path of the program ``name``. Raises :class:`ConfigError` when there is none."""
    found = shutil.which(configured or name) or shutil.which(configured or name, path=FOLDERS)
    if found is not None:
        return str(Path(found).absolute())
    if configured:
        raise ConfigError(
            f"{configured} is no program that can be run.",
            where="balancer.program",
            remedy=f"Write the path of {name}, or leave it out to have it looked for.",
        )
    raise ConfigError(
        f"{name} is not installed, or not on the PATH.",
        where="balancer.kind",
        remedy=f'Install it (apt install {name}, brew install {name}), say where it is with balancer.program, or write "none".',
    )


async def run(*command: str) -> Done:
    """Run a program that ends by itself. What it writes is kept together."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C on the terminal is for us, who stop it in order
    )
    try:
        async with asyncio.timeout(ANSWER_S):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise TenfoldError(f"{command[0]} did not end within {ANSWER_S:g} s.") from None
    return Done(process.returncode or 0, said.decode(errors="replace"))


def allow_files() -> None:
    """Let what is started from now on have as many open files as the system gives: each connection is one or two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def pid_in(path: Path) -> int:
    """The number in a file of a process id; 0 where there is none."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def process_of(pid: int, folder: Path) -> psutil.Process | None:
    """The living process ``pid``, if it was started for ``folder``: ids are given to others after a crash."""
    try:
        import psutil
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "it needs the library 'psutil', which is not installed.",
            where="balancer.kind",
            remedy="Run: pip install 'tenfold[fleet]'",
        ) from error
    if pid <= 0:
        return None
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or str(folder) not in " ".join(_words(process)):
            return None
    except psutil.Error:
        return None
    return process


def _words(process: psutil.Process) -> list[str]:
    """The words that it was started with. HAProxy's master executes itself again and again, and has none for a moment."""
    for _ in range(20):
        if words := process.cmdline():
            return words
        time.sleep(0.001)
    return []


def titles_of_children(pid: int) -> dict[int, str]:
    """What the processes that ``pid`` has started call themselves, by their ids; nothing when it has ended."""
    import psutil

    found: dict[int, str] = {}
    with suppress(psutil.Error):
        for child in psutil.Process(pid).children():
            with suppress(psutil.Error):  # it has ended meanwhile
                found[child.pid] = " ".join(child.cmdline())
    return found


def tell(pid: int, what: signal.Signals) -> None:
    """Send a signal; nothing when the process is gone, or is none (0)."""
    if pid <= 0:
        return
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        return


async def until(condition: Callable[[], bool], seconds: float, clock: Clock) -> bool:
    """Wait until ``condition`` holds, at most so long; whether it does."""
    end = clock.monotonic() + seconds
    while not condition():
        if clock.monotonic() >= end:
            return False
        await clock.sleep(LOOK_S)
    return True


def last_lines(path: Path, count: int = 3) -> str:
    """The end of a log, for an error message."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-count:])


def texts(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Of the files ``names`` in ``folder``, those that are there."""
    paths = {name: folder / name for name in names}
    return {name: path.read_text(encoding="utf-8") for name, path in paths.items() if path.exists()}


def put(folder: Path, files: dict[str, str], links: dict[str, str]) -> bool:
    """Have ``files`` and ``links`` in ``folder``, each replaced at once; whether anything differed."""
    changed = False
    for name, text in files.items():
        path = folder / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + ".new")
        new.write_text(text, encoding="utf-8")
        new.replace(path)
        changed = True
    for name, target in links.items():
        changed |= _link(folder / name, target)
    return changed


def _link(path: Path, target: str) -> bool:
    if path.is_symlink() and os.readlink(path) == target:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(path)
    return True
