"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

APP = """
import sqlalchemy as sa
from tenfold import App, Service, Tx, public

service = Service("things", auth=public)
metadata = sa.MetaData()
table = sa.Table("things", metadata, sa.Column("id", sa.Integer, primary_key=True))
db = service.database(metadata)
starts = []

@service.on_start
async def started() -> None:
    starts.append(1)

@service.post("/things")
async def add(tx: Tx) -> int:
    await tx.execute(sa.insert(table))
    return await tx.scalar(sa.select(sa.func.count()).select_from(table))

app = App("things", [service])
"""


def run_pytest(folder: Path, tests: str, *options: str, ini: str = "tenfold_app = things:app") -> str:
    (folder / "things.py").write_text(APP)
    (folder / "test_things.py").write_text(tests)
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = .\n{ini}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tenfold.pytest_plugin", *options],
        check=False,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # what is installed here is not the matter
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


@pytest.fixture(params=["with anyio", "alone"])
def plugins(request: pytest.FixtureRequest) -> list[str]:
    """Options that load another plugin for coroutines, or none."""
    return ["-p", "anyio.pytest_plugin"] if request.param == "with anyio" else []


def test_pytest_finds_the_plugin_by_itself() -> None:
    [entry] = entry_points(group="pytest11", name="tenfold")
    assert entry.value == "tenfold.pytest_plugin"


def test_coroutine_tests_fixtures_and_plain_tests_share_one_started_app(
    tmp_path: Path, plugins: list[str]
) -> None:
    said = run_pytest(
        tmp_path,
        """
import pytest, things

@pytest.fixture
async def thing(test_app):
    return (await test_app.client.post("/things")).json()

@pytest.fixture
async def closing(test_app):
    yield "open"
    assert (await test_app.client.post("/things")).status == 200

@pytest.mark.parametrize("turn", range(3))
async def test_each_has_a_clean_database(test_app, thing, turn):
    assert thing == 1
    assert things.starts == [1]

async def test_generators_end_after_the_test(test_app, closing):
    assert closing == "open"

class TestInClass:
    async def test_method(self, thing, test_app):
        assert thing == 1

def test_plain(test_app):
    assert test_app.jobs == []

async def test_without_the_app():
    pass
""",
        *plugins,
    )
    assert "7 passed" in said, said


def test_what_a_test_sets_in_its_context_is_its_own(tmp_path: Path, plugins: list[str]) -> None:
    """The work in hand of one test, with a deadline that passes, is none of the next one's; a fixture's is the test's."""
    said = run_pytest(
        tmp_path,
        """
from contextvars import ContextVar
import pytest

mark = ContextVar("mark", default="none")

@pytest.fixture
async def marked(test_app):
    mark.set("by the fixture")

@pytest.mark.parametrize("n", [1, 2])
async def test_own(n):
    assert mark.get() == "none"
    mark.set("by a test")

@pytest.mark.parametrize("n", [1, 2])
async def test_from_the_fixture(test_app, marked, n):
    assert mark.get() == "by the fixture"
    mark.set("by a test")
""",
        *plugins,
    )
    assert "4 passed" in said, said


def test_a_hundred_tests_take_less_than_a_second(tmp_path: Path) -> None:
    """Measured inside pytest, between the first test and the last."""
    said = run_pytest(
        tmp_path,
        """
import pytest, time
began = []

@pytest.mark.parametrize("turn", range(100))
async def test_one(test_app, turn):
    began.append(time.process_time())
    assert (await test_app.client.post("/things")).json() == 1

def test_speed():
    assert (began[-1] - began[0]) / 99 < 0.01
""",
    )
    assert "101 passed" in said, said


def test_a_fixture_may_give_the_app(tmp_path: Path) -> None:
    said = run_pytest(
        tmp_path,
        """
import pytest, things

@pytest.fixture(scope="session")
def tenfold_app():
    return things.app

async def test_it(test_app):
    assert test_app.app is things.app
""",
        ini="",
    )
    assert "1 passed" in said, said


@pytest.mark.parametrize(
    ("ini", "sentence"),
    [("", "test_app needs to know the app"), ("tenfold_app = things:nothing", "names no tenfold.App")],
)
def test_a_missing_app_is_said_in_a_sentence(tmp_path: Path, ini: str, sentence: str) -> None:
    said = run_pytest(tmp_path, "async def test_it(test_app): ...", ini=ini)
    assert sentence in said
