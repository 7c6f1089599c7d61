"""What ``import tenfold`` offers, and what it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tenfold


@pytest.mark.parametrize("name", tenfold.__all__)
def test_every_exported_name_can_be_loaded(name: str) -> None:
    assert getattr(tenfold, name) is not None


def test_the_list_of_exports_is_sorted_and_what_can_be_loaded_and_what_type_checkers_see() -> None:
    assert list(tenfold.__all__) == sorted(tenfold.__all__)
    assert set(tenfold.__all__) == {*tenfold._HOMES, "__version__"}
    assert set(dir(tenfold)) == set(tenfold.__all__)
    tree = ast.parse(Path(tenfold.__file__).read_text())
    [checking] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module
        for node in checking.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: f"tenfold.{home}" for name, home in tenfold._HOMES.items()}


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tenfold' has no attribute 'Apps'"):
        _ = tenfold.Apps


def _modules_after(code: str) -> set[str]:
    script = f"import sys; before = set(sys.modules); {code}; print(*(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_tenfold_loads_no_library_of_others() -> None:
    loaded = _modules_after("import tenfold")
    roots = {name.partition(".")[0] for name in loaded}
    assert {name for name in roots if name not in sys.stdlib_module_names} == {"tenfold"}
    assert {name for name in loaded if name.startswith("tenfold.")} == set()


def test_an_app_does_without_the_heavy_libraries_until_it_needs_them() -> None:
    loaded = _modules_after("from tenfold import App, Service, Tx, Accounts; App('x', [Service('a')])")
    heavy = {
        "alembic",
        "matplotlib",
        "argon2",
        "croniter",
        "pydantic",
        "cyclopts",
        "uvicorn",
        "granian",
        "cryptography",
    }
    assert heavy & {name.partition(".")[0] for name in loaded} == set()
