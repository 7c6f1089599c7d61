"""``tenfold up``, ``ps``, ``scale``, ``restart``, ``reload`` and ``down``: a fleet on one machine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tenfold._core import settings
from tenfold.cli import console, target
from tenfold.cli.run import Data
from tenfold.cli.target import Config, Target
from tenfold.errors import TenfoldError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenfold._core.sections import Settings
    from tenfold.runtime.up.control import Request, Row, Said
    from tenfold.runtime.up.starting import Started
    from tenfold.runtime.up.supervisor import Supervisor

STATES = {"ready": console.GREEN, "held": console.RED}


def up(
    app: Target = None,
    /,
    *,
    data: Data = None,
    config: Config = None,
    systemd: Annotated[
        bool, Parameter(negative=(), help="Print a systemd unit that does this, and start nothing.")
    ] = False,
) -> int:
    """Keep a fleet running on this machine: instances by role, balancer, companions.

    What it consists of is said under [up], [balancer], [scale] and [companions] in tenfold.toml. Ctrl+C or SIGTERM ends it in
    order; SIGHUP reads the settings again and replaces one instance after the other, where no terminal is. Instances survive a supervisor that dies: start it again, and it
    takes them over.
    """
    from tenfold.runtime.up.process import require_psutil
    from tenfold.runtime.up.starting import prepare

    require_psutil()
    module, name = target.named(app or settings.peek("up.app", config) or None, config)
    loaded = target.load(f"{module}:{name}", config)
    overrides: dict[str, Any] = {} if data is None else {"app__data_dir": str(data)}
    loaded.configure(config, **overrides)
    if systemd:
        console.say(_unit(loaded.name, f"{module}:{name}", loaded.settings, config).rstrip())
        return 0
    return asyncio.run(
        _keep(
            prepare(
                loaded,
                f"{module}:{name}",
                config,
                overrides=overrides,
                say=_say,
                write=_write,
                colours=console.coloured(),
                terminal=sys.stdout.isatty(),
            )
        )
    )


def ps(*, data: Data = None, config: Config = None) -> int:
    """List the instances of the fleet that runs here: state, ports, age, memory, CPU."""
    from tenfold.runtime.up.control import Request

    *_, last = tuple(_ask(Request("ps"), data, config))
    console.table([_row(row) for row in last.rows], headings=_HEADINGS, cut=True)
    if not last.rows:
        console.say(console.paint("Nothing is wanted, and nothing runs.", console.DIM))
    return 0


def scale(
    *counts: Annotated[str, Parameter(name="ROLE=COUNT", help="web=4, or web=2..6 to follow the load.")],
    data: Data = None,
    config: Config = None,
) -> int:
    """Change how many instances of a role, or of a service, run; returns when they are ready.

    It lasts until [up] says something else, or the fleet ends.
    """
    from tenfold.runtime.up.control import Request

    return _tell(Request("scale", counts), data, config)


def restart(
    *groups: Annotated[str, Parameter(name="ROLE", help="web, or a service. Default: all.")],
    rolling: Annotated[
        bool, Parameter(help="One after the other, each once its successor is ready; else all at once.")
    ] = True,
    data: Data = None,
    config: Config = None,
) -> int:
    """Replace instances by new ones with the present code and settings; returns when those are ready."""
    from tenfold.runtime.up.control import Request

    return _tell(Request("restart", groups, rolling), data, config)


def reload(*, data: Data = None, config: Config = None) -> int:
    """Have the fleet that runs here follow its settings as they are now; returns when it does.

    Counts, times and the balancer's options change without a restart; instances are replaced, one after the other, where
    something else differs. Settings that are wrong, or cannot change, are named, and everything goes on as before.
    """
    from tenfold.runtime.up.control import Request

    return _tell(Request("reload"), data, config)


def down(*, data: Data = None, config: Config = None) -> int:
    """End the fleet that runs here: requests in flight are answered, jobs handed back."""
    from tenfold.runtime.up.control import Request

    return _tell(Request("down"), data, config)


_HEADINGS = ("instance", "state", "port", "ops", "pid", "age", "memory", "cpu", "")


async def _keep(started: Started) -> int:
    from tenfold.runtime.up.systemd import notify

    supervisor = started.supervisor
    _install_signals(supervisor)
    async with started:
        await supervisor.run()
    notify("STOPPING=1")
    _say("The fleet has ended.")
    return 0


def _install_signals(supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()

    def asked() -> None:
        _say("The fleet is told to end; a second signal leaves it running, without a supervisor.")
        supervisor.stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, os._exit, 128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    # Of a terminal it means that somebody has closed it.
    loop.add_signal_handler(signal.SIGHUP, asked if sys.stdout.isatty() else partial(_renew, supervisor))


def _renew(supervisor: Supervisor) -> None:
    try:
        supervisor.reload(replace=True)
    except TenfoldError as error:
        _say(f"Everything goes on as it was: {error}")


def _unit(name: str, named: str, found: Settings, config: Path | None) -> str:
    from getpass import getuser

    from tenfold.runtime.up import systemd
    from tenfold.runtime.up.process import python

    words = ["up", named, "--data", str(Path(found.app.data_dir).resolve())]
    words += ["--config", str(config.resolve())] if config is not None else []
    stop_s = found.app.stop_timeout_s + found.up.drain_s + found.balancer.stop_timeout_s
    return systemd.unit(
        name, python(*words), Path.cwd(), getuser(), stop_s=stop_s, start_s=2 * found.up.ready_timeout_s + 30
    )


def _ask(request: Request, data: Path | None, config: Path | None) -> Iterator[Said]:
    from tenfold.runtime.up.control import ask
    from tenfold.runtime.up.state import State

    folder = data or Path(settings.peek("app.data_dir", config) or "data")
    return ask(State(folder).socket, request)


def _tell(request: Request, data: Path | None, config: Path | None) -> int:
    """Show what the supervisor says until it is done; the exit code."""
    for said in _ask(request, data, config):
        if said.failed:
            return console.fail(said.sentence, 1)
        if said.sentence:
            console.say(said.sentence if said.done else console.paint(said.sentence, console.DIM))
    return 0


def _row(row: Row) -> tuple[str, ...]:
    instance = row.instance
    state = console.paint(instance.state, STATES.get(instance.state, console.YELLOW))
    if not instance.pid:
        return (instance.name, state, *[""] * 6, row.about)
    return (
        instance.name,
        state,
        str(instance.port or "·"),
        str(instance.ops_port),
        str(instance.pid),
        _age(row.age_s),
        f"{instance.memory >> 20:,} MiB" if instance.memory else "",
        f"{instance.cpu:.0%}",
        row.about,
    )


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _write(text: str) -> None:
    with suppress(OSError):  # who read it has gone, and the fleet goes on
        sys.stdout.write(text)
        sys.stdout.flush()


def _say(sentence: str) -> None:
    with suppress(OSError):  # likewise
        console.note(f"{console.paint('tenfold', console.BOLD, sys.stderr)} | {sentence}")
