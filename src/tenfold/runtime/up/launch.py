"""How an instance is started: command line, environment, ports."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field

from tenfold.errors import ConfigError
from tenfold.runtime.up.fleet import Group
from tenfold.runtime.up.instance import Instance
from tenfold.runtime.up.process import python
from tenfold.runtime.up.roles import PUBLIC

HOST = "127.0.0.1"


class Launch(Struct, frozen=True):
    """What all instances of a fleet have in common."""

    target: str
    """``shop.app:app``"""
    data_dir: Path
    config: Path | None = None
    port: int = 8000
    """Where no balancer stands in front: the port of the first of ``web`` or ``gateway``, the next one has the next."""
    env: Mapping[str, str] = field(default_factory=dict)
    rest: Sequence[str] = ()
    """Services that have no instances of their own: what `web` serves, where others have."""
    works_beside: bool = False
    """No group is there for jobs, so that who answers requests runs them as well."""

    def command(self, instance: Instance) -> list[str]:
        """The command line of an instance whose ports are chosen."""
        words = [
            "run",
            self.target,
            "--role",
            instance.role,
            "--ops-port",
            str(instance.ops_port),
            "--no-reload",
        ]
        words += ["--data", str(self.data_dir)]
        if instance.port:
            words += ["--host", HOST, "--port", str(instance.port)]
        for service in (
            [instance.service] if instance.service else self.rest if instance.role == "web" else ()
        ):
            words += ["--service", service]
        if instance.role == "web" and self.works_beside:
            words += ["--worker"]
        if self.config is not None:
            words += ["--config", str(self.config)]
        return python(*words)

    def instance(self, group: Group, name: str, taken: Collection[int], now: float) -> Instance:
        """An instance by that name with ports of its own. Raises :class:`ConfigError` when its fixed port is taken."""
        made = Instance(
            name=name, role=group.role, service=group.service, generation=group.generation,
            since=now, started_at=now, heard_at=now,
        )  # fmt: skip
        made.ops_port = free_port(taken)
        if group.role in PUBLIC:
            made.port = self._port(group, made, {*taken, made.ops_port})
        return made

    def _port(self, group: Group, instance: Instance, taken: Collection[int]) -> int:
        if group.balanced or group.service:
            return free_port(taken)
        port = self.port + instance.number - 1
        if not free(port):
            raise ConfigError(
                f"port {port} on {HOST} is taken by another process, and {instance.name} was to answer there.",
                where="http.port",
                remedy="Stop that process, or choose another port; with a balancer ([balancer]) ports are found.",
            )
        return port


def free(port: int) -> bool:
    """Whether one may listen on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(taken: Collection[int]) -> int:
    """A port that nobody listens on now and no instance has. One that somebody else takes before the instance does makes that
    one end, and the next gets another."""
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
        if port not in taken:
            return port
