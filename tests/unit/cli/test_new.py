"""`tenfold new` refuses what would not work, before it writes anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., str]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Shop", "cannot be the name of a Python package"),
        ("1shop", "cannot be the name of a Python package"),
        ("my--shop", "cannot be the name of a Python package"),
        ("json", "would hide another one"),
        ("tenfold", "would hide another one"),
    ],
)
def test_a_name_that_python_cannot_use_is_refused(
    name: str, sentence: str, tenfold: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in tenfold("new", name, status=2)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tenfold: Command, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "precious.txt").write_text("mine")
    said = tenfold("new", str(tmp_path / "shop"), status=2)
    assert "exists and is not an empty folder" in said
    assert [path.name for path in (tmp_path / "shop").iterdir()] == ["precious.txt"]


def test_an_empty_folder_is_filled(tenfold: Command, tmp_path: Path) -> None:
    (tmp_path / "my-shop").mkdir()
    tenfold("new", str(tmp_path / "my-shop"))
    text = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert 'name = "my-shop"' in text
    assert 'target = "my_shop.app:app"' in text
    assert "appname" not in text
    assert "dist-name" not in text
