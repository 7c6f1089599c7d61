"""What a gateway costs beside what stands behind it: a typed GET asked directly, and the same one through a gateway.

CPU time of each process, by the system's count, so that other load on the machine changes little. A round takes each way once,
so that both meet the same machine.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from figures import Rows, Table
from servers import Failed, free_port

TITLE = "What a gateway costs"
ABOUT = """A typed GET, asked directly and through `tenfold run --role gateway`, over 8 kept connections: CPU time of each process by the
system's count. A round takes both ways.
"""

Progress = Callable[[int, int, str], None]
HERE = Path(__file__).parent
REQUESTS, WARM, AT_ONCE = 2_000, 304, 8
PATH = "/items/42?q=abc"
QUIET = '[log]\naccess = false\nlevel = "warning"\n[worker]\nenabled = false\n[http]\nconcurrency = 200\n'


class Served:
    """``tenfold run`` as a child."""

    def __init__(self, stack: ExitStack, config: str, *words: str) -> None:
        self.port = free_port()
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        Path(folder, "tenfold.toml").write_text(QUIET + config)
        command = [
            sys.executable, "-m", "tenfold", "run", "tenfold_app:app", "--port", str(self.port), "--ops-port", "0",
        ]  # fmt: skip
        child = subprocess.Popen(
            [*command, "--no-reload", "--data", folder, "--config", str(Path(folder, "tenfold.toml")), *words],
            cwd=HERE / "http", stdout=subprocess.DEVNULL,
        )  # fmt: skip
        stack.callback(child.wait, 10)
        stack.callback(child.terminate)
        self.process = psutil.Process(child.pid)

    def cpu_s(self) -> float:
        used = self.process.cpu_times()
        return used.user + used.system


async def load(port: int, requests: int) -> None:
    """So many requests, over a few connections that are kept."""

    async def one(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        question = f"GET {PATH} HTTP/1.1\r\nHost: shop.example\r\nAccept: application/json\r\nUser-Agent: bench\r\n\r\n".encode()
        for _ in range(count):
            writer.write(question)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
        writer.close()

    await asyncio.gather(*(one(requests // AT_ONCE) for _ in range(AT_ONCE)))


async def ready(port: int) -> None:
    for _ in range(600):
        try:
            return await load(port, AT_ONCE)
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.1)
    raise Failed(f"nobody answers at port {port}.")


def measure(rounds: int, progress: Progress) -> Rows:
    """One row per round: CPU µs per request of what stands behind, asked directly, and of the gateway before it."""
    return asyncio.run(_measured(rounds, progress))


async def _measured(rounds: int, progress: Progress) -> Rows:
    rows: Rows = []
    with ExitStack() as stack:
        service = Served(stack, "", "--server", "uvicorn")
        routes = (
            f'[gateway.services.bench]\nurl = "http://127.0.0.1:{service.port}"\n'
            '[gateway.routes.all]\npath = "/"\nservice = "bench"\n'
        )
        gateway = Served(stack, routes, "--role", "gateway")
        for each in (service, gateway):
            await ready(each.port)
            await load(each.port, WARM)
        for number in range(rounds):
            progress(number, rounds, "direct, and through the gateway")
            row: dict[str, Any] = {"round": number}
            for name, each in (("direct_us", service), ("gateway_us", gateway)):
                before = each.cpu_s()
                await load(each.port, REQUESTS)
                row[name] = (each.cpu_s() - before) * 1e6 / REQUESTS
            rows.append(row)
    return rows


def table(rows: Rows) -> Table:
    """CPU of both, and their quotient within rounds."""
    quotients = sorted(row["gateway_us"] / row["direct_us"] for row in rows)
    cells = [
        "typed GET", *(f"{median(row[name] for row in rows):.0f}" for name in ("direct_us", "gateway_us")),
        f"{median(quotients):.1f} ({quotients[0]:.1f} … {quotients[-1]:.1f})", f"{len(rows)} × {REQUESTS}",
    ]  # fmt: skip
    return ["", "direct, CPU µs", "gateway, CPU µs", "gateway : direct", "N"], [cells]
