"""``tenfold gateway``: one public entry in front of services that run in processes of their own."""

from __future__ import annotations

from typing import Any

from tenfold.cli import target
from tenfold.cli.run import Data, Host, OpsPort, Port, serve_gateway
from tenfold.cli.target import Config, Target


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
    return serve_gateway(target.load(app, config), config, overrides)
