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
    """The programs of the peers' virtual environment."""
    return peers(PEERS, SHARED / "requirements.txt").parent


def peers(folder: Path, requirements: Path) -> Path:
    """The Python of a virtual environment with these, made on the first call. Takes a minute then."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making {folder.name} from {requirements} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", requirements], check=True)
    return python


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
            _queue_tables(dsn)
            yield dsn
        finally:
            pg("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def _queue_tables(dsn: str) -> None:
    """Those of the peers' queues that keep their jobs in PostgreSQL."""
    user, _, rest = dsn.removeprefix("postgresql://").partition("@")
    host, _, database = rest.partition("/")
    env = {
        **os.environ, "BENCH_DSN": dsn, "PYTHONPATH": ".", "PGHOST": host.partition(":")[0],
        "PGPORT": host.partition(":")[2], "PGUSER": user, "PGDATABASE": database, "PGPASSWORD": "unused",
    }  # fmt: skip
    for command in (
        ["pgq", "install"],
        ["procrastinate", "--app", "procrastinate_pg.app", "schema", "--apply"],
    ):
        program, *arguments = command
        done = subprocess.run(
            [peers_bin() / program, *arguments],
            cwd=SHARED / "jobs",
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(f"{' '.join(command)}: {done.stderr[-300:]}", file=sys.stderr)


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """A private Redis without persistence; yields its address."""
    program = shutil.which("redis-server")
    if program is None:
        raise Failed("the cached reads use Redis: apt-get install redis-server")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            yield f"redis://127.0.0.1:{port}"
        finally:
            server.terminate()


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
