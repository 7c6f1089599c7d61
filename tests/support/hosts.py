"""Several hosts in one process: each is a thread with an event loop and a network namespace of its own (namespaces(7)).

A pair of hosts is joined by a link of its own, which can be cut for these two alone. Nothing is left behind: a namespace and its
links end with their thread. Linux and root; :func:`possible` tries it.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import combinations
from typing import Any, TypeVar

T = TypeVar("T")
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET


class Host:
    """Work that is run here sees this host's network, and its sockets stay in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.addresses: dict[str, str] = {}
        """Of the others, by name, as they are reached from here."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=f"host {name}", daemon=True)
        self._begun: Future[int] = Future()

    def start(self) -> None:
        """Raises OSError where namespaces cannot be made."""
        self._thread.start()
        self.tid = self._begun.result(10)
        self.ip("link", "set", "lo", "up")

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it to its end in this host's loop."""
        return self.begin(work).result(60)

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, fn: Callable[[], T]) -> T:
        """Call it in this host's thread."""

        async def called() -> T:
            return fn()

        return self.run(called())

    def ip(self, *words: str) -> None:
        """``ip(8)`` in this host's network."""
        done = self.call(lambda: subprocess.run(["ip", *words], capture_output=True, text=True, check=False))
        if done.returncode:
            raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")

    def _serve(self) -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK):
            number = ctypes.get_errno()
            self._begun.set_exception(OSError(number, os.strerror(number)))
            return
        self._begun.set_result(threading.get_native_id())
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()


class Hosts:
    """Hosts by name, each joined to each other."""

    def __init__(self, *names: str) -> None:
        self.all = {name: Host(name) for name in names}

    def __getitem__(self, name: str) -> Host:
        return self.all[name]

    def start(self) -> None:
        """Raises OSError where this machine does not let us."""
        for host in self.all.values():
            host.start()
        for number, (one, other) in enumerate(combinations(self.all.values(), 2)):
            one.ip(
                "link", "add", other.name, "type", "veth", "peer", "name", one.name, "netns", str(other.tid)
            )
            for host, peer, last in ((one, other, 1), (other, one, 2)):
                host.addresses[peer.name] = f"10.77.{number}.{3 - last}"
                host.ip("address", "add", f"10.77.{number}.{last}/24", "dev", peer.name)
                host.ip("link", "set", peer.name, "up")

    def stop(self) -> None:
        for host in self.all.values():
            host.stop()

    def cut(self, host: str, peer: str) -> None:
        """Take ``host``'s end of its link to ``peer`` down: what ``peer`` sends on it disappears, and it is not told."""
        self[host].ip("link", "set", peer, "down")

    def heal(self, host: str, peer: str) -> None:
        self[host].ip("link", "set", peer, "up")


@contextmanager
def hosts(*names: str) -> Generator[Hosts]:
    """Started, and gone at the end."""
    made = Hosts(*names)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@functools.cache
def possible() -> bool:
    """Whether hosts can be made here, tried with two: it takes root (CAP_SYS_ADMIN and CAP_NET_ADMIN) and iproute2."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    try:
        with hosts("one", "other"):
            return True
    except OSError:
        return False
