"""Requests a second, ours beside the peers', in interleaved rounds."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import environment
from contenders import Contender, Field
from servers import Failed, Server

OURS = Path(__file__).parent / "http"
ROUNDS_OF_A_LIFE = 2
"""Then all servers start anew: two of the same code differ by some 4 %, by where their memory lies. So rounds of one life
are no more than one look at each, and many lives tell more than many rounds."""


def measure(
    field: Field,
    only: list[str],
    measures: list[str],
    rounds: int,
    seconds: float,
    out: Path,
    progress: Any,
) -> list[dict[str, Any]]:
    """One row per round, contender and measure. A contender that fails is named and left out."""
    if not shutil.which("wrk"):
        raise Failed("the load comes from wrk: apt-get install wrk")
    chosen = [c for c in field.contenders if not only or any(part in c.name for part in only)]
    if not environment.SHARED.exists():
        chosen = [c for c in chosen if c.whose == "tenfold"]
    rows: list[dict[str, Any]] = []
    with _stores(chosen) as env:
        for first in range(0, rounds, ROUNDS_OF_A_LIFE):
            with _started(chosen, env, out) as servers:
                todo = _answering(servers, field, measures)
                for number in range(first, min(first + ROUNDS_OF_A_LIFE, rounds)):
                    for at, (name, server) in enumerate(todo):
                        who = server.contender.name
                        progress(number * len(todo) + at, rounds * len(todo), f"{name}: {who}")
                        try:
                            with server.awake():
                                row = server.load(field.measures[name], seconds)
                        except Failed as error:
                            print(f"{who}, {name}, not kept: {error}", file=sys.stderr)
                            continue
                        rows.append({"round": number, "who": who, "what": name, **row})
    return rows


def _answering(servers: list[Server], field: Field, measures: list[str]) -> list[tuple[str, Server]]:
    """What is measured of whom; who answers wrongly is named and left out."""
    todo = [(name, s) for name in measures for s in servers if name in s.contender.measures]
    for name, server in list(todo):
        try:
            server.check(field.measures[name])
        except (Failed, OSError, KeyError, ValueError) as error:
            print(error, file=sys.stderr)
            todo.remove((name, server))
    for server in servers:
        server.freeze()
    return todo


@contextlib.contextmanager
def _stores(chosen: list[Contender]) -> Iterator[dict[str, str]]:
    """PostgreSQL and Redis for who uses them, and where they are."""
    with contextlib.ExitStack() as stack:
        env = {}
        if any(c.whose == "peer" or c.env.get("TENFOLD_DATABASE_URL") for c in chosen):
            env["BENCH_DSN"] = stack.enter_context(environment.postgres())
            env["BENCH_REDIS"] = stack.enter_context(environment.redis())
        yield env


@contextlib.contextmanager
def _started(chosen: list[Contender], env: dict[str, str], out: Path) -> Iterator[list[Server]]:
    """Every contender up at once: rounds can then be short, so that a busy moment of the machine hits all."""
    with contextlib.ExitStack() as stack:
        servers = []
        for contender in chosen:
            peer = contender.whose == "peer"
            server = Server(
                contender,
                environment.SHARED / "http" if peer else OURS,
                environment.peers_bin() if peer else Path(sys.executable).parent,
                env,
                out,
            )
            stack.callback(server.stop)
            servers.append(server)
        for server in list(servers):
            try:
                server.wait()
            except Failed as error:
                print(error, file=sys.stderr)
                servers.remove(server)
        yield servers
