"""``tenfold client``: a file, what it could not express, and whether it is still right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., str]


@pytest.mark.parametrize(
    ("language", "name"), [("python", "wordy_client.py"), ("typescript", "wordy-client.ts")]
)
def test_it_writes_a_file_and_knows_it_again(
    language: str, name: str, tenfold: Command, project: Path
) -> None:
    assert f"Wrote {name}: " in tenfold("client", language, ".")
    written = (project / name).read_text(encoding="utf-8")
    assert f"Wrote other/{name}" in tenfold("client", language, _folder(project, "other"))
    assert (project / "other" / name).read_text(encoding="utf-8") == written
    assert tenfold("client", language, name, "--check") == f"{name} is up to date.\n"


def test_a_client_that_is_behind_is_said_and_left(tenfold: Command, project: Path) -> None:
    (project / "mine.py").write_text("old", encoding="utf-8")
    said = tenfold("client", "python", "mine.py", "--check", status=1)
    assert "mine.py is not what the app says." in said
    assert (project / "mine.py").read_text(encoding="utf-8") == "old"


def test_a_folder_that_is_not_there_is_a_sentence(tenfold: Command, project: Path) -> None:
    assert "there is no folder nowhere. Make it first." in tenfold(
        "client", "python", "nowhere/client.py", status=2
    )


def _folder(project: Path, name: str) -> str:
    (project / name).mkdir()
    return name
