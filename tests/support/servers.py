"""Real servers for tests: each on a free loopback port with a temporary folder, stopped by its process.

A server is started by its class and lives until :meth:`Server.stop`; the fixtures below keep one of
each per test process. They die with the process that started them.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import psutil
import pytest

from support.orphans import die_with_parent

S = TypeVar("S", bound="Server")

START_S = 60.0

_starter = ThreadPoolExecutor(1, "servers")
"""Starts every server: Linux has a child die with the *thread* that started it, and tests start some in threads that end."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program(name: str, *folders: str) -> str:
    """The path of a server's program. Skips the test that asks for one which is not installed."""
    for folder in folders:
        for found in sorted(Path("/").glob(folder.lstrip("/")), reverse=True):
            if (found / name).exists():
                return str(found / name)
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed; `make test` installs it on Debian.")
    return path


class Server:
    """One process. ``user`` is who runs it when we are root (databases refuse to); empty where root may."""

    user: ClassVar[str] = "nobody"
    orphaned: ClassVar[signal.Signals] = signal.SIGKILL
    """What the process gets when the one that started it is gone."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"tenfold-{type(self).__name__.lower()}-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._own(self.folder)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def keep_in(self, folder: Path) -> Self:
        """Keep its files in ``folder``, which may hold those of another server of its kind that has ended."""
        self.folder.rmdir()
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._own(folder)
        return self

    @property
    def ended(self) -> bool:
        """Whether it does not run, as far as we know."""
        return self._process is None

    def prepare(self) -> None:
        """Files that the server needs, once."""

    def environment(self) -> dict[str, str] | None:
        """The variables that it is started with; None: ours."""
        return None

    def command(self) -> list[str]:
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether it answers."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def start(self) -> Self:
        if not any(self.folder.iterdir()):
            self.prepare()
        self._process = _starter.submit(self._begin).result()
        until = time.monotonic() + START_S
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{type(self).__name__} did not start:\n{self.log()}")
            time.sleep(0.02)
        return self

    def _begin(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(), cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL,
            stdout=self._log(), stderr=subprocess.STDOUT, preexec_fn=partial(die_with_parent, self.orphaned), **self._as_user(),
        )  # fmt: skip

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process and remove its folder."""
        self.end(how)
        shutil.rmtree(self.folder, ignore_errors=True)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process; :meth:`start` begins again on the same port and folder."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End the process and its children, as a machine does that crashes."""
        children = psutil.Process(self.pid).children(recursive=True) if self._process is not None else []
        self.end(signal.SIGKILL)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=10)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Neither answers nor closes its connections inside: like a network that swallows packets."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def log(self) -> str:
        path = self.folder / "server.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def run(self, *command: str) -> None:
        """A command of the server's own tools, to its end."""
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, **self._as_user()
        )
        if done.returncode:
            raise RuntimeError(f"{command} failed:\n{done.stdout}{done.stderr}")

    def _log(self) -> Any:
        return (self.folder / "server.log").open("ab")

    def _own(self, path: Path) -> None:
        if os.geteuid() == 0 and self.user:
            entry = pwd.getpwnam(self.user)
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def _as_user(self) -> dict[str, Any]:
        if os.geteuid() != 0 or not self.user:
            return {}
        entry = pwd.getpwnam(self.user)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class Postgres(Server):
    """PostgreSQL; user and password are ``tenfold``. Commits do not wait for the disk unless ``durable``."""

    user = "postgres"
    # Killed without warning, it would leave its children behind, each with the statement that it runs.
    orphaned = signal.SIGQUIT

    def __init__(self, *options: str, durable: bool = False, port: int | None = None) -> None:
        super().__init__(port)
        self.options = options
        self.durable = durable

    def url(self, database: str = "tenfold") -> str:
        return f"postgresql://tenfold:tenfold@{self.address}/{database}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        password = self.folder / "password"
        password.write_text("tenfold\n")
        password.chmod(0o644)
        self.run(
            self.tool("initdb"), "-D", str(self.data), "-U", "tenfold", "--pwfile", str(password),
            "--auth", "scram-sha-256", "--no-sync", "--locale", "C.UTF-8", "--encoding", "UTF8",
        )  # fmt: skip

    def command(self) -> list[str]:
        options = {
            "port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": "",
            "max_connections": "200", "wal_level": "replica", "max_wal_senders": "10",
            "shared_buffers": "128MB", "log_min_messages": "warning",
            "jit": "off",  # compiling a statement that tests soon cancel takes seconds, and is not interrupted
        }  # fmt: skip
        if not self.durable:
            options |= {"fsync": "off", "full_page_writes": "off"}
        sets = [f"{name}={value}" for name, value in options.items()]
        return [self.tool("postgres"), "-D", str(self.data)] + [
            part for option in (*sets, *self.options) for part in ("-c", option)
        ]

    def ready(self) -> bool:
        done = subprocess.run(
            [self.tool("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        )
        if done.returncode == 0 and not (self.folder / "created").exists():
            self.sql("CREATE DATABASE tenfold", database="postgres")
            (self.folder / "created").touch()
        return done.returncode == 0

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:  # fast shutdown: clients are disconnected
        super().stop(how)

    def sql(self, *statements: str, database: str = "tenfold") -> None:
        """Run statements as the superuser, each by itself."""
        asyncio.run(_run_sql(self.url(database), statements))

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database, dropped at the end."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        _in_thread(lambda: self.sql(f"CREATE DATABASE {name}", database="postgres"))
        try:
            yield self.url(name)
        finally:
            _in_thread(lambda: self.sql(f"DROP DATABASE {name} WITH (FORCE)", database="postgres"))

    @staticmethod
    def tool(name: str) -> str:
        return program(name, "/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/bin")


class MariaDB(Server):
    """MariaDB; user and password are ``tenfold``. Commits do not wait for the disk unless ``durable``."""

    user = "mysql"

    def __init__(self, *, durable: bool = False, port: int | None = None) -> None:
        super().__init__(port)
        self.durable = durable

    def url(self, database: str = "tenfold") -> str:
        return f"mysql://tenfold:tenfold@{self.address}/{database}"

    def prepare(self) -> None:
        self.run(
            program("mariadb-install-db"), "--no-defaults", f"--datadir={self.folder / 'data'}",
            "--skip-test-db", "--auth-root-authentication-method=normal", f"--tmpdir={self.folder}",
        )  # fmt: skip

    def command(self) -> list[str]:
        script = self.folder / "init.sql"
        script.write_text(
            "CREATE DATABASE IF NOT EXISTS tenfold CHARACTER SET utf8mb4;\n"
            "CREATE OR REPLACE USER tenfold@'127.0.0.1' IDENTIFIED BY 'tenfold';\n"
            "GRANT ALL ON *.* TO tenfold@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        script.chmod(0o644)
        return [
            program("mariadbd"), "--no-defaults", f"--datadir={self.folder / 'data'}", f"--port={self.port}",
            "--bind-address=127.0.0.1", f"--socket={self.folder / 'socket'}", f"--init-file={script}",
            "--skip-name-resolve", f"--innodb-flush-log-at-trx-commit={1 if self.durable else 2}", "--innodb-buffer-pool-size=128M",
            "--max-connections=200", f"--pid-file={self.folder / 'pid'}", f"--tmpdir={self.folder}",
        ]  # fmt: skip

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database, dropped at the end."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        self.sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        try:
            yield self.url(name)
        finally:
            self.sql(f"DROP DATABASE {name}")

    def sql(self, statement: str) -> None:
        self.run(
            program("mariadb"), "--no-defaults", "-h", "127.0.0.1", "-P", str(self.port), "-utenfold", "-ptenfold",
            "-e", statement,
        )  # fmt: skip


class Redis(Server):
    """Redis without persistence, unless options say otherwise."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        super().__init__(port)
        self.options = options

    def url(self, database: int = 0) -> str:
        return f"redis://{self.address}/{database}"

    def flush(self) -> None:
        """Forget everything."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as link:
            link.sendall(b"FLUSHALL\r\n")
            assert link.recv(16) == b"+OK\r\n"

    def command(self) -> list[str]:
        return [
            program("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
            "--appendonly", "no", "--dir", str(self.folder), *self.options,
        ]  # fmt: skip


class Memcached(Server):
    """Memcached."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        super().__init__(port)
        self.options = options

    @property
    def url(self) -> str:
        return f"memcached://{self.address}"

    def command(self) -> list[str]:
        return [program("memcached"), "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", *self.options]


class Pgbouncer(Server):
    """pgbouncer in transaction mode before a PostgreSQL."""

    user = "postgres"

    def __init__(self, postgres: Postgres, *, database: str = "*", port: int | None = None) -> None:
        super().__init__(port)
        self.postgres = postgres
        self.database = database

    def url(self, database: str = "tenfold") -> str:
        return f"postgresql+psycopg://tenfold:tenfold@{self.address}/{database}"

    def prepare(self) -> None:
        users = self.folder / "users.txt"
        users.write_text('"tenfold" "tenfold"\n')
        ini = self.folder / "pgbouncer.ini"
        ini.write_text(
            f"[databases]\n* = host=127.0.0.1 port={self.postgres.port}\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nauth_type = plain\nauth_file = {users}\n"
            "pool_mode = transaction\nmax_client_conn = 200\ndefault_pool_size = 10\nunix_socket_dir =\n"
        )
        self._own(users)
        self._own(ini)

    def command(self) -> list[str]:
        return [program("pgbouncer"), str(self.folder / "pgbouncer.ini")]


async def _run_sql(url: str, statements: tuple[str, ...]) -> None:
    import asyncpg

    connection = await asyncpg.connect(url, timeout=10)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close(timeout=5)


def _in_thread(call: Callable[[], None]) -> None:
    """Tests may ask for a database while their own loop runs in this thread."""
    import threading

    failed: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


@contextmanager
def running(server: S) -> Iterator[S]:
    """The server, started, and stopped at the end."""
    try:
        yield server.start()
    finally:
        server.stop()


# ── fixtures, a plugin of conftest.py ─────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for the tests of this process; take :func:`postgres_url` for a database of your own."""
    with running(Postgres()) as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    with postgres.database() as url:
        yield url


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """One MariaDB for the tests of this process."""
    with running(MariaDB()) as server:
        yield server


@pytest.fixture
def mariadb_url(mariadb: MariaDB) -> Iterator[str]:
    """The URL of an empty MariaDB database."""
    with mariadb.database() as url:
        yield url


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """One Redis for the tests of this process; :func:`redis_url` empties it first."""
    with running(Redis()) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """The URL of an empty Redis."""
    redis_server.flush()
    return redis_server.url()


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[Memcached]:
    """One Memcached for the tests of this process; :func:`memcached_url` empties it first."""
    with running(Memcached()) as server:
        yield server


@pytest.fixture
def memcached_url(memcached_server: Memcached) -> str:
    """The URL of an empty Memcached."""
    with socket.create_connection(("127.0.0.1", memcached_server.port), 5) as link:
        link.sendall(b"flush_all\r\n")
        assert link.recv(16) == b"OK\r\n"
    return memcached_server.url


@pytest.fixture(scope="session")
def pgbouncer(postgres: Postgres) -> Iterator[Pgbouncer]:
    """One pgbouncer in transaction mode before :func:`postgres`."""
    with running(Pgbouncer(postgres)) as server:
        yield server
