"""What the peers need to run: their virtual environment, and a PostgreSQL of their own in a temporary folder."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from servers import Failed, free_port

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("BENCH_SHARED", ROOT.parent / "shared" / "bench"))
"""The peers' programs; without this folder only Tenfold is measured."""
PEERS = ROOT / ".venv-bench"
VERSIONS = (
    "tenfold", "granian", "uvicorn", "httptools", "uvloop", "msgspec", "apsw", "blacksheep", "litestar", "fastapi",
)  # fmt: skip


def peers_bin() -> Path:
    """The programs of the peers' virtual environment, made on the first call. Takes a minute then."""
    python = PEERS / "bin" / "python"
    if not python.exists():
        print(f"making {PEERS.name} from {SHARED / 'requirements.txt'} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", PEERS], check=True)
        requirements = str(SHARED / "requirements.txt")
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", requirements], check=True)
    return PEERS / "bin"


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A private server with the peers' data; yields its address. Not run as root, which it refuses."""
    bins = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    if not bins:
        raise Failed("the peers open a PostgreSQL pool at start: apt-get install postgresql")
    as_user = (
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    )
    port = free_port()
    dsn = f"postgresql://bench@127.0.0.1:{port}/bench"
    with tempfile.TemporaryDirectory(prefix="tenfold-pg-") as folder:
        if as_user:
            shutil.chown(folder, "postgres", "postgres")

        def pg(program: str, *arguments: str) -> None:
            subprocess.run(
                [*as_user, str(bins[-1] / program), *arguments],
                check=True,
                cwd=folder,
                stdout=subprocess.DEVNULL,
            )

        data = f"{folder}/data"
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c max_connections=200 -c fsync=off"
        pg("initdb", "-D", data, "-U", "bench", "--auth=trust")
        pg("pg_ctl", "-D", data, "-l", f"{folder}/log", "-o", options, "-w", "start")
        try:
            pg("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "bench", "bench")
            subprocess.run(
                [peers_bin() / "python", SHARED / "setup_db.py"],
                check=True,
                env={**os.environ, "BENCH_DSN": dsn},
            )
            yield dsn
        finally:
            pg("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def versions() -> dict[str, str]:
    """Of Python, and of what is measured: ours from this environment, the peers' from theirs."""
    found = {"python": platform.python_version()}
    theirs = [str(p) for p in PEERS.glob("lib/python*/site-packages")]
    for name in VERSIONS:
        for paths in (sys.path, theirs):
            with contextlib.suppress(StopIteration):
                found[name] = next(iter(importlib.metadata.distributions(name=name, path=paths))).version
                break
    return found


def machine() -> str:
    model = platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return f"{model}, {os.cpu_count()} CPUs, {platform.system()} {platform.release().split('-')[0]}"
