"""How commands reach the supervisor: a unix socket that only its owner may use, and lines of JSON.

One connection is one command: a :class:`Request`, then any number of :class:`Said` with a sentence, the last of which is
``done`` and says whether it went well, with the rows of ``ps`` where those were asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from tenfold._core.tasks import end_tasks
from tenfold.errors import ConfigError, TenfoldError
from tenfold.runtime.up.instance import Instance

LINE_MAX: Final = 1024 * 1024
ASKING_S: Final = 5.0
"""In which a client that has connected says what it wants."""

GOODBYE_S: Final = 1.0


Command = Literal["ps", "scale", "restart", "reload", "down"]


class Row(Struct, frozen=True):
    """One line of ``tenfold ps``."""

    instance: Instance
    age_s: float
    about: str = ""


class Request(Struct, frozen=True):
    """``ps``; ``scale`` with ``words`` such as ``web=4``; ``restart``, ``reload`` and ``down``."""

    command: Command
    words: Sequence[str] = ()
    rolling: bool = True


class Said(Struct, frozen=True):
    """A line of the answer."""

    sentence: str = ""
    done: bool = False
    failed: bool = False
    rows: Sequence[Row] = ()


Answer = Callable[[Request], AsyncIterator[Said]]


class Server:
    """A part: listens from ``start`` to ``stop``."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self._path, self._answer = path, answer
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. The folder is its owner's only, so nobody else gets in before the mode is set."""
        self._path.unlink(missing_ok=True)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=LINE_MAX)
        except OSError as error:
            raise ConfigError(
                f"no socket can be made there: {error.strerror or error}.",
                where=str(self._path),
                remedy="Set app.data_dir to a folder with a shorter path, on a file system of this machine.",
            ) from None
        self._path.chmod(0o600)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._tasks:  # who asked for the end hears of it
            await asyncio.wait(self._tasks, timeout=GOODBYE_S)
        await end_tasks(*self._tasks)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # Who asked has gone, or the supervisor ends: asyncio would write a traceback of a connection that is cancelled.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                async for said in self._said(reader):
                    writer.write(msgspec.json.encode(said) + b"\n")
                    await writer.drain()
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _said(self, reader: asyncio.StreamReader) -> AsyncIterator[Said]:
        try:
            async with asyncio.timeout(ASKING_S):
                line = await reader.readline()
            request = msgspec.json.decode(line, type=Request)
            async for said in self._answer(request):
                yield said
        except TenfoldError as error:
            yield Said(str(error), done=True, failed=True)
        except (msgspec.MsgspecError, ValueError, TimeoutError) as error:
            yield Said(f"The supervisor cannot read what it is asked: {error}.", done=True, failed=True)


def ask(path: Path, request: Request) -> Iterator[Said]:
    """Send a request, and give what comes until it is done. Blocks. Raises :class:`ConfigError` when no supervisor
    listens, or when it ends before it is done."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        try:
            link.connect(str(path))
        except OSError as error:
            raise ConfigError(
                f"no fleet is running here ({error.strerror or error}).",
                where=str(path),
                remedy="Start one with `tenfold up`. One whose supervisor died goes on running, and is taken over by it.",
            ) from None
        link.sendall(msgspec.json.encode(request) + b"\n")
        with link.makefile("rb") as lines:
            for line in lines:
                said = msgspec.json.decode(line, type=Said)
                yield said
                if said.done:
                    return
    raise ConfigError(
        "the supervisor ended before it was done.", where=str(path), remedy="Look at what it wrote."
    )
