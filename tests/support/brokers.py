"""Real brokers for tests: RabbitMQ, NATS with JetStream, Kafka, and moto, which stands in for SQS.

Like the servers of :mod:`support.servers`, with a switch for what happens to servers. One of each lives per test
process; tests keep apart by names (``events.prefix``), in RabbitMQ also by virtual hosts.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Self

import pytest

from support.servers import Redis, Server, free_port, program, running
from tenfold.conformance._broker_case import ServerSwitch

CACHE = Path(os.environ.get("TENFOLD_TESTS_CACHE") or Path.home() / ".cache" / "tenfold-tests")
"""Where scripts/brokers.py puts Kafka and moto."""


class BrokerServer(Server):
    """A server whose data can be taken away."""

    def wipe(self) -> Self:
        """Crash, and come back on the same port with an empty disk."""
        self.kill()
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return self.start()

    def restart(self) -> Self:
        """Crash, and come back with the data that there were."""
        self.kill()
        return self.start()


class BrokerSwitch(ServerSwitch):
    """A real server, killed and started again in a thread."""

    def __init__(self, server: BrokerServer) -> None:
        self.server = server

    async def stop(self) -> None:
        await asyncio.to_thread(self.server.kill)

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)

    async def wipe(self) -> None:
        await asyncio.to_thread(self.server.wipe)


class Epmd(Server):
    """Erlang's directory of nodes. Started beforehand, or RabbitMQ would leave a daemon of its own behind."""

    user = "rabbitmq"

    def command(self) -> list[str]:
        return [program("epmd"), "-port", str(self.port), "-address", "127.0.0.1"]


