"""What a gateway costs beside what stands behind it: a typed GET asked directly, and the same one through a gateway.

CPU time of each process, by the system's count, so that other load on the machine changes little. A round takes each way once,
so that both meet the same machine. Run: ``python bench/gateway_rounds.py [ROUNDS]``.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import psutil
from servers import free_port

HERE = Path(__file__).parent
REQUESTS, WARM, AT_ONCE = 2_000, 304, 8
PATH = "/items/42?q=abc"


class Served:
    """``tenfold run`` as a child."""

    def __init__(self, stack: ExitStack, *words: str) -> None:
        self.port = free_port()
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        Path(folder, "tenfold.toml").write_text(
            "[log]\naccess = false\n[worker]\nenabled = false\n[http]\nconcurrency = 200\n"
        )
        config, words = (words[0], words[1:]) if words[0].startswith("[") else ("", words)
        with Path(folder, "tenfold.toml").open("a") as file:
            file.write(config)
        command = [
            sys.executable,
            "-m",
            "tenfold",
            "run",
            "tenfold_app:app",
            "--port",
            str(self.port),
            "--ops-port",
            "0",
        ]
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
    raise SystemExit(f"nobody answers at port {port}.")


async def measure(rounds: int) -> None:
    with ExitStack() as stack:
        service = Served(stack, "--server", "uvicorn")
        gateway = Served(
            stack,
            f'[gateway.services.bench]\nurl = "http://127.0.0.1:{service.port}"\n'
            '[gateway.routes.all]\npath = "/"\nservice = "bench"\n',
            "--role", "gateway",
        )  # fmt: skip
        for each in (service, gateway):
            await ready(each.port)
            await load(each.port, WARM)
        found: list[tuple[float, float]] = []
        for _ in range(rounds):
            before = service.cpu_s()
            await load(service.port, REQUESTS)
            direct = service.cpu_s() - before
            before = gateway.cpu_s()
            await load(gateway.port, REQUESTS)
            through = gateway.cpu_s() - before
            found.append((direct, through))
            print(
                f"direct {direct * 1e6 / REQUESTS:6.0f} µs, gateway {through * 1e6 / REQUESTS:6.0f} µs, {through / direct:5.1f} times",
                flush=True,
            )
        print(
            f"N = {rounds} x {REQUESTS}; the gateway takes {median(b / a for a, b in found):.1f} times the CPU of the direct GET"
        )


if __name__ == "__main__":
    begun = time.monotonic()
    asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
