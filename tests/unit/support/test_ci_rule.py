"""In continuous integration a skipped test is a failure, printed by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]
SUITE = """
import pytest

def test_passes(): pass

@pytest.mark.skip(reason="no database")
def test_marked(): pass

def test_called(): pytest.skip("no network")

@pytest.mark.xfail(strict=True)
def test_expected(): assert False
"""
MODULE = 'import pytest\npytest.importorskip("no_such_module")\ndef test_x(): pass\n'


def run(folder: Path, ci: str, *arguments: str) -> tuple[int, str]:
    shutil.copy(TESTS / "conftest.py", folder)
    (folder / "test_suite.py").write_text(SUITE)
    (folder / "test_module.py").write_text(MODULE)
    # Alone: what fails here is meant to, and trying it once more shows nothing.
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TENFOLD_TESTS_ALONE": "1"}
    env = {**os.environ, "CI": ci, "PYTHONPATH": str(TESTS), **alone}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "xdist", *arguments],
        cwd=folder, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.parametrize("arguments", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_a_skip_fails_in_ci_by_name(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    status, said = run(tmp_path, "1", *arguments, "test_suite.py")
    assert status == 1
    # A mark skips the set-up, so pytest counts an error and not a failure.
    assert "1 failed, 1 passed, 1 xfailed, 1 error" in said
    for name, reason in (("test_called", "no network"), ("test_marked", "no database")):
        assert f"{name} was skipped, which counts as a failure under CI: Skipped: {reason}" in said


def test_a_module_that_skips_itself_fails_in_ci(tmp_path: Path) -> None:
    status, said = run(tmp_path, "true", "test_module.py")
    assert status != 0
    assert "test_module.py was skipped" in said


def test_elsewhere_a_skip_is_a_skip(tmp_path: Path) -> None:
    status, said = run(tmp_path, "")
    assert status == 0
    assert "3 skipped" in said
