"""Loss of power: a file system on a disk of its own, whose state can be taken as of now.

The disk is a file with an ext4 on it, mounted through a loop device. What a program has written and not synced lies in
the kernel's memory; what was synced is in the file. A copy of the file, taken while the program is stopped, is the disk
as it would be found after the power has failed: mounted, the file system's journal is replayed as at a start. Needs
root and loop devices; where they are not to be had, these tests are left out, and the run says so.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# The kernel writes of its own accord what is older than 30 s, and the journal every 5 s: later than any test here.
OPTIONS = "loop,commit=300"


class Disk:
    """A mounted disk; ``folder`` is where."""

    def __init__(self, image: Path) -> None:
        self.image = image
        self.folder = image.with_suffix(".mounted")

    def sync(self) -> None:
        """What was written so far is on the disk."""
        assert not _run("sync", "-f", str(self.folder))

    def after_power_loss(self, pids: Iterable[int], name: str) -> Disk:
        """The disk, not mounted, as it is at this moment: the processes stand still while it is copied, and end."""
        stopped = list(pids)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            for pid in stopped:
                _until_stopped(pid)
            copy = self.image.with_name(name)
            assert not _run("cp", "--sparse=always", str(self.image), str(copy))
            return Disk(copy)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGKILL)

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """Its files, inside."""
        self.folder.mkdir(exist_ok=True)
        if _run("mount", "-o", OPTIONS, str(self.image), str(self.folder)):
            raise RuntimeError(f"{self.image} cannot be mounted")
        try:
            yield self.folder
        finally:
            _unmount(self.folder)


@functools.cache
def possible() -> bool:
    """Whether file systems can be mounted here, tried with a small one: it takes root, and a kernel that lets it."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        return False
    with suppress(RuntimeError, AssertionError), disk(8):
        return True
    return False


@contextmanager
def disk(megabytes: int) -> Iterator[Disk]:
    """A new, empty disk, mounted. It and its copies are removed at the end."""
    # Not below pytest's folder: that one outlives the run, and a mount in it would keep it from being removed.
    with tempfile.TemporaryDirectory(prefix="tenfold-disk-") as folder:
        Path(folder).chmod(0o755)
        made = Disk(Path(folder) / "disk")
        with made.image.open("wb") as file:
            file.truncate(megabytes << 20)
        assert not _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0", str(made.image))
        with made.mounted():
            yield made


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(stat[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found


def _until_stopped(pid: int) -> None:
    """A process in the middle of a sync stops when that has ended."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            states = {
                (task / "stat").read_text().rpartition(")")[2].split()[0]
                for task in Path(f"/proc/{pid}/task").iterdir()
            }
        except OSError:
            return  # it ended
        if states <= {"T", "t", "Z", "X"}:
            return
        time.sleep(0.001)
    raise AssertionError(f"process {pid} does not stop")


def _run(*command: str) -> int:
    return subprocess.run(
        command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ).returncode


def _unmount(folder: Path) -> None:
    """Whoever was killed a moment ago may hold a file still."""
    for _ in range(100):
        if _run("umount", str(folder)) == 0:
            return
        time.sleep(0.05)
    _run("umount", "-l", str(folder))
