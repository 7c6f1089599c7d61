"""Reads and runs the snippets of a documentation page. How to write them: docs/README.md."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from support.orphans import die_with_parent
from support.process import Process
from tenfold._core import settings

ROOT = Path(__file__).resolve().parents[2]
COMMAND_TIMEOUT_S = 90.0
SERVER_TIMEOUT_S = 90.0
FLEET_TIMEOUT_S = 120.0
HEARD_MAX = 40
"""Lines of servers that are shown when a command fails."""

_FENCE = re.compile(r"^(?P<indent> {0,3})(?P<ticks>`{3,})(?P<language>[\w+-]*)")
_NOT_RUN = re.compile(r"<!--\s*not run:\s*(?P<reason>.*?)\s*-->", re.DOTALL)
_FILE = re.compile(r"^# file: (?P<path>\S+?)(?P<added> \(added\))?\s*$")
_SERVER = re.compile(r"^(?:\S+=\S+ )*(?:\S*/)?tenfold (?:run|worker|up)\b")
_FLEET = re.compile(r"\btenfold up\b")
"""Runs in the background with ``&`` only: what it refuses, or prints with ``--systemd``, ends by itself."""
_OPS_PORT = re.compile(r"--ops-port[ =](\d+)")
_EXIT = re.compile(r"^\[exit (\d+)\]$")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Block:
    """One fenced block. ``reason`` says why it is not run; empty when it is."""

    page: Path
    line: int
    language: str
    code: str
    reason: str = ""

    @property
    def where(self) -> str:
        path = self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page
        return f"{path}:{self.line}"


@dataclass
class Command:
    """One ``$ `` line of a console block, with what must occur in its output."""

    text: str
    expected: list[str] = field(default_factory=list)
    exit_status: int = 0


def pages() -> list[Path]:
    """README.md and everything in docs/, in a stable order."""
    return [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if path.exists()]


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    index, before = 0, ""
    while index < len(lines):
        fence = _FENCE.match(lines[index])
        if fence is None:
            before = (
                f"{before}\n{lines[index]}" if lines[index].strip() and before else lines[index] or before
            )
            index += 1
            continue
        start = index + 1
        index = start
        while index < len(lines) and lines[index].strip() != fence["ticks"]:
            index += 1
        code = "\n".join(line.removeprefix(fence["indent"]) for line in lines[start:index])
        comment = list(_NOT_RUN.finditer(before))
        reason = comment[-1]["reason"] if comment and not before[comment[-1].end() :].strip() else ""
        found.append(Block(page, start, fence["language"], code, reason))
        index, before = index + 1, ""
    return found


def runnable(block: Block) -> bool:
    """Whether the block is one that has to run."""
    return block.language in {"python", "toml", "console"} and not block.reason


def not_run_summary() -> str:
    """``snippets: 31 run, 2 not run (README.md:12: it needs …; …)``."""
    blocks = [b for page in pages() for b in blocks_of(page) if b.language in {"python", "toml", "console"}]
    kept = [f"{block.where}: {block.reason}" for block in blocks if block.reason]
    tail = f" ({'; '.join(kept)})" if kept else ""
    return f"snippets: {len(blocks) - len(kept)} run, {len(kept)} not run{tail}"


def commands_of(code: str) -> list[Command]:
    """The commands of a console block; a trailing backslash continues a command on the next line."""
    commands: list[Command] = []
    lines = iter(code.splitlines())
    for line in lines:
        if line.startswith("$ "):
            text = line[2:]
            while text.endswith("\\"):
                text = text[:-1].rstrip() + " " + next(lines, "").removeprefix("> ").strip()
            commands.append(Command(text))
        elif exit_ := _EXIT.match(line):
            commands[-1].exit_status = int(exit_[1])
        elif line.strip() and commands:
            commands[-1].expected.append(line.strip())
    return commands


def missing_line(expected: Iterable[str], output: str) -> str | None:
    """The first expected line that does not occur, in order, or None. ``…`` stands for anything."""
    shown = [line.strip() for line in _ANSI.sub("", output).splitlines()]
    rest: Iterator[str] = iter(shown)
    for want in expected:
        pattern = re.compile(".*".join(map(re.escape, want.split("…"))))
        if not any(pattern.search(line) for line in rest):
            return want
    return None


_DRIVER = """
import json, sys, traceback
out, names = sys.stdout, {"__name__": "__main__"}
sys.stdout = sys.stderr
for line in sys.stdin:
    code, where = json.loads(line)
    try:
        exec(compile(code, where, "exec"), names)
        answer = ""
    except BaseException:
        answer = traceback.format_exc()
    print(json.dumps(answer), file=out, flush=True)