class RabbitMQ(BrokerServer):
    """RabbitMQ without plugins; the user is ``guest``."""

    user = "rabbitmq"

    def __init__(self, port: int | None = None) -> None:
        super().__init__(port)
        self.node = f"tenfold-{self.port}@localhost"
        self.node_port = free_port()
        self._epmd = Epmd()

    def url(self, vhost: str = "") -> str:
        return f"rabbitmq://guest:guest@{self.address}/{vhost}"

    def prepare(self) -> None:
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.console.level = warning\n"
            # Debian's machines that run tests are small; half a gigabyte is what it needs at most here.
            "vm_memory_high_watermark.absolute = 512MB\ndisk_free_limit.absolute = 50MB\n"
        )
        # Every folder is read at start-up, and most are plugins that are never enabled.
        plugins = self.folder / "plugins"
        plugins.mkdir()
        for folder in (self._home() / "plugins").iterdir():
            if not folder.name.startswith("rabbitmq_") or folder.name.startswith("rabbitmq_prelaunch"):
                (plugins / folder.name).symlink_to(folder)

    def command(self) -> list[str]:
        return [str(self._home() / "sbin" / "rabbitmq-server")]

    def environment(self) -> dict[str, str]:
        folder = self.folder
        return {
            "PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd.port), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_BYTES": "0",
            "RABBITMQ_NODENAME": self.node, "RABBITMQ_DIST_PORT": str(self.node_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"), "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"), "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_PLUGINS_DIR": str(folder / "plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            # Erlang takes the place of the script, so that signals reach it, and does not spin while it is idle.
            "RABBITMQ_ALLOW_INPUT": "1", "RABBITMQ_SERVER_START_ARGS": "-noinput",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
                "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
        }  # fmt: skip

    def start(self) -> Self:
        if self._epmd.ended:
            self._epmd.start()
        return super().start()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        super().stop(how)
        self._epmd.stop()

    def evaluate(self, expression: str) -> str:
        """The value of an Erlang expression on the node, in milliseconds where rabbitmqctl takes a second."""
        cookie = (self.folder / ".erlang.cookie").read_text()
        done = subprocess.run(
            [program("erl_call", "/usr/lib/erlang/bin"), "-n", self.node, "-c", cookie, "-e"],
            input=f"{expression}.\n", capture_output=True, text=True, check=False, timeout=30,
            env=self.environment(),
        )  # fmt: skip
        if done.returncode or not done.stdout.startswith("{ok"):
            raise RuntimeError(f"{expression} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def vhost(self) -> str:
        """The URL of an empty virtual host; gone with the server."""
        name = f"t-{uuid.uuid4().hex[:12]}"
        self.evaluate(
            f'rabbit_vhost:add(<<"{name}">>, <<"tests">>), rabbit_auth_backend_internal:set_permissions('
            f'<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"tests">>)'
        )
        return f"{self.url(name)}?settle_s=0"

    @staticmethod
    def _home() -> Path:
        program("rabbitmq-server")
        for folder in sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"), reverse=True):
            return folder
        pytest.skip("RabbitMQ is not where Debian puts it; `make test` installs it on Debian.")


class Nats(BrokerServer):
    """NATS with JetStream."""

    @property
    def url(self) -> str:
        return f"nats://{self.address}"

    def command(self) -> list[str]:
        return [
            program("nats-server"), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder / "data"),
        ]  # fmt: skip


class Kafka(BrokerServer):
    """One Kafka that is broker and controller, with a small heap."""

    user = ""
    MEMORY: ClassVar = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

    def __init__(self, port: int | None = None) -> None:
        super().__init__(port)
        self.controller_port = free_port()

    @property
    def url(self) -> str:
        return f"kafka://{self.address}"

    def prepare(self) -> None:
        listeners = {"PLAINTEXT": self.port, "CONTROLLER": self.controller_port}
        settings = {
            "process.roles": "broker,controller", "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items()),
            "controller.listener.names": "CONTROLLER", "log.dirs": str(self.folder / "data"),
            "broker.heartbeat.interval.ms": "200", "broker.session.timeout.ms": "1000",  # else a restart waits for 9 s
            "auto.create.topics.enable": "false", "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.replication.factor": "1", "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1", "share.coordinator.state.topic.replication.factor": "1",
            "log.cleaner.dedupe.buffer.size": "4194304", "num.network.threads": "2", "num.io.threads": "2",
        }  # fmt: skip
        path = self.folder / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        cluster = "dGVuZm9sZC10ZXN0cy0xMg"  # any 16 bytes
        self.run(*self._java("kafka.tools.StorageTool"), "format", "-t", cluster, "-c", str(path))

    def command(self) -> list[str]:
        return [*self._java("kafka.Kafka"), str(self.folder / "server.properties")]

    def _java(self, main: str) -> list[str]:
        found = sorted(CACHE.glob("kafka-*/complete"))
        if not found:
            pytest.skip("Kafka is not in the tests' cache; `make test` or scripts/brokers.py downloads it.")
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return [program("java"), *self.MEMORY, quiet, "-cp", f"{found[-1].parent}/*", main]


class DurableRedis(Redis, BrokerServer):
    """A Redis that comes back with its data."""

    def __init__(self) -> None:
        super().__init__("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")


class Moto(BrokerServer):
    """moto in server mode speaks SQS's protocol and keeps everything in memory: a restart is a wipe."""

    user = ""

    @property
    def url(self) -> str:
        return f"sqs://test:test@eu-central-1?endpoint=http://{self.address}"

    def command(self) -> list[str]:
        found = sorted(CACHE.glob("moto-*/complete"))
        if not found:
            pytest.skip("moto is not in the tests' cache; `make test` or scripts/brokers.py installs it.")
        return [str(found[-1].parent / "bin" / "moto_server"), "-H", "127.0.0.1", "-p", str(self.port)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "MOTO_ACCOUNT_ID": "123456789012", "PYTHONDONTWRITEBYTECODE": "1"}

    def flush(self) -> None:
        """Forget everything."""
        with (
            suppress(OSError),
            urllib.request.urlopen(
                urllib.request.Request(f"http://{self.address}/moto-api/reset", method="POST"), timeout=10
            ) as answer,
        ):
            answer.read()


# ── fixtures, a plugin of conftest.py ─────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """One RabbitMQ for the tests of this process; take :func:`rabbitmq_url` for a virtual host of your own."""
    with running(RabbitMQ()) as server:
        yield server


@pytest.fixture
def rabbitmq_url(rabbitmq: RabbitMQ) -> str:
    """The URL of an empty virtual host."""
    return rabbitmq.vhost()


@pytest.fixture(scope="session")
def nats() -> Iterator[Nats]:
    """One NATS for the tests of this process."""
    with running(Nats()) as server:
        yield server


@pytest.fixture
def nats_url(nats: Nats) -> str:
    """The URL of a NATS that other tests use, too: take a prefix that is your own."""
    return nats.url


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """One Kafka for the tests of this process."""
    with running(Kafka()) as server:
        yield server


@pytest.fixture
def kafka_url(kafka: Kafka) -> str:
    """The URL of a Kafka that other tests use, too: take a prefix that is your own."""
    return kafka.url


@pytest.fixture(scope="session")
def durable_redis() -> Iterator[DurableRedis]:
    """One Redis with a log for the tests of this process; take a database of your own."""
    with running(DurableRedis()) as server:
        yield server


@pytest.fixture
def durable_redis_url(durable_redis: DurableRedis) -> str:
    """The URL of an empty Redis with a log."""
    durable_redis.flush()
    return durable_redis.url()


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    """One moto for the tests of this process."""
    with running(Moto()) as server:
        yield server


@pytest.fixture
def sqs_url(moto: Moto) -> str:
    """The URL of an SQS without queues."""
    moto.flush()
    return moto.url


@pytest.fixture
def prefix() -> str:
    """A value of ``events.prefix`` that nobody else uses."""
    return f"t{uuid.uuid4().hex[:10]}"
