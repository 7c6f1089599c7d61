"""docs/reference is what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from support.snippets import ROOT


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["api.md", "errors.md", "settings.md", "testing.md"])
def test_the_page_is_up_to_date(page: str, reference: ModuleType) -> None:
    written = Path(ROOT, "docs", "reference", page).read_text(encoding="utf-8")
    assert reference.render()[page] == written, "run: python scripts/reference.py"


def test_every_setting_and_every_public_name_is_there(reference: ModuleType) -> None:
    import tenfold
    from tenfold._core.settings import known_paths

    pages = reference.render()
    assert not [path for path in known_paths() if f"`{path}`" not in pages["settings.md"]]
    names = set(tenfold.__all__) - {"__version__"}
    assert not [name for name in names if f"### {name}\n" not in pages["api.md"]]
