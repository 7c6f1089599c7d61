"""The newest script, found without Alembic, or left to Alembic when anything is unclear."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenfold.db import revisions


def write(folder: Path, *scripts: str) -> list[Path]:
    paths = [folder / f"{number}.py" for number in range(len(scripts))]
    for path, text in zip(paths, scripts, strict=True):
        path.write_text(text)
    return paths


FIRST = 'revision = "a"\ndown_revision = None\n'
SECOND = 'revision: str = "b"\ndown_revision: str | None = "a"\n'


def test_the_end_of_the_line_is_the_newest_in_whatever_order_the_files_are(tmp_path: Path) -> None:
    third = 'revision = "c"\ndown_revision = "b"\nbranch_labels = None\n'
    assert revisions.newest(write(tmp_path, third, FIRST, SECOND)) == "c"


@pytest.mark.parametrize(
    "scripts",
    [
        (),
        ("x = 1",),
        (FIRST, FIRST),
        (FIRST, SECOND, SECOND.replace('"b"', '"c"')),
        (FIRST, 'revision = "b"\ndown_revision = "gone"\n'),
        (FIRST, SECOND, 'revision = "c"\ndown_revision = ("a", "b")\n'),
        (FIRST, "revision = next_one()\n"),
        (FIRST, "revision ="),
    ],
    ids=["none", "no revision", "twins", "branch", "gap", "merge", "computed", "syntax"],
)
def test_anything_else_is_left_to_alembic(scripts: tuple[str, ...], tmp_path: Path) -> None:
    assert revisions.newest(write(tmp_path, *scripts)) == ""
