"""Servers for development that ``tenfold up`` starts along, from the programs that this machine has (those in containers:
:mod:`tenfold.runtime.up.compose`).

Each has a folder below ``<data>/companions`` and keeps its port and its data; loopback interface only, with a password of
its own where the server has any. One that an earlier supervisor left running is taken over. Instances find them by
environment variables, so nothing has to be configured. Not for production: nobody backs them up.
"""

from __future__ import annotations

import os
import pwd
import secrets
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec

from tenfold._core.sections import Settings
from tenfold._core.settings import variable
from tenfold.errors import ConfigError, TenfoldError
from tenfold.runtime.up.compose import Compose
from tenfold.runtime.up.instance import Instance
from tenfold.runtime.up.launch import HOST, free, free_port
from tenfold.runtime.up.process import Process

FOLDER: Final = "companions"
START_S: Final = 120.0
STOP_S: Final = 20.0


class Place(msgspec.Struct):
    """What is remembered of a companion between supervisors."""

    port: int
    password: str
    second_port: int = 0
    """Of what it needs beside itself."""
    pid: int = 0
    created_at: float = 0.0


class Companion(ABC):
    """One server: how it is found, prepared, started, and which settings lead to it."""

    name: ClassVar[str]
    """Of the key in ``[companions]``."""
    program: ClassVar[str]
    package: ClassVar[str]
    """Debian's."""
    folders: ClassVar[tuple[str, ...]] = ()
    """Patterns of folders that have the program and are on nobody's path."""
    urls: ClassVar[tuple[str, ...]]
    """Settings that get its URL; the first may not be set otherwise."""
    user: ClassVar[str] = ""
    """Who runs it when root would: some refuse to be root."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, data_dir: Path) -> None:
        self.folder = (data_dir / FOLDER / self.name).absolute()
        self._file = self.folder / "companion.json"
        self.found = self._find(self.program)
        self.place = self._place()
        self._process: Process | None = None

    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def command(self) -> list[str]: ...

    def prepare(self) -> None:  # noqa: B027 - some need none
        """Files that it needs; called before each start."""

    def environment(self) -> Mapping[str, str]:
        return {}

    def answers(self) -> bool:
        """Whether it is ready."""
        with suppress(OSError), socket.create_connection((HOST, self.place.port), 1):
            return True
        return False

    def start(self) -> str:
        """Start it, or take it over; a sentence. Blocks until it answers."""
        known = Instance(name=self.name, role="web", pid=self.place.pid, created_at=self.place.created_at)
        self._process = Process.adopt(known) if known.pid else None
        if self._process is not None:
            return f"{self.name} runs on at port {self.place.port}."
        if not free(self.place.port):
            self.place.port = free_port(())
        self.folder.mkdir(parents=True, exist_ok=True)
        self._own()
        self.prepare()
        self._process = Process.start(
            self._as_user(self.command()), self.name, self.folder / "server.log", self.environment()
        )
        self.place.pid, self.place.created_at = self._process.pid, self._process.created_at
        self._save()
        self._wait(self._process)
        return f"{self.name} runs at port {self.place.port}, with its data in {self.folder}."

    def stop(self) -> None:
        """End it in order."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, self.stop_signal)
        until = time.monotonic() + STOP_S
        while not self._process.ended():
            if time.monotonic() > until:
                self._process.kill()
            time.sleep(0.05)
        self.place.pid = 0
        self._save()

    def tool(self, *words: str, env: Mapping[str, str] | None = None) -> None:
        """Run one of its own tools to its end. Raises :class:`TenfoldError` with what it wrote."""
        done = subprocess.run(  # noqa: S603 - the machine's own program
            self._as_user([self._find(words[0]), *words[1:]]),
            cwd=self.folder, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})},
        )  # fmt: skip
        if done.returncode:
            raise TenfoldError(f"{words[0]} failed: {(done.stderr or done.stdout).strip()}")

    def _find(self, program: str) -> str:
        from shutil import which

        for pattern in self.folders:
            for folder in sorted(Path("/").glob(pattern), reverse=True):
                if (folder / program).exists():
                    return str(folder / program)
        path = which(program) or which(program, path="/usr/sbin:/usr/local/sbin:/sbin:/opt/homebrew/bin")
        if path is None:
            raise ConfigError(
                f"{program} is not installed.",
                where=f"companions.{self.name}",
                remedy=f"Run: apt install {self.package}; or run the server in a container (companions.compose), "
                f"and set {' and '.join(self.urls)} instead.",
            )
        return path

    def _place(self) -> Place:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Place)
        except (OSError, msgspec.DecodeError):
            return Place(free_port(()), secrets.token_urlsafe(16))

    def _save(self) -> None:
        self._file.touch(0o600)
        self._file.write_bytes(msgspec.json.encode(self.place))

    def _wait(self, process: Process) -> None:
        until = time.monotonic() + START_S
        while not self.answers():
            how = process.ended()
            if how or time.monotonic() > until:
                log = (self.folder / "server.log").read_text(errors="replace")[-1500:].strip()
                raise TenfoldError(f"{self.name} did not start{f' ({how})' if how else ''}:\n{log}")
            time.sleep(0.05)

    def _own(self) -> None:
        entry = self._entry()
        if entry is not None:
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)

    def _entry(self) -> pwd.struct_passwd | None:
        if os.geteuid() != 0 or not self.user:
            return None
        try:
            return pwd.getpwnam(self.user)
        except KeyError:
            return None

    def _as_user(self, command: list[str]) -> list[str]:
        entry = self._entry()
        if entry is None:
            return command
        return [
            "setpriv",
            f"--reuid={entry.pw_uid}",
            f"--regid={entry.pw_gid}",
            "--clear-groups",
            "--",
            *command,
        ]


