"""``tenfold balancer``: the configuration that the settings ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., str]


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "tenfold.toml"
    file.write_text('[http]\nport = 8100\ntrusted_proxies = ["127.0.0.1"]\n[balancer]\nport = 8181\n')
    return file


def test_it_prints_what_stands_in_front_of_tenfold_run(tenfold: Command, settings: Path) -> None:
    nginx = tenfold("balancer", "nginx", "-c", str(settings))
    assert "listen 127.0.0.1:8181;" in nginx
    assert "server 127.0.0.1:8100 max_fails=1 fail_timeout=1s;  # web.1" in nginx
    haproxy = tenfold("balancer", "haproxy", "-c", str(settings))
    assert "bind 127.0.0.1:8181\n" in haproxy
    assert "server web.1-8100 127.0.0.1:8100 weight 1 check port 8001" in haproxy


def test_instances_can_be_named(tenfold: Command, settings: Path) -> None:
    said = tenfold("balancer", "haproxy", "-c", str(settings), "-u", "10.0.0.1:80/81", "-u", "[::1]:90/91")
    assert "server web.1-80 10.0.0.1:80 weight 1 check port 81" in said
    assert "server web.2-90 [::1]:90 weight 1 check port 91" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("nginx", "-u", "here"),
            "--upstream: 'here' is no instance. Write 127.0.0.1:8000, or 127.0.0.1:8000/8001.",
        ),
        (("apache",), 'Choose from: "nginx", "haproxy"'),
    ],
)
def test_what_is_no_instance_or_no_balancer_is_a_sentence(
    words: tuple[str, ...], sentence: str, tenfold: Command, settings: Path
) -> None:
    assert sentence in tenfold("balancer", *words, "-c", str(settings), status=2)


def test_an_app_that_trusts_no_proxy_is_told(tenfold: Command, tmp_path: Path) -> None:
    file = tmp_path / "tenfold.toml"
    file.write_text("[balancer]\nport = 8181\n")
    assert "Set http.trusted_proxies" in tenfold("balancer", "nginx", "-c", str(file))
