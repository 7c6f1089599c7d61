"""docs/reference is what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from support.snippets import ROOT


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """What the script writes, by page."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rendered: dict[str, str] = module.render()
    return rendered


def test_the_pages_are_up_to_date_with_every_setting_and_every_public_name(pages: dict[str, str]) -> None:
    import tenfold
    from tenfold._core.settings import known_paths

    assert pages.keys() == {"api.md", "errors.md", "settings.md", "testing.md"}
    for name, page in pages.items():
        written = Path(ROOT, "docs", "reference", name).read_text(encoding="utf-8")
        assert page == written, f"{name}: run python scripts/reference.py"
    assert not [path for path in known_paths() if f"`{path}`" not in pages["settings.md"]]
    names = set(tenfold.__all__) - {"__version__"}
    assert not [name for name in names if f"### {name}\n" not in pages["api.md"]]