"""


class PageRun:
    """Runs the blocks of one page in ``folder``. Raises AssertionError with the place of the block.

    ``servers`` maps addresses as the page shows them to those of real servers.
    """

    def __init__(self, folder: Path, servers: Mapping[str, str] | None = None) -> None:
        self.folder = self.cwd = folder
        self._servers = servers or {}
        self._ports = {shown: str(_free_port()) for shown in ("8000", "8001", "8002", "8003", "8080")}
        self._running: dict[str, Process] = {}
        self._python: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for port in list(self._running):
            self._stop_server(port)
        if self._python is not None:
            self._python.kill()
            self._python.communicate()

    def run(self, block: Block) -> None:
        """Run one block by its language."""
        for shown, real in self._servers.items():
            block = replace(block, code=block.code.replace(shown, real))
        named = _FILE.match(block.code.partition("\n")[0])
        if block.language == "console":
            for command in commands_of(block.code):
                self._command(command, block)
        elif named is not None:
            self._write(block, named["path"], added=bool(named["added"]))
        elif block.language == "toml":
            self._check_settings(block.code)
        else:
            self._script(block)

    def _write(self, block: Block, path: str, *, added: bool) -> None:
        file = (self.cwd / path).resolve()
        assert file.is_relative_to(self.folder), f"{block.where}: {path} is outside of the project."
        file.parent.mkdir(parents=True, exist_ok=True)
        text = block.code.partition("\n")[2].lstrip("\n") + "\n"
        # Addresses of servers of this page; what settings say of their own ports, the environment says otherwise.
        text = re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda match: self._ports.get(match[0], match[0]), text)
        if added:
            assert file.exists(), f"{block.where}: {path} is added to, but no block made it."
            text = file.read_text(encoding="utf-8") + "\n\n" + text
        file.write_text(text, encoding="utf-8")
        if file.name == "tenfold.toml":
            self._check_settings(text)

    def _check_settings(self, toml: str) -> None:
        """Refuse settings that do not exist. Those of services are checked by the app that declares them."""
        file = self.folder / ".snippet.toml"
        file.write_text(toml.partition("[services.")[0], encoding="utf-8")
        settings.load(file, environ={})

    def _script(self, block: Block) -> None:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, "-c", _DRIVER],
                cwd=self.cwd, env=self._environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                preexec_fn=die_with_parent,
            )  # fmt: skip
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        self._python.stdin.write(json.dumps([block.code, block.where]) + "\n")
        self._python.stdin.flush()
        answer = self._python.stdout.readline()
        failure = json.loads(answer) if answer else "The interpreter died."
        assert not failure, f"{block.where} failed:\n{failure}"

    def _command(self, command: Command, block: Block) -> None:
        text = self._swap(command.text, self._ports)
        if text.startswith("cd "):
            self.cwd = (self.cwd / shlex.split(text)[1]).resolve()
            assert self.cwd.is_dir(), f"{block.where}: there is no folder {self.cwd.name}."
        elif _SERVER.match(text) and (text.endswith("&") or not _FLEET.search(text)):
            self._serve(text.removesuffix("&").strip(), command, block)
        else:
            done = subprocess.run(
                ["bash", "-c", text], cwd=self.cwd, env=self._environment(), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=COMMAND_TIMEOUT_S, check=False,
            )  # fmt: skip
            output = self._swap(done.stdout, {port: name for name, port in self._ports.items()})
            said = f"{block.where}: $ {command.text}\nsaid:\n{output}"
            assert done.returncode == command.exit_status, (
                f"{said}\nand ended with {done.returncode}; servers said:\n{self._heard()}"
            )
            missing = missing_line(command.expected, output)
            assert missing is None, f"{said}\nwhich lacks: {missing}"

    def _heard(self) -> str:
        """The end of what the servers that run have said, but for their access log."""
        lines = [line for server in self._running.values() for line in server.output.splitlines()]
        return "\n".join([line for line in lines if '"tenfold.access"' not in line][-HEARD_MAX:])

    def _serve(self, text: str, command: Command, block: Block) -> None:
        named = _OPS_PORT.search(text)
        ops_port = named[1] if named else self._ports["8001"]
        fleet = _FLEET.search(text) is not None
        for port in list(self._running) if fleet else [ops_port]:
            self._stop_server(port)
        worker = " worker" in text
        ready = "" if worker else f"http://127.0.0.1:{ops_port}/health/ready"
        server = Process(
            ["bash", "-c", f"exec env {text}"],
            cwd=self.cwd,
            env=self._environment(),
            ready="is up at" if fleet else ready,  # its instances have ports of their own choice
            timeout_s=FLEET_TIMEOUT_S if fleet else SERVER_TIMEOUT_S,
        )
        self._running[ops_port] = server
        server.wait_ready()
        for want in command.expected:
            wanted = self._swap(want, self._ports)
            pattern = "[^\n]*".join(map(re.escape, wanted.split("…")))
            try:
                server.wait_for(pattern)
            except AssertionError as error:
                raise AssertionError(f"{block.where}: $ {command.text}\n{error}") from None

    def _stop_server(self, ops_port: str) -> None:
        server = self._running.pop(ops_port, None)
        if server is not None:
            if server.status is None:
                server.stop()
            server.kill()

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TENFOLD_", "PYTEST_", "CI"))}
        return {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "NO_COLOR": "1",
            "COLUMNS": "120",
            "PYTHONPATH": str(ROOT / "src"),  # this checkout, whichever is installed
            # Plugins that only our own tests need take seconds to be imported; a reader does not have them.
            "PYTEST_ADDOPTS": "-p no:schemathesis -p no:xdist -p no:hypothesispytest",
            "TENFOLD_HTTP_PORT": self._ports["8000"],
            "TENFOLD_OPS_PORT": self._ports["8001"],
            "TENFOLD_BALANCER_PORT": self._ports["8080"],
            # Nobody keeps connections here, so that there is nothing to wait for.
            "TENFOLD_BALANCER_DRAIN_S": "0.1",
            "TENFOLD_UP_DRAIN_S": "0.1",
        }

    @staticmethod
    def _swap(text: str, ports: dict[str, str]) -> str:
        return re.sub(rf"\b({'|'.join(ports)})\b", lambda match: ports[match[0]], text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
