"""Tables on a terminal: colours take no room, and the last column ends where the terminal does."""

from __future__ import annotations

import sys

import pytest

from tenfold.cli import console


def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty columns, with colours."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_headings_stand_above_painted_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal(monkeypatch)
    console.table(
        [("1", console.paint("dead", console.RED), "a"), ("2", "done", "b")], headings=("id", "state", "what")
    )
    heading, dead, done = capsys.readouterr().out.splitlines()
    assert heading == "\x1b[2mid  state  what\x1b[0m"
    assert dead == "1   \x1b[31mdead\x1b[0m   a"
    assert done == "2   done   b"


def test_a_last_column_is_cut_where_the_terminal_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal(monkeypatch)
    console.table([("1", "x" * 100), ("2", console.paint("y" * 100, console.RED))], cut=True)
    plain, painted = capsys.readouterr().out.splitlines()
    assert plain == f"1  {'x' * 36}…"
    assert painted == f"2  \x1b[31m{'y' * 36}…\x1b[0m"


def test_a_file_gets_everything(capsys: pytest.CaptureFixture[str]) -> None:
    console.table([("1", "x" * 300)], cut=True)
    assert capsys.readouterr().out == f"1  {'x' * 300}\n"
