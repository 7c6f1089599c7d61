"""docs/reference/support.md is what the backends declare."""

from __future__ import annotations

import importlib.util

from support.snippets import ROOT


def test_the_matrix_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("matrix", ROOT / "scripts" / "matrix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (ROOT / "docs" / "reference" / "support.md").read_text(encoding="utf-8")
    assert module.render() == written, "run: python scripts/matrix.py"
