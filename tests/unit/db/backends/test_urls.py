"""URLs of servers that cannot be: each a sentence that names the setting, and nothing of a password."""

from __future__ import annotations

import re

import pytest

from tenfold.cache.backends._redis_link import Address
from tenfold.db.backends import _postgresql_url
from tenfold.errors import ConfigError

SECRET = "hun"


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("u:hunter@[::1/db", "its host is no address"),
        ("u:hunter@h:99999/db", "its port is no number"),
        ("u:hunter/db", "its port is no number"),
        ("u:x/hunter@h/db", "its password has a / ? or # in it"),
        ("u:x?hunter@h/db", "its password has a / ? or # in it"),
        ("u:x#hunter@h/db", "its password has a / ? or # in it"),
        ("u:hunter@h", "it names no database"),
        ("u:hunter@h/db?nonsense=1", "unknown option 'nonsense'"),
    ],
)
def test_what_is_wrong_with_a_postgresql_url_is_said_without_its_password(rest: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        _postgresql_url.parse(f"postgresql://{rest}")
    assert "database.url" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert ".." not in str(caught.value)


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("u:hunter@[::1/0", "its host is no address"),
        ("u:hunter", "the port is no number"),
        ("u:1/hunter@h", "the database is no number"),
        ("u:1?hunter@h", "another option than ssl_ca_certs"),
    ],
)
def test_what_is_wrong_with_a_redis_url_is_said_without_its_password(rest: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        Address(f"redis://{rest}", "guard.url")
    assert "guard.url" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_what_is_no_url_at_all_is_not_repeated() -> None:
    """Its colon and slashes may be all that is missing."""
    with pytest.raises(ConfigError, match="://") as refused:
        _postgresql_url.parse("postgresql:user:geheim@host")
    assert "geheim" not in str(refused.value)
