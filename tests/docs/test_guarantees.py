"""What docs/guarantees.md names as proof exists, and nothing that counts trials is missing from it."""

from __future__ import annotations

import re

from support.snippets import ROOT

PAGE = ROOT / "docs" / "guarantees.md"


def test_every_test_file_named_there_exists() -> None:
    named = set(re.findall(r"\]\(\.\./(tests/[^)]+\.py)\)", PAGE.read_text(encoding="utf-8")))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_file_that_counts_trials_is_named_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        counted = set(re.findall(r'trials\("(G\d+)"', path.read_text(encoding="utf-8")))
        if counted and "unit/support" not in str(path):
            assert path.name in page, f"{path.name} counts trials of {sorted(counted)} and is not named"
            assert [number for number in sorted(counted) if f"| {number} |" not in page] == []


def test_every_number_was_filled_in() -> None:
    assert "@" not in PAGE.read_text(encoding="utf-8")
