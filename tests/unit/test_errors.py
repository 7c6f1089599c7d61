"""All exceptions are in one tree, which is drawn where they are imported from."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path

from tenfold import errors

LINES_MAX = 400
_DRAWN = re.compile(r"^([│├└─ ]*)(\w+)((?: +\d{3})?)(.*)$")


def drawn() -> dict[str, str]:
    """Child → parent as the docstring draws them. ``A ── B ── C`` are a line of descent, ``B, C`` siblings."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = [(-1, "Exception")]
    for line in (errors.__doc__ or "").splitlines():
        match = _DRAWN.match(line.removeprefix("    "))
        if not line.startswith("    ") or match is None:
            continue
        depth, name = len(match[1]), match[2]
        while above[-1][0] >= depth:
            above.pop()
        found[name] = above[-1][1]
        above.append((depth, name))
        parent = name
        for step in match[4].split("──")[1:]:
            names = step.split(",")
            found |= {child.strip(): parent for child in names}
            parent = names[0].strip()
    return found


def test_the_tree_is_the_tree_of_the_classes() -> None:
    classes = {cls for cls in vars(errors).values() if inspect.isclass(cls) and issubclass(cls, Exception)}
    assert drawn() == {cls.__name__: cls.__bases__[0].__name__ for cls in classes}


def test_every_name_says_where_it_is_imported_from() -> None:
    assert {getattr(errors, name).__module__ for name in errors.__all__} == {"tenfold.errors"}
    assert isinstance(pickle.loads(pickle.dumps(errors.NoRow("none"))), errors.NoRow)


def test_no_file_is_longer_than_one_reads() -> None:
    [folder] = errors.__path__
    for file in Path(folder).glob("*.py"):
        assert len(file.read_text().splitlines()) <= LINES_MAX, file
