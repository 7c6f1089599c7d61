"""The databases that fault tests of the queue run on. Each is a URL that other processes can use too."""

from __future__ import annotations

import pytest

FIXTURES = {"postgresql": "postgres_url", "mariadb": "mariadb_url"}
"""Servers by name, with the fixture that gives a fresh database on one."""


@pytest.fixture(params=["sqlite", *FIXTURES])
def database(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind; relative files lie in the test's folder."""
    return url_of(request)


@pytest.fixture(params=[*FIXTURES])
def server_database(request: pytest.FixtureRequest) -> str:
    """An empty database on each server: several transactions write at a time."""
    return url_of(request)


@pytest.fixture(params=["sqlite", *(pytest.param(name, marks=pytest.mark.soak) for name in FIXTURES)])
def broken_on(request: pytest.FixtureRequest) -> str:
    """For builds that are broken whatever the database: embedded, and on servers in the long settings."""
    return url_of(request)


@pytest.fixture(params=["postgresql", pytest.param("mariadb", marks=pytest.mark.soak)])
def quick_server(request: pytest.FixtureRequest) -> str:
    """An empty database on a server; those on MariaDB in the long settings."""
    return url_of(request)


@pytest.fixture(params=["sqlite", "postgresql", pytest.param("mariadb", marks=pytest.mark.soak)])
def quick_database(request: pytest.FixtureRequest) -> str:
    """An empty database; those on MariaDB in the long settings."""
    return url_of(request)


@pytest.fixture(
    params=["postgresql", *(pytest.param(name, marks=pytest.mark.soak) for name in ("sqlite", "mariadb"))]
)
def typical_database(request: pytest.FixtureRequest) -> str:
    """An empty database, in the quick settings on one server: for claims whose statements the suites have judged on
    each."""
    return url_of(request)


def url_of(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return "sqlite:///app.db"
    url: str = request.getfixturevalue(FIXTURES[request.param])
    return url
