"""G25 in its long setting: ten thousand slow sockets and a gibibyte of body against a server in a process of its own."""

from __future__ import annotations

import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import hostile_server
from support.trials import Trials, soak

GET = b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n"
KINDS = (
    b"",
    b"GET /plain HTTP/1.1\r\nHost: x\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx",
    GET,
)
"""Silent, a head without an end, a body without an end, idle after a request."""


@dataclass
class Server:
    pid: int
    port: int

    @property
    def resident(self) -> int:
        """Bytes of memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    @property
    def cpu_s(self) -> float:
        """Time that it has computed."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def connect(self, data: bytes = b"") -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        if data:
            sock.sendall(data)
        return sock


@contextmanager
def serving(tmp_path: Path, *settings: str) -> Generator[Server]:
    command = [sys.executable, hostile_server.__file__, str(tmp_path), *settings]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Server(process.pid, int(process.stdout.readline()))
        finally:
            process.communicate("", timeout=30)


def p99_of(sock: socket.socket, many: int) -> float:
    """Seconds that 99 of 100 good requests stay below: the median of five batches."""
    batches = []
    for _ in range(5):
        took = []
        for _ in range(many):
            started = time.perf_counter()
            sock.sendall(GET)
            assert sock.recv(4096).startswith(b"HTTP/1.1 200")
            took.append(time.perf_counter() - started)
        batches.append(statistics.quantiles(took, n=100)[98])
    return statistics.median(batches)


@pytest.mark.soak
def test_ten_thousand_slow_sockets_cost_little_and_good_requests_do_not_notice(
    tmp_path: Path, trials: Trials, record_property: Callable[[str, object], None]
) -> None:
    many = soak(10_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, many + 500), hard), hard))
    waits = ("http__header_timeout_s=120", "http__body_timeout_s=120", "http__connections_max=12000")
    with serving(tmp_path, *waits, "http__timeout_s=120", "http__concurrency_max=5000") as server:
        good = server.connect(GET)
        good.recv(4096)
        alone, before = p99_of(good, 300), server.resident
        slow = [server.connect(KINDS[n % 4]) for n in range(many)]
        time.sleep(2)
        each = (server.resident - before) / many
        computed = server.cpu_s
        time.sleep(5)
        idle_us = (server.cpu_s - computed) / 5 / many * 1e6
        beside = p99_of(good, 300)
        for sock in slow:
            sock.close()
        time.sleep(1)
        after = p99_of(good, 300)
    said = f"{each:,.0f} bytes, {idle_us:.2f} us/s per slow socket; p99 {alone * 1e6:.0f}, {beside * 1e6:.0f}, {after * 1e6:.0f} us"
    record_property("slow sockets", said)
    print(said)
    trials("G25", many, "slow sockets, in a process of their own")
    assert beside <= 1.2 * max(alone, after), said
    assert each < 16_384, said
    assert idle_us < 20, said


@pytest.mark.soak
def test_a_gibibyte_and_five_hundred_bodies_at_once_leave_memory_flat(tmp_path: Path, trials: Trials) -> None:
    """500 bodies of 4 MiB are 2 GiB; there is room for 32 MiB of them."""
    many = soak(500)
    with serving(tmp_path, "http__buffered_max_bytes=33554432", "http__concurrency=1000") as server:
        server.connect(GET).recv(4096)
        before, peak, over = server.resident, [0], threading.Event()
        watcher = threading.Thread(target=_watch, args=(server, peak, over))
        watcher.start()
        flood = server.connect(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = _flood(flood)
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4194304\r\n\r\n"
        senders = [threading.Thread(target=_post, args=(server, head)) for _ in range(many)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        over.set()
        watcher.join()
    trials("G25", many + 1, "large bodies at once")
    print(
        f"{sent:,} bytes taken of a gibibyte; {peak[0] - before:,} bytes more at most with {many} bodies of 4 MiB"
    )
    assert sent < 2**27
    assert peak[0] - before < 33_554_432 * 3 + many * 327_680


def _watch(server: Server, peak: list[int], over: threading.Event) -> None:
    while not over.wait(0.02):
        peak[0] = max(peak[0], server.resident)


def _flood(sock: socket.socket) -> int:
    """Send up to a gibibyte in chunks; how much was taken before the connection ended."""
    piece, sent = b"10000\r\n" + bytes(65_536) + b"\r\n", 0
    try:
        while sent < 2**30:
            sock.sendall(piece)
            sent += len(piece)
    except OSError:
        pass
    return sent


def _post(server: Server, head: bytes) -> None:
    """One body and its answer: done, or refused because there was no room in time."""
    with server.connect(head) as sock:
        try:
            sock.sendall(bytes(4_194_304))
        except OSError:
            pass  # refused before all of it was sent
        answer = sock.recv(4096)
        assert answer[9:12] in (b"200", b"503"), answer[:100]
