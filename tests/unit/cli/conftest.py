"""A small project to run commands in, in this process."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tenfold.cli import main

APP = """
from __future__ import annotations

import sqlalchemy as sa
from msgspec import Struct

from tenfold import App, Service, Tx, injected, public, roles


class Own(Struct):
    greeting: str = "hello"


service = Service("words", auth=public, settings=Own)
metadata = sa.MetaData()
table = sa.Table("words", metadata, sa.Column("id", sa.Integer, primary_key=True))
db = service.database(metadata)


@service.get("/words")
async def listed() -> list[int]:
    return []


@service.post("/words", idempotent="required", timeout_s=2.5)
async def add() -> None: ...


@service.internal
async def count() -> int:
    return 0


@service.job()
async def polish(number: int, tx: Tx = injected()) -> None: ...


app = App("wordy", [service])
"""

Command = Callable[..., str]
_numbers = itertools.count()


@pytest.fixture
def module() -> Iterator[str]:
    """A package name that no other test has imported."""
    name = f"wordy{next(_numbers)}"
    yield name
    for loaded in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
        del sys.modules[loaded]


@pytest.fixture
def project(tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the app in ``MODULE/app.py``."""
    package = tmp_path / module
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def tenfold(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command; what it wrote, with errors after the rest. The status must be the one expected."""

    def run(*words: str, status: int = 0) -> str:
        path = list(sys.path)
        code = main(words)
        sys.path[:] = path
        said = "".join(capsys.readouterr())
        assert code == status, said
        return said

    return run
