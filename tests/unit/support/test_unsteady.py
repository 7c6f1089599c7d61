"""What does not fail again is named and forgiven; what may matter is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]

CONFTEST = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import pytest
from support.unsteady import Unsteady

@pytest.fixture
def trials(): ...

def pytest_configure(config):
    config.pluginmanager.register(Unsteady(lambda test: "once" in test))
"""


def run(folder: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_some.py").write_text(tests)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "xdist",
        *options,
        "test_some.py",
    ]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # the others take seconds to import
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_what_passes_alone_afterwards_is_named_and_forgiven(tmp_path: Path, options: tuple[str, ...]) -> None:
    found = run(tmp_path, "def test_once(): assert 0\ndef test_well(): ...\n", *options)
    assert found.returncode == 0, found.stdout
    assert "unsteady" in found.stdout
    assert "1 failed" in found.stdout


@pytest.mark.parametrize(
    ("tests", "options"),
    [
        ("def test_always(): assert 0\n", ()),
        ("def test_once(): assert 0\ndef test_always(): assert 0\n", ()),
        ("def test_once(trials): assert 0\n", ()),
        ("def test_once(trials): assert 0\n", ("-n", "2")),
        ("".join(f"def test_once_{n}(): assert 0\n" for n in range(4)), ()),
        ("import nothing_of_that_name\n", ()),
        ("import os\ndef test_once(trials): os._exit(1)\n", ("-n", "1")),
    ],
)
def test_what_fails_again_or_is_of_a_guarantee_or_one_of_many_is_not(
    tmp_path: Path, tests: str, options: tuple[str, ...]
) -> None:
    found = run(tmp_path, tests, *options)
    assert found.returncode != 0
    assert "unsteady" not in found.stdout
