"""The app's secret: required in production, made once in development, never shown."""

from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path

import pytest

from tenfold._core.clock import SystemClock
from tenfold._core.sections import AppSettings
from tenfold.errors import ConfigError
from tenfold.security.keys import SecretKey, secret_key

GOOD = "q8JbV0nS1x-3kdyR7mWzTf5uLpEo2cHa"


def test_production_without_a_key_does_not_start_and_is_told_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"app.secret_key: production needs .* TENFOLD_APP_SECRET_KEY"):
        secret_key(AppSettings(env="production"), tmp_path, SystemClock())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "weak", ["short", "x" * 40, "abcabcabcabcabcabcabcabcabcabcabcabc", GOOD[:31], f"{GOOD} weak"]
)
def test_a_key_that_can_be_guessed_is_refused_without_being_repeated(tmp_path: Path, weak: str) -> None:
    for env in ("production", "development"):
        with pytest.raises(ConfigError, match="can be guessed") as refused:
            secret_key(AppSettings(env=env, secret_key=weak), tmp_path, SystemClock())  # type: ignore[arg-type]
        assert weak not in str(refused.value)


def test_development_makes_a_key_once_that_only_its_owner_can_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = secret_key(AppSettings(), data, SystemClock()).derive("x")
    file = data / "secret_key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret_key(AppSettings(), data, SystemClock()).derive("x") == first
    assert [f.name for f in data.iterdir()] == ["secret_key"], "no draft is left behind"


def test_a_file_that_others_could_read_is_closed_and_a_broken_one_explained(tmp_path: Path) -> None:
    file = tmp_path / "secret_key"
    file.write_text(GOOD)
    file.chmod(0o644)
    secret_key(AppSettings(), tmp_path, SystemClock())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("")
    with pytest.raises(ConfigError, match="Delete it"):
        secret_key(AppSettings(), tmp_path, SystemClock())


def derived(folder: str) -> bytes:
    return secret_key(AppSettings(), Path(folder), SystemClock()).derive("x")[0]


def test_processes_that_start_together_agree_on_the_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert len(set(pool.map(derived, [str(tmp_path)] * 16, chunksize=1))) == 1


def test_two_keys_are_the_current_and_the_former(tmp_path: Path) -> None:
    other = GOOD[::-1]
    both = secret_key(AppSettings(secret_key=f"{GOOD} {other}"), tmp_path, SystemClock()).derive("x")
    assert both == [SecretKey(GOOD.encode()).derive("x")[0], SecretKey(other.encode()).derive("x")[0]]


def test_a_key_does_not_show_in_its_repr() -> None:
    assert GOOD not in repr(SecretKey(GOOD.encode()))
    assert GOOD not in f"{SecretKey(GOOD.encode())}"
