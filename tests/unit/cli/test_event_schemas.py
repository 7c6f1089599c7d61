"""``tenfold events schema`` and ``release``, and what ``tenfold check`` makes of released schemas."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., str]

TOPIC = """
class Placed(Struct):
    order_id: int
    total: str{more}


placed = service.topic("placed", Placed{options})


app = App("""


@pytest.fixture
def change(project: Path, module: str) -> Callable[..., None]:
    """Rewrite the project's topic, as a later commit would."""
    file = project / module / "app.py"
    original = file.read_text()

    def rewrite(more: str = "", options: str = "", name: str = "placed") -> None:
        text = TOPIC.format(more=more, options=options).replace('"placed"', f'"{name}"')
        file.write_text(original.replace("app = App(", text))
        sys.modules.pop(f"{module}.app", None)  # imported anew, as in a new process

    rewrite()
    return rewrite


def test_topics_are_listed_with_their_versions_and_shown_as_json_schema(
    tenfold: Command, change: object
) -> None:
    assert [line.split() for line in tenfold("events", "schema").splitlines()] == [
        ["topic", "type", "version", "released", "reads"],
        ["words.placed", "Placed", "1", "–", "1"],
    ]
    assert json.loads(tenfold("events", "schema", "words.placed"))["$defs"]["Placed"]["type"] == "object"
    assert "Did you mean 'words.placed'?" in tenfold("events", "schema", "words.place", status=2)


def test_a_release_is_written_once_and_check_is_content(
    tenfold: Command, change: object, project: Path, module: str
) -> None:
    assert "schemas/words.placed.json" in tenfold("events", "release")
    assert (project / module / "schemas" / "words.placed.json").exists()
    assert tenfold("events", "release") == "1 topic: everything is released as it is.\n"
    assert tenfold("check").startswith("✓")


def test_a_change_that_loses_events_fails_check_and_release(
    tenfold: Command, change: Callable[..., None], project: Path, module: str
) -> None:
    tenfold("events", "release")
    before = (project / module / "schemas" / "words.placed.json").read_bytes()
    change(more="\n    currency: str")
    for command in (("check",), ("events", "release")):
        said = tenfold(*command, status=1)
        assert "$.currency may be missing in events already published" in said
        assert "Raise the version to 2 and add upcast={1: …}, or give it a default." in said
    assert (project / module / "schemas" / "words.placed.json").read_bytes() == before
    assert "version 1 →" in tenfold("events", "release", "--force")
    assert tenfold("check").startswith("✓")


def test_a_compatible_change_passes_with_a_reminder(tenfold: Command, change: Callable[..., None]) -> None:
    tenfold("events", "release")
    change(more='\n    currency: str = "EUR"')
    said = tenfold("check")
    assert said.startswith(
        "! topic words.placed: it has changed compatibly; `tenfold events release` notes it down."
    )
    assert "✓" in said


def test_a_topic_that_is_gone_leaves_a_reminder(tenfold: Command, change: Callable[..., None]) -> None:
    tenfold("events", "release")
    change(name="sent")
    assert "words.placed.json: the code has no such topic" in tenfold("check")
