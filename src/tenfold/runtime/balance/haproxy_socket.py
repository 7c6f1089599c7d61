"""What is said over HAProxy's sockets: which servers it has, which it is to have, what it is busy with."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tenfold.runtime.balance import programs

_SERVER = re.compile(r"^    server (?P<name>\S+) (?P<place>\S+) (?P<options>.*)$", re.MULTILINE)
_BACKEND = re.compile(r"^backend (\S+)$", re.MULTILINE)
_IN_MAINTENANCE = 1
"""Bit of a server's administrative state: forced maintenance."""


def without_servers(text: str) -> str:
    """A configuration without what can be changed over a socket."""
    return "".join(line for line in text.splitlines(keepends=True) if not _SERVER.match(line))


def servers_in(text: str) -> dict[str, dict[str, str]]:
    """Of a configuration: backends, their servers, and what follows the servers' names."""
    pieces = _BACKEND.split(text)
    return {
        backend: {found["name"]: f"{found['place']} {found['options']}" for found in _SERVER.finditer(body)}
        for backend, body in zip(pieces[1::2], pieces[2::2], strict=True)
    }


def states_in(said: str) -> dict[str, dict[str, tuple[int, int]]]:
    """Of an answer to ``show servers state``: backends, their servers, administrative state and weight of each."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for line in said.splitlines():
        words = line.split()
        if len(words) > 7 and not line.startswith("#"):
            found.setdefault(words[1], {})[words[3]] = (int(words[6]), int(words[7]))
    return found


def commands(
    wanted: Mapping[str, Mapping[str, str]], has: Mapping[str, Mapping[str, tuple[int, int]]]
) -> Iterator[tuple[str, str]]:
    """What to tell a worker that has ``has``, with the answer to each: first who comes, then who leaves."""
    for backend, servers in wanted.items():
        for name, options in servers.items():
            server, known = f"{backend}/{name}", has.get(backend, {}).get(name)
            weight = re.search(r"\bweight (\d+)", options)
            if known is None:
                yield f"add server {server} {options}", "New server registered."
                yield f"enable health {server}", ""
                yield f"enable server {server}", ""
            elif known[0] & _IN_MAINTENANCE:
                yield f"set server {server} state ready", ""
            if known is not None and weight is not None and int(weight[1]) != known[1]:
                yield f"set server {server} weight {weight[1]}", ""
    for backend, known_servers in has.items():
        for name in sorted(known_servers.keys() - wanted.get(backend, {}).keys()):
            yield f"set server {backend}/{name} state maint", ""
            yield f"del server {backend}/{name}", "Server deleted."


def in_progress(sessions: str) -> bool:
    """Whether an answer to ``show sess`` has a request in it. Connections whose clients ask nothing have no session."""
    lines = [line for line in sessions.splitlines() if line.startswith("0x")]
    return any(" fe=GLOBAL " not in line for line in lines)  # such a one is our question


async def ask(path: Path, command: str) -> str:
    """One command to a socket of HAProxy's, and its answer."""
    async with asyncio.timeout(programs.ANSWER_S):
        reader, writer = await asyncio.open_unix_connection(short(path))
        try:
            writer.write(command.encode() + b"\n")
            writer.write_eof()
            return (await reader.read(-1)).decode(errors="replace")
        finally:
            writer.close()


def short(path: Path) -> str:
    """The shorter way to ``path``: a socket's may have about a hundred bytes."""
    return min(str(path), os.path.relpath(path), key=len)
