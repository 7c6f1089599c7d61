"""Companions and the systemd unit: what is written, and what is refused."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tenfold._core import settings as loading
from tenfold.errors import ConfigError, TenfoldError
from tenfold.runtime.up import companions, systemd
from tenfold.runtime.up.companions import Companions, Redis
from tenfold.runtime.up.reading import rules_of


def test_a_program_that_is_missing_is_said_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Redis, "program", "no-such-server")
    found = loading.load(environ={}, overrides={"companions.redis": True}).settings
    with pytest.raises(
        ConfigError, match=r"companions\.redis.*apt install redis-server.*compose.*cache\.url"
    ):
        Companions(found, tmp_path, print)


def test_a_companion_and_an_address_of_another_server_are_not_both_meant(tmp_path: Path) -> None:
    set_ = {"companions.redis": True, "cache.url": "redis://10.0.0.7"}
    with pytest.raises(ConfigError, match=r"Remove cache\.url"):
        Companions(loading.load(environ={}, overrides=set_).settings, tmp_path, print)


def test_none_is_started_that_nobody_asked_for(tmp_path: Path) -> None:
    there = Companions(loading.load(environ={}).settings, tmp_path, print)
    there.start()
    assert there.env == {}
    assert not (tmp_path / companions.FOLDER).exists()


def docker(folder: Path, monkeypatch: pytest.MonkeyPatch, status: int = 0) -> Path:
    """One that notes what it is told; the note."""
    told, program = folder / "told", folder / "docker"
    program.write_text(f'#!/bin/sh\necho "$@" >> {told}\necho no room >&2\nexit {status}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return told


def test_a_file_of_compose_is_up_while_the_fleet_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, file = docker(tmp_path, monkeypatch), tmp_path / "compose.yaml"
    file.touch()
    found = loading.load(environ={}, overrides={"companions.compose": str(file)}).settings
    said: list[str] = []
    there = Companions(found, tmp_path, said.append)
    there.start()
    assert (there.env, said) == ({}, [f"What {file} lists runs in containers."])
    there.stop()
    command = f"compose --file {file}"
    assert told.read_text().splitlines() == [f"{command} up --detach --wait", f"{command} stop"]


def test_compose_that_cannot_is_said_with_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "compose.yaml"
    found = loading.load(environ={}, overrides={"companions.compose": str(file)}).settings
    with pytest.raises(ConfigError, match=r"companions\.compose.*there is no file"):
        Companions(found, tmp_path, print)
    file.touch()
    docker(tmp_path, monkeypatch, status=1)
    with pytest.raises(TenfoldError, match=r"docker compose up of .* failed: no room"):
        Companions(found, tmp_path, print).start()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="docker is not installed"):
        Companions(found, tmp_path, print)


def test_redis_is_started_found_taken_over_and_ended(tmp_path: Path) -> None:
    if not any(Path(folder, "redis-server").exists() for folder in ("/usr/bin", "/usr/local/bin")):
        pytest.skip("redis-server is not installed; `make test` installs it on Debian.")
    found = loading.load(environ={}, overrides={"companions.redis": True}).settings
    said: list[str] = []
    first = Companions(found, tmp_path, said.append)
    first.start()
    try:
        again = Companions(found, tmp_path, said.append)
        assert again.env == first.env
        assert set(again.env) == {"TENFOLD_CACHE_URL", "TENFOLD_GUARD_URL"}
        again.start()
        assert "runs on at port" in said[-1]
        port = int(again.env["TENFOLD_CACHE_URL"].rpartition(":")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port), 5) as link:
            link.sendall(b"PING\r\n")
            assert link.recv(16).startswith(b"-NOAUTH"), "others on this machine need the password"
    finally:
        first.stop()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), 5)


def test_the_unit_ends_the_supervisor_only_and_quotes_its_command() -> None:
    text = systemd.unit(
        "shop",
        ["/opt/my venv/bin/python", "-m", "tenfold", "up", "100%"],
        Path("/srv/shop"),
        "shop",
        stop_s=20,
        start_s=90,
    )
    assert 'ExecStart="/opt/my venv/bin/python" -m tenfold up 100%%' in text
    assert "KillMode=process" in text
    assert "TimeoutStopSec=35" in text
    assert "User=shop" in text


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    judge = shutil.which("systemd-analyze")
    if judge is None:
        pytest.skip("systemd-analyze is not installed; `make test` installs it on Debian.")
    folder = tmp_path / "a shop, 100%"
    folder.mkdir()
    command = [sys.executable, "-m", "tenfold", "up", "shop.app:app", "--data", str(folder / "data")]
    text = systemd.unit("shop", command, folder, getpass.getuser(), stop_s=20, start_s=90)

    (tmp_path / "shop.service").write_text(text)
    (tmp_path / "wrong.service").write_text(text.replace("KillMode=process", "KillMode=gently"))
    units = [tmp_path / "shop.service", tmp_path / "wrong.service"]
    said = subprocess.run([judge, "verify", *units], capture_output=True, text=True, check=False).stderr
    assert "shop.service" not in said
    assert "wrong.service:13: Failed to parse kill mode" in said


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        systemd.notify("READY=1")
        assert link.recv(64) == b"READY=1"


def test_rules_are_what_settings_say() -> None:
    said = {"up.memory_max": "512MiB", "app.stop_timeout_s": 7.0, "up.drain_s": 3.0, "balancer.kind": "nginx"}
    rules = rules_of(loading.load(environ={}, overrides=said).settings)
    assert (rules.memory_max, rules.stop_s, rules.drain_s) == (512 << 20, 12.0, 3.0)
