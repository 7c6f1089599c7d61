"""``tenfold worker``: jobs, subscribers and schedules, without the API."""

from __future__ import annotations

from typing import Any

from tenfold.cli import target
from tenfold.cli.run import Data, OpsPort, serve
from tenfold.cli.target import Config, Target


def worker(
    app: Target = None, /, *, ops_port: OpsPort = None, data: Data = None, config: Config = None
) -> int:
    """Run an app's jobs, subscribers and schedules, without its API.

    Its operations page takes a free port unless one is set, so that it runs beside `tenfold run`.
    """
    from tenfold.runtime.serve import Roles

    loaded = target.load(app, config)
    overrides: dict[str, Any] = {"ops__port": ops_port, "app__data_dir": None if data is None else str(data)}
    found = loaded.configure(config, **overrides)
    if "ops.port" not in found.sources:
        overrides["ops__port"] = 0
        loaded.configure(config, **overrides)
    return serve(loaded, Roles(web=False, worker=True))
