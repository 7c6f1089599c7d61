"""From a URL to the backend that speaks its scheme, or a sentence that says what to do."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tenfold._core import resolve
from tenfold._core.resolve import backend_class, known_schemes
from tenfold.errors import ConfigError, MissingExtra


@pytest.mark.parametrize("url", ["sqlite:///app.db", "sqlite+apsw:///app.db", "SQLite:///app.db", "sqlite"])
def test_the_scheme_names_the_module(url: str) -> None:
    assert backend_class("db", url, where="database.url").__module__ == "tenfold.db.backends.sqlite"


def test_an_unknown_scheme_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        backend_class("db", "sqlit:///x", where="database.url")
    assert str(caught.value).startswith("database.url: no db backend speaks 'sqlit'. Known are: ")
    assert str(caught.value).endswith("Did you mean 'sqlite'?")


@pytest.mark.parametrize("url", ["", "/var/app.db", "_sqlite_tx:///x", "../cache:x", "a b:c"])
def test_what_is_no_scheme_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="no db backend speaks"):
        backend_class("db", url, where="database.url")


def test_modules_that_backends_share_are_not_schemes() -> None:
    assert "sqlite" in known_schemes("db")
    assert not [scheme for scheme in known_schemes("db") if scheme.startswith("_")]


def test_a_missing_library_is_answered_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exotic.py").write_text("import no_such_library\n")
    package = importlib.import_module("tenfold.cache.backends")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    with pytest.raises(MissingExtra) as caught:
        backend_class("cache", "exotic://x", where="cache.url")
    assert str(caught.value) == (
        "cache.url: it needs the library 'no_such_library', which is not installed. "
        "Run: pip install 'tenfold[exotic]'"
    )
    assert "tenfold.cache.backends.exotic" not in sys.modules


class Theirs:
    """Stands for the backend of a third party."""


def test_entry_points_add_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("cache.theirs", f"{__name__}:Theirs", resolve.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: Theirs)
    monkeypatch.setattr(resolve, "_registered", lambda: (entry,))
    assert backend_class("cache", "theirs://x", where="cache.url") is Theirs
    assert "theirs" in known_schemes("cache")
    assert "theirs" not in known_schemes("db")
