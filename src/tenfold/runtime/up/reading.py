"""What settings make of a fleet, at its start and when they are read again.

Read again, they are followed in whole or not at all. Groups, times and the balancer's options change while everything runs;
what instances read at their start makes them be replaced; what cannot change is refused with a sentence.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from tenfold._core.settings import differences, variable
from tenfold.errors import ConfigError
from tenfold.runtime.up.edge import Edge
from tenfold.runtime.up.fleet import Fleet, Rules
from tenfold.runtime.up.launch import HOST, Launch, free_port
from tenfold.runtime.up.roles import PUBLIC, Wanted, parse_size, wanted_of
from tenfold.runtime.up.sizes import Sizes
from tenfold.runtime.up.supervisor import Reread
from tenfold.security.identity.names import BALANCER

if TYPE_CHECKING:
    from tenfold._core.sections import Settings
    from tenfold.app import App

OURS: Final = ("up.", "balancer.", "scale.", "companions.")
"""Beginnings of what the supervisor alone reads."""

FIXED: Final = (
    "app.data_dir", "up.app", "balancer.kind", "balancer.program", "companions.",
    "identity.folder", "identity.tls", "identity.trust_domain",
)  # fmt: skip
"""Beginnings of what stays as it was while a fleet runs."""


class Reading:
    """The settings that a fleet follows. ``env`` is what its instances get whatever these say."""

    def __init__(
        self,
        app: App,
        target: str,
        config: Path | None,
        fleet: Fleet,
        edge: Edge | None,
        sizes: Sizes,
        *,
        env: Mapping[str, str],
    ) -> None:
        self._app, self._target, self._config = app, target, config
        self._fleet, self._edge, self._sizes, self._env = fleet, edge, sizes, env
        self._settings = app.settings

    def launch(self, settings: Settings, env: Mapping[str, str] = {}) -> Launch:
        """How instances are started with these settings, and with ``env`` of the companions."""
        up, services = settings.up, [service.name for service in self._app.services]
        return Launch(
            target=self._target,
            data_dir=Path(settings.app.data_dir).resolve(),
            config=self._config.resolve() if self._config is not None else None,
            port=settings.http.port,
            env={**self._env, **trusted(settings), **urls_of(self._fleet, tls=settings.identity.tls), **env},
            rest=[name for name in services if name not in up.services] if up.services else (),
            works_beside=settings.worker.enabled
            and not any(each.role == "worker" for each in wanted_of(up, services)),
        )

    def again(self, settings: Settings, env: Mapping[str, str]) -> Reread:
        """Have fleet, balancer and sizes follow ``settings``. Raises :class:`ConfigError`, and has changed nothing."""
        changed = differences(self._settings, settings)
        wanted = wanted_of(settings.up, [service.name for service in self._app.services])
        rules, before = rules_of(settings), self.launch(self._settings, env)
        self._refuse(changed, wanted)
        if self._edge is not None:
            self._edge.follow(settings)
        self._fleet.want(wanted, balanced=settings.balancer.kind != "none")
        self._sizes.follow(settings.scale, settings.ops.token)
        self._settings = settings
        launch = self.launch(settings, env)
        replace = launch != before or any(not path.startswith(OURS) for path in changed)
        what = f"what differs is {', '.join(changed)}" if changed else "nothing differs"
        return Reread(rules, launch, f"The settings are read again: {what}.", replace)

    def _refuse(self, changed: Sequence[str], wanted: Sequence[Wanted]) -> None:
        for path in changed:
            if path.startswith(FIXED):
                raise ConfigError("it cannot change while the fleet runs.", where=path, remedy=_REMEDY)
        entries = {each.group for each in wanted if each.role in PUBLIC}
        runs = {g.name for g in self._fleet.groups.values() if g.role in PUBLIC and g.declared != (0, 0)}
        if entries != runs:
            raise ConfigError(
                f"who answers requests cannot change while the fleet runs: {', '.join(sorted(entries ^ runs))}.",
                where="up",
                remedy=_REMEDY,
            )


_REMEDY = "Set it back; or end the fleet with `tenfold down`, and start it again."


def trusted(settings: Settings) -> dict[str, str]:
    """The setting by which instances believe the balancer in front of them who asks: rate limits and access log would else
    know one client only."""
    if settings.balancer.kind == "none":
        return {}
    networks = list(dict.fromkeys([*settings.http.trusted_proxies, HOST]))
    return {variable("http.trusted_proxies"): msgspec.json.encode(networks).decode()}


def rules_of(settings: Settings) -> Rules:
    """What ``[up]`` says that holds for all groups. Raises :class:`ConfigError`."""
    up = settings.up
    return Rules(
        ready_timeout_s=up.ready_timeout_s,
        silent_timeout_s=up.silent_timeout_s,
        drain_s=up.drain_s if settings.balancer.kind != "none" else 0.0,
        stop_s=settings.app.stop_timeout_s + 5.0,
        restart_base_s=up.restart_base_s,
        restart_most_s=up.restart_most_s,
        crashes_max=up.crashes_max,
        crash_window_s=up.crash_window_s,
        hold_s=up.hold_s,
        memory_max=parse_size(up.memory_max),
        starting_max=max(2, os.cpu_count() or 1),
    )


def give_ports(fleet: Fleet) -> None:
    """Behind a balancer, each service has a port where the others call it, for as long as there is a fleet."""
    for group in fleet.groups.values():
        if group.service and group.balanced and not group.calls_port:
            group.calls_port = free_port({other.calls_port for other in fleet.groups.values()})


def urls_of(fleet: Fleet, *, tls: bool = False) -> Mapping[str, str]:
    """Settings by which instances find the services that are elsewhere; with ``tls``, the balancer shows its certificate
    there, and is shown theirs."""
    found: dict[str, str] = {}
    for group in fleet.groups.values():
        if group.calls_port:
            scheme = "https" if tls else "http"
            found[variable(f"services.{group.service}.url")] = f"{scheme}://{HOST}:{group.calls_port}"
            if tls:
                found[variable(f"services.{group.service}.identity")] = BALANCER
    return found


def paths_of(app: App) -> Mapping[str, Sequence[str]]:
    """By service, how the paths of its operations begin."""
    return {
        service.name: sorted(
            {"/" + o.path.lstrip("/").partition("/")[0] for o in service.operations if o.routed}
        )
        for service in app.services
    }
