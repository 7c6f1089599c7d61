"""Puts a fleet together: from a configured app to a supervisor, with its state, balancer, sizes and companions. What
settings make of it is in :mod:`tenfold.runtime.up.reading`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from tenfold._core.clock import SystemClock
from tenfold.runtime.up import systemd
from tenfold.runtime.up.companions import Companions
from tenfold.runtime.up.edge import Edge
from tenfold.runtime.up.launch import HOST
from tenfold.runtime.up.output import Prefixed
from tenfold.runtime.up.reading import Reading, give_ports, paths_of, rules_of
from tenfold.runtime.up.roles import wanted_of
from tenfold.runtime.up.sizes import Sizes
from tenfold.runtime.up.state import State
from tenfold.runtime.up.supervisor import Reread, Supervisor
from tenfold.runtime.up.trust import trust_of

if TYPE_CHECKING:
    from tenfold.app import App


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
    overrides: Mapping[str, Any] = MappingProxyType({}),
    say: Callable[[str], object],
    write: Callable[[str], object],
    colours: bool,
    terminal: bool,
) -> Started:
    """Everything that can be refused is refused here, before anything starts. Raises :class:`ConfigError`.

    ``say`` takes the supervisor's sentences, ``write`` the lines of instances. ``overrides`` are what the app was configured
    with beside its file, and is again when the settings are read again.
    """
    settings = app.settings
    wanted = wanted_of(settings.up, [service.name for service in app.services])
    rules = rules_of(settings)
    state = State(app.data_dir)
    lock = state.lock()
    try:
        companions = Companions(settings, app.data_dir, say)
        fleet = state.load()
        fleet.want(wanted, balanced=settings.balancer.kind != "none")
        give_ports(fleet)
        trust = trust_of(app, fleet, say)
        edge = Edge.of(settings, fleet, paths_of(app), trust)
    except BaseException:
        os.close(lock)
        raise
    clock = SystemClock()
    sizes = Sizes(settings.scale, clock, settings.ops.token)
    text = {"TENFOLD_LOG_FORMAT": "text"} if terminal and settings.log.format is None else {}
    reading = Reading(
        app, target, config, fleet, edge, sizes, env={"PYTHONUNBUFFERED": "1", **text, **trust.env}
    )

    def reread() -> Reread:
        return reading.again(app.configure(config, **overrides).settings, companions.env)

    def announce() -> None:
        systemd.notify("READY=1")
        where = edge.address if edge is not None else f"http://{HOST}:{settings.http.port}"
        say(f"{app.name} is up at {where}; `tenfold ps` lists its instances, Ctrl+C ends it.")

    supervisor = Supervisor(
        fleet, rules, reading.launch(settings), state, clock,
        say=say, shown=Prefixed(write, colours=colours), front=edge, sizing=sizes, reread=reread, started=announce,
    )  # fmt: skip
    return Started(supervisor, companions, sizes, lock)
