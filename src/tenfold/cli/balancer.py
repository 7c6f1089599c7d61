"""``tenfold balancer``: the configuration that a balancer would get."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tenfold._core import settings
from tenfold._core.sections import Settings
from tenfold.cli import console
from tenfold.cli.target import Config
from tenfold.errors import ConfigError
from tenfold.runtime.balance import Balancer, Plan, Pool, Upstream, balancer_of, plan_of

Upstreams = Annotated[
    tuple[str, ...],
    Parameter(
        name=["--upstream", "-u"],
        negative="",
        help="An instance, as HOST:PORT or HOST:PORT/OPS_PORT; again for each. Default: what `tenfold run` serves.",
    ),
]
Check = Annotated[
    bool, Parameter(negative="", help="Have the installed balancer judge it, instead of printing it.")
]


def balancer(
    kind: Literal["nginx", "haproxy"],
    /,
    *,
    upstream: Upstreams = (),
    check: Check = False,
    config: Config = None,
) -> int:
    """Print the configuration of NGINX or HAProxy that the settings ask for.

    `tenfold up` writes it, checks it and runs the balancer by itself (balancer.kind). This is for reading it, and for a balancer
    that somebody else runs.
    """
    loaded = settings.load(config).settings
    chosen = balancer_of(kind, loaded.balancer.program)
    assert chosen is not None
    plan = plan_of(loaded, [Pool("web", _upstreams(upstream, loaded))])
    if check:
        asyncio.run(_judge(chosen, plan, loaded))
        console.say(f"{chosen.name} ({chosen.program}) accepts it.")
    else:
        for text in chosen.render(plan).values():
            console.say(text.rstrip("\n"))
    if not loaded.http.trusted_proxies:
        console.note(
            'The app takes the balancer for every client. Set http.trusted_proxies to its address: ["127.0.0.1"].'
        )
    return 0


def _upstreams(given: tuple[str, ...], loaded: Settings) -> tuple[Upstream, ...]:
    if not given:
        return (Upstream("web.1", loaded.http.host, loaded.http.port, loaded.ops.port),)
    return tuple(_upstream(f"web.{number}", text) for number, text in enumerate(given, 1))


def _upstream(name: str, text: str) -> Upstream:
    place, _, ops = text.partition("/")
    host, _, port = place.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and (not ops or (ops.isascii() and ops.isdigit()))):
        raise ConfigError(
            f"{text!r} is no instance.",
            where="--upstream",
            remedy="Write 127.0.0.1:8000, or 127.0.0.1:8000/8001.",
        )
    return Upstream(name, host.strip("[]"), int(port), int(ops or 0))


async def _judge(chosen: Balancer, plan: Plan, loaded: Settings) -> None:
    with tempfile.TemporaryDirectory(prefix="tenfold-balancer-") as folder:
        await chosen.try_out(plan, Path(folder), names=loaded.balancer.names)
