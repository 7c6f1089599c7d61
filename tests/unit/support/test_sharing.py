"""What the tests of a folder share ends with them, and comes back when it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]

SHARED = """
import pytest

@pytest.fixture(scope="session")
def {name}():
    print("{name} begins")
    yield
    print("{name} ends")
"""


def test_what_is_shared_ends_when_no_test_that_follows_may_use_it(tmp_path: Path) -> None:
    everywhere = "".join(SHARED.format(name=name) for name in ("common", "kafka"))
    files = {
        "conftest.py": f"import sys; sys.path.insert(0, {str(TESTS)!r})\npytest_plugins = ['support.sharing']\n{everywhere}",
        "one/conftest.py": SHARED.format(name="shop")
        + SHARED.format(name="client").replace("client()", "client(shop)"),
        "one/test_a.py": "def test_first(common, client): print('first')\ndef test_second(shop): print('second')\n",
        "two/test_b.py": "def test_on_kafka(kafka): print('kafka 1')\ndef test_on_kafka_too(): print('kafka 2')\n"
        "def test_third(common): print('third')\ndef test_again(kafka): print('again')\ndef test_last(): print('last')\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # the others take seconds to import
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line.lstrip(".") for line in done.stdout.splitlines()]
    assert said[: said.index("common ends") + 1] == [
        "common begins", "shop begins", "client begins", "first", "second", "client ends", "shop ends",
        "kafka begins", "kafka 1", "kafka 2", "kafka ends", "third",
        "kafka begins", "again", "kafka ends", "last", "common ends",
    ]  # fmt: skip
