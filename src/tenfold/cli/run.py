"""``tenfold run``: serve an app."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from tenfold._core import settings
from tenfold.cli import banner, console, target
from tenfold.cli.target import Config, Target
from tenfold.errors import ConfigError, TenfoldError

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.runtime.reload import Sources
    from tenfold.runtime.serve import Roles

Port = Annotated[int | None, Parameter(help="Port of the API (http.port); 0 takes any free one.")]
OpsPort = Annotated[int | None, Parameter(help="Port of the operations page (ops.port).")]
Host = Annotated[str | None, Parameter(help="Address that the API listens on (http.host).")]
Data = Annotated[Path | None, Parameter(help="Folder of everything the app keeps (app.data_dir).")]
Server = Annotated[Literal["uvicorn", "granian"] | None, Parameter(help="HTTP server (http.server).")]
AsRole = Annotated[
    Literal["web", "worker", "relay", "scheduler", "gateway"] | None,
    Parameter(help="Do this and nothing else; `tenfold up` starts instances so. Default: web, and worker."),
]
WithWorker = Annotated[bool | None, Parameter(help="Run jobs in this process too (worker.enabled).")]
Services = Annotated[
    list[str] | None,
    Parameter(
        name="--service",
        negative=(),
        help="Serve this service of the app only, and call the others where they are ([services.NAME] url); again for "
        "more. Default: all.",
    ),
]
Reload = Annotated[
    bool | None,
    Parameter(help="Start again when the code changes. Default: in development, on a terminal."),
]


def run(
    app: Target = None,
    /,
    *,
    port: Port = None,
    ops_port: OpsPort = None,
    host: Host = None,
    data: Data = None,
    config: Config = None,
    worker: WithWorker = None,
    reload: Reload = None,
    server: Server = None,
    role: AsRole = None,
    service: Services = None,
) -> int:
    """Serve an app, or some of its services: API, operations page and worker in one process."""
    overrides: dict[str, Any] = {
        "http__port": port,
        "ops__port": ops_port,
        "http__host": host,
        "http__server": server,
        "app__data_dir": None if data is None else str(data),
        "worker__enabled": worker,
    }
    read_at = time.time()
    watching = _reloads(reload, config)
    try:
        loaded = target.load(app, config)
        if role == "gateway":
            return serve_gateway(loaded, config, overrides)
        loaded.serve_only(*(service or ()))
        loaded.configure(config, **overrides)
        if own := own_role(loaded):
            loaded.configure(config, **overrides, **own)
        return serve(
            loaded, _roles(loaded, role, worker), _sources(app, config, read_at, loaded) if watching else None
        )
    except TenfoldError as error:
        if not watching or _not_in_code(error):
            raise
        return _wait_for_change(error, _sources(app, config, read_at))


def own_role(app: App) -> dict[str, Any]:
    """Settings by which a process of one service connects as the role that `tenfold identity database` has made for it;
    none where it has made none. Only user and password are of that role: where the database is, the settings say."""
    from tenfold.security.identity import files

    settings = app.settings
    if len(app.services) != 1 or not app.elsewhere or not settings.identity.folder:
        return {}
    path = app.data_dir / settings.identity.folder / app.services[0].name / "database.url"
    if not path.exists():
        return {}
    role = files.read_private(path).decode().strip()
    urls = (settings.database.url, *settings.database.replicas)
    said, *replicas = (_as(role, url) for url in urls)
    return {"database__url": said, "database__replicas": replicas}


def _as(role: str, url: str) -> str:
    scheme, _, rest = url.partition("://")
    user = role.partition("://")[2].rpartition("@")[0]
    return f"{scheme}://{user}@{rest.rpartition('@')[2]}"


def serve(app: App, roles: Roles, reload: Sources | None = None) -> int:
    """Serve a configured app until a signal comes, with this process's log."""
    from tenfold import dashboard
    from tenfold.runtime.serve import run as serve_until_signal
    from tenfold.telemetry import log

    dashboard.attach(app)
    app.logging = log.configure(app.settings.log, app.clock)
    try:
        return serve_until_signal(
            app,
            roles,
            started=lambda addresses: banner.show(app, roles, addresses, reloads=reload is not None),
            reload=reload,
        )
    finally:
        app.logging.close()


def serve_gateway(app: App, config: Path | None, overrides: dict[str, Any]) -> int:
    """Serve as a gateway until a signal comes, with these settings over those of the file."""
    from tenfold.gateway.role import stand_in_front
    from tenfold.runtime.serve import Roles

    docs = app.configure(config, **overrides).settings.shows_docs
    # Its own document gives way to that of all services, and WebSockets are passed on over ASGI.
    behind: dict[str, Any] = {**overrides, "http__docs": False, "http__server": "uvicorn"}
    app.configure(config, **behind)
    stand_in_front(app, docs=docs)
    return serve(app, Roles(web=True, worker=False))


def _roles(app: App, role: str | None, worker: bool | None) -> Roles:
    """What a process of ``role`` does; ``worker`` is what the command line says about jobs beside requests."""
    from tenfold.runtime.serve import Roles

    if role is None:
        return Roles(web=True, worker=app.settings.worker.enabled)
    if role == "web":
        return Roles(web=True, worker=bool(worker))
    app.work = "relay" if role == "relay" else "scheduler" if role == "scheduler" else "all"
    app.answers = False
    return Roles(web=False, worker=True)


def _reloads(asked: bool | None, config: Path | None) -> bool:
    if asked is not None:
        return asked
    return sys.stdout.isatty() and settings.peek("app.env", config) in ("", "development")


def _not_in_code(error: TenfoldError) -> bool:
    """Errors that no change of a file would mend."""
    return isinstance(error, ConfigError) and error.where in {
        "http.port",
        "ops.port",
        "APP",
        "--config",
        "--service",
    }


def _sources(named: str | None, config: Path | None, read_at: float, app: App | None = None) -> Sources:
    from tenfold.runtime.reload import Sources

    return Sources(target.sources(target.named(named, config)[0], app), read_at)


def _wait_for_change(error: TenfoldError, sources: Sources) -> int:
    from tenfold.runtime.reload import replace_process

    console.fail(str(error), 1)
    console.note(console.paint("Waiting for a change …", console.DIM, sys.stderr))
    changed = asyncio.run(sources.changed())
    console.note(f"{changed} changed: starting again")
    replace_process()
    return 0
