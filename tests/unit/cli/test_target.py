"""Which app a command is about, and what is said when there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tenfold.cli import console, target
from tenfold.errors import ConfigError

Command = Callable[..., str]


def test_the_only_app_of_the_folder_needs_no_name(project: Path, module: str) -> None:
    assert target.named(None) == (f"{module}.app", "app")


def test_the_setting_wins_over_what_lies_around(project: Path) -> None:
    (project / "tenfold.toml").write_text('[app]\ntarget = "other.place:backend"\n')
    assert target.named(None) == ("other.place", "backend")


def test_the_command_line_wins_over_the_setting(project: Path) -> None:
    (project / "tenfold.toml").write_text('[app]\ntarget = "other.place:backend"\n')
    assert target.named("shop.app") == ("shop.app", "app")


def test_several_apps_are_named(project: Path, module: str) -> None:
    (project / "another").mkdir()
    (project / "another" / "app.py").touch()
    with pytest.raises(ConfigError, match=f"there are several apps here: another, {module}."):
        target.named(None)


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ("nowhere.app:app", "there is no module 'nowhere'"),
        ("{module}.ap:app", "there is no module '{module}.ap'"),
        ("{module}.app:ap", "there is no 'ap' in {module}.app. Did you mean 'app'?"),
        ("{module}.app:service", "is a Service, not a tenfold.App. Did you mean {module}.app:app?"),
        ("{module}/app.py", "'{module}/app.py' is a path. Write {module}.app:app."),
    ],
)
def test_a_wrong_name_is_told_with_the_way_out(
    named: str, sentence: str, project: Path, module: str, tenfold: Command
) -> None:
    said = tenfold("check", named.format(module=module), status=2)
    assert sentence.format(module=module) in said


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("x = (", "SyntaxError: '(' was never closed"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_code_that_fails_is_shown_by_its_line(
    line: str, error: str, project: Path, module: str, tenfold: Command
) -> None:
    (project / module / "app.py").write_text(f"# a comment\n{line}\n")
    said = tenfold("check", status=2)
    assert f"{module}/app.py:2\n    {line}\n{error}\n" in said
    assert "Traceback" not in said


def test_a_declaration_that_cannot_work_is_told_as_it_is(
    project: Path, module: str, tenfold: Command
) -> None:
    (project / module / "app.py").write_text("from tenfold import Service\nService('No Name')\n")
    assert "'No Name' is not a service name" in tenfold("check", status=2)


def test_sources_are_the_package_and_the_settings_file(project: Path, module: str) -> None:
    (project / "tenfold.toml").touch()
    assert target.sources(f"{module}.app") == (project / "tenfold.toml", project / module)


def test_an_error_without_a_line_of_the_users_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.fail_with(ValueError("ours"), 1) == 1
    assert capsys.readouterr().err == "ValueError: ours\n"


@pytest.mark.parametrize(
    ("tty", "environment", "wanted"),
    [(True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_only(
    tty: bool, environment: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: tty)
    assert (console.paint("x", console.RED) != "x") is wanted