class Postgresql(Companion):
    """PostgreSQL with a database ``tenfold``."""

    name, program, package = "postgresql", "postgres", "postgresql"
    folders = ("usr/lib/postgresql/*/bin",)
    urls = ("database.url",)
    user = "postgres"
    stop_signal = signal.SIGINT  # clients are disconnected

    def url(self) -> str:
        return f"postgresql://tenfold:{self.place.password}@{HOST}:{self.place.port}/tenfold"

    def prepare(self) -> None:
        if (self.folder / "data" / "PG_VERSION").exists():
            return
        password = self.folder / "password"
        password.write_text(self.place.password)
        password.chmod(0o600)
        entry = self._entry()
        if entry is not None:
            os.chown(password, entry.pw_uid, entry.pw_gid)
        self.tool(
            "initdb", "-D", str(self.folder / "data"), "-U", "tenfold", "--pwfile", str(password),
            "--auth", "scram-sha-256", "--locale", "C.UTF-8", "--encoding", "UTF8",
        )  # fmt: skip

    def command(self) -> list[str]:
        options = {"port": self.place.port, "listen_addresses": HOST, "unix_socket_directories": ""}
        sets = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [self.found, "-D", str(self.folder / "data"), *sets]

    def answers(self) -> bool:
        access = ["-h", HOST, "-p", str(self.place.port)]
        try:
            self.tool("pg_isready", "-q", *access)
        except TenfoldError:
            return False
        env = {"PGPASSWORD": self.place.password}
        with suppress(TenfoldError):  # it is there already
            self.tool("createdb", *access, "-U", "tenfold", "--maintenance-db=postgres", "tenfold", env=env)
        return True


class Redis(Companion):
    """Redis that keeps what it was told."""

    name, program, package = "redis", "redis-server", "redis-server"
    urls = ("cache.url", "guard.url")

    def url(self) -> str:
        return f"redis://:{self.place.password}@{HOST}:{self.place.port}/0"

    def prepare(self) -> None:
        config = self.folder / "redis.conf"
        config.touch(0o600)
        config.write_text(
            f"port {self.place.port}\nbind {HOST}\nrequirepass {self.place.password}\ndir {self.folder}\nappendonly yes\n"
        )

    def command(self) -> list[str]:
        return [self.found, str(self.folder / "redis.conf")]


class Rabbitmq(Companion):
    """RabbitMQ with its user ``guest``, whom it lets in from this machine only."""

    name, program, package = "rabbitmq", "rabbitmq-server", "rabbitmq-server"
    folders = ("usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin", "usr/lib/erlang/bin")
    urls = ("events.url",)
    user = "rabbitmq"

    def url(self) -> str:
        return f"rabbitmq://guest:guest@{HOST}:{self.place.port}/"

    def command(self) -> list[str]:
        return [self.found]

    def prepare(self) -> None:
        self.place.second_port = free_port((self.place.port,))

    def stop(self) -> None:
        """The register of nodes as well, which Erlang starts along and leaves running."""
        super().stop()
        if self.place.second_port:
            with suppress(TenfoldError):  # it has ended already
                self.tool("epmd", "-kill", env={"ERL_EPMD_PORT": str(self.place.second_port)})

    def environment(self) -> Mapping[str, str]:
        return {
            "HOME": str(self.folder),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(self.place.second_port),
            "ERL_CRASH_DUMP_BYTES": "0",
            "RABBITMQ_NODENAME": f"tenfold-{self.place.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.place.port),
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_DIST_PORT": str(free_port((self.place.port,))),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            # Erlang takes the place of the script, so that signals reach it.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
            # Schedulers that spin while they wait would take a core of a machine for development.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none"
            " -kernel inet_dist_use_interface {127,0,0,1}",
        }


KINDS: Final[tuple[type[Companion], ...]] = (Postgresql, Redis, Rabbitmq)


class Companions:
    """Those that ``[companions]`` asks for. Raises :class:`ConfigError` where a program is not installed, or where the
    settings lead elsewhere already."""

    def __init__(self, settings: Settings, data_dir: Path, say: Callable[[str], object]) -> None:
        self._say = say
        wanted = [kind for kind in KINDS if getattr(settings.companions, kind.name)]
        for kind in wanted:
            _refuse_both(kind, settings)
        self._own = [kind(data_dir) for kind in wanted]
        compose = settings.companions.compose
        self._all: list[Companion | Compose] = [*([Compose(compose)] if compose else []), *self._own]

    @property
    def env(self) -> dict[str, str]:
        """Variables by which instances find them. Known once they were started: a port may have been taken."""
        return {variable(path): each.url() for each in self._own for path in each.urls}

    def start(self) -> None:
        """Start all of them; when one fails, those before it end. Blocks."""
        begun: list[Companion | Compose] = []
        try:
            for each in self._all:
                begun.append(each)
                self._say(each.start())
        except BaseException:
            self._end(begun)
            raise

    def stop(self) -> None:
        """End all of them, the last one first. Blocks."""
        self._end(self._all)

    def _end(self, those: Sequence[Companion | Compose]) -> None:
        """One that does not end in order keeps no other from ending."""
        for each in reversed(those):
            try:
                each.stop()
            except TenfoldError as error:
                self._say(str(error))


def _refuse_both(kind: type[Companion], settings: Settings) -> None:
    path = kind.urls[0]
    section, _, key = path.partition(".")
    said: Any = getattr(getattr(settings, section), key)
    if said != getattr(type(getattr(settings, section))(), key):
        raise ConfigError(
            f"{path} is set too, and only one of them can be what instances use.",
            where=f"companions.{kind.name}",
            remedy=f"Remove {path}, or set companions.{kind.name} = false.",
        )
