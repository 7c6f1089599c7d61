"""``tenfold gateway``: one public entry in front of services that run in processes of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenfold.cli import target
from tenfold.cli.run import Data, Host, OpsPort, Port, serve
from tenfold.cli.target import Config, Target

if TYPE_CHECKING:
    from tenfold.app import App


def gateway(
    app: Target = None,
    /,
    *,
    port: Port = None,
    ops_port: OpsPort = None,
    host: Host = None,
    data: Data = None,
    config: Config = None,
) -> int:
    """Serve the routes of [gateway.routes], each by the service it names, instead of the app's own operations.

    The app says who callers are, and which limits all of them share.
    """
    overrides: dict[str, Any] = {
        "http__port": port,
        "ops__port": ops_port,
        "http__host": host,
        "app__data_dir": None if data is None else str(data),
    }
    loaded = target.load(app, config)
    return serve_gateway(loaded, config, overrides)


def serve_gateway(app: App, config: Path | None, overrides: dict[str, Any]) -> int:
    """Serve as a gateway until a signal comes, with these settings over those of the file."""
    from tenfold.gateway.role import stand_in_front
    from tenfold.runtime.serve import Roles

    docs = app.configure(config, **overrides).settings.shows_docs
    app.configure(config, **{**overrides, "http__docs": False, "http__server": "uvicorn"})
    stand_in_front(app, docs=docs)
    return serve(app, Roles(web=True, worker=False))
