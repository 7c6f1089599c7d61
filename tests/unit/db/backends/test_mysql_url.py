"""What a MySQL URL may say."""

from __future__ import annotations

import pytest

from tenfold._core.sections import DatabaseSettings
from tenfold.db.backends._mysql_target import version_of
from tenfold.db.backends._mysql_url import targets_of
from tenfold.errors import ConfigError


def test_hosts_ports_and_escapes() -> None:
    found = targets_of("mysql://u%40x:p%2Fw%3A@a,b:3307,[::1]:3308/shop", DatabaseSettings())
    assert [(t.host, t.port) for t in found] == [("a", 3306), ("b", 3307), ("::1", 3308)]
    assert {(t.user, t.password, t.database) for t in found} == {("u@x", "p/w:", "shop")}
    assert "p/w:" not in repr(found)


def test_tls_is_off_on_or_verified() -> None:
    def tls(query: str) -> object:
        return targets_of(f"mysql://u:p@h/d{query}", DatabaseSettings())[0].ssl

    assert tls("") is None
    on, verified = tls("?ssl=on"), tls("?ssl=verify")
    assert on is not None
    assert not getattr(on, "check_hostname", True)
    assert getattr(verified, "check_hostname", False)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://h/d", "mysql://u:p@h", "mysql://u:p@h/", "mysql://u:p@h:0/d", "mysql://u:p@h:x/d", "mysql://u:p@/d",
        "mysql://u:p@a,,b/d", "mysql://u:p@h/d/e", "mysql://u:p@h/d?sll=on", "mysql://u:p@h/d?ssl=yes",
        "mysql://u:p@h/d?ssl_ca=/nowhere/ca.pem", "mysql:",
    ],
)  # fmt: skip
def test_a_wrong_url_is_refused_without_saying_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^database\.url: .*mysql://user") as caught:
        targets_of(url.replace(":p@", ":secret-word@"), DatabaseSettings())
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "version", "mariadb"),
    [
        ("5.5.5-10.11.6-MariaDB-0+deb12u1", (10, 11, 6), True),
        ("11.4.2-MariaDB-log", (11, 4, 2), True),
        ("8.0.36", (8, 0, 36), False),
        ("8.0.36-28.1", (8, 0, 36), False),
    ],
)
def test_versions(said: str, version: tuple[int, ...], mariadb: bool) -> None:
    assert version_of(said) == (version, mariadb)
