"""Puts a fleet together: from a configured app to a supervisor, with its state, balancer, sizes and companions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tenfold._core.clock import SystemClock
from tenfold._core.settings import variable
from tenfold.errors import ConfigError
from tenfold.runtime.up import systemd
from tenfold.runtime.up.companions import Companions
from tenfold.runtime.up.edge import Edge
from tenfold.runtime.up.fleet import Fleet, Rules
from tenfold.runtime.up.launch import HOST, Launch, free_port
from tenfold.runtime.up.output import Prefixed
from tenfold.runtime.up.roles import parse_size, wanted_of
from tenfold.runtime.up.sizes import Sizes
from tenfold.runtime.up.state import State
from tenfold.runtime.up.supervisor import Supervisor
from tenfold.security.identity.issuing import issue

if TYPE_CHECKING:
    from tenfold._core.sections import Settings
    from tenfold.app import App

KEYS: Final = "identity"
"""Folder of services' keys below the data folder, where the settings name none."""


class Started:
    """A supervisor with what has to begin before it and to end after it. ``async with`` it, and run the supervisor."""

    def __init__(self, supervisor: Supervisor, companions: Companions, sizes: Sizes, lock: int) -> None:
        self.supervisor = supervisor
        self._companions, self._sizes, self._lock = companions, sizes, lock

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._companions.start)
        self.supervisor.add_environment(self._companions.env)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._sizes.close()
        await asyncio.to_thread(self._companions.stop)
        os.close(self._lock)


def prepare(
    app: App,
    target: str,
    config: Path | None,
    *,
    say: Callable[[str], object],
    write: Callable[[str], object],
    colours: bool,
    terminal: bool,
) -> Started:
    """Everything that can be refused is refused here, before anything starts. Raises :class:`ConfigError`.

    ``say`` takes the supervisor's sentences, ``write`` the lines of instances.
    """
    settings = app.settings
    services = [service.name for service in app.services]
    wanted = wanted_of(settings.up, services)
    rules = rules_of(settings)
    state = State(app.data_dir)
    lock = state.lock()
    try:
        companions = Companions(settings, app.data_dir, say)
        fleet = state.load()
        fleet.want(wanted, balanced=settings.balancer.kind != "none")
        _give_ports(fleet)
        edge = Edge.of(settings, fleet, _paths(app))
        keys = _keys(app, fleet, say)
    except BaseException:
        os.close(lock)
        raise
    clock = SystemClock()
    sizes = Sizes(settings.scale, clock, settings.ops.token)
    text = {"TENFOLD_LOG_FORMAT": "text"} if terminal and settings.log.format is None else {}
    launch = Launch(
        target=target,
        data_dir=app.data_dir.resolve(),
        config=config.resolve() if config is not None else None,
        port=settings.http.port,
        env={"PYTHONUNBUFFERED": "1", **text, **_urls(fleet), **keys},
        rest=[name for name in services if name not in settings.up.services] if settings.up.services else (),
        works_beside=settings.worker.enabled and not any(each.role == "worker" for each in wanted),
    )

    def announce() -> None:
        systemd.notify("READY=1")
        where = edge.address if edge is not None else f"http://{HOST}:{settings.http.port}"
        say(f"{app.name} is up at {where}; `tenfold ps` lists its instances, Ctrl+C ends it.")

    supervisor = Supervisor(
        fleet, rules, launch, state, clock,
        say=say, shown=Prefixed(write, colours=colours), front=edge, sizing=sizes, started=announce,
    )  # fmt: skip
    return Started(supervisor, companions, sizes, lock)


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


def _give_ports(fleet: Fleet) -> None:
    """Behind a balancer, each service has a port where the others call it, for as long as there is a fleet."""
    for group in fleet.groups.values():
        if group.service and group.balanced and not group.calls_port:
            group.calls_port = free_port({other.calls_port for other in fleet.groups.values()})


def _urls(fleet: Fleet) -> Mapping[str, str]:
    """Settings by which instances find the services that are elsewhere."""
    return {
        variable(f"services.{group.service}.url"): f"http://{HOST}:{group.calls_port}"
        for group in fleet.groups.values()
        if group.calls_port
    }


def _keys(app: App, fleet: Fleet, say: Callable[[str], object]) -> Mapping[str, str]:
    """Settings by which services know each other. In development they get keys here and now; production wants to be told
    where theirs are. Raises :class:`ConfigError`."""
    settings = app.settings
    if settings.identity.folder or not any(group.calls_port for group in fleet.groups.values()):
        return {}
    if settings.app.env == "production":
        raise ConfigError(
            "services in processes of their own prove to each other who calls, and have no keys.",
            where="identity.folder",
            remedy=f'Run `tenfold identity issue`, and set [identity] folder = "{KEYS}".',
        )
    fronts = [group.name for group in fleet.groups.values() if group.role == "gateway"]
    made = [
        name
        for name in (*(service.name for service in app.services), *fronts)
        if issue(app.data_dir / KEYS, name, app.clock.now()) is not None
    ]
    if made:
        say(f"Made keys by which services know each other, in {app.data_dir / KEYS}: {', '.join(made)}.")
    return {variable("identity.folder"): KEYS}


def _paths(app: App) -> Mapping[str, Sequence[str]]:
    """By service, how the paths of its operations begin."""
    return {
        service.name: sorted(
            {"/" + o.path.lstrip("/").partition("/")[0] for o in service.operations if o.routed}
        )
        for service in app.services
    }
