"""G1 on database servers: what was acknowledged survives SIGKILL of the application and of the server, none of it half.

Quick setting: 4 kills of the application, 2 of the server; `make soak` runs 100 and 30. A violation rate below 3/N
cannot be seen with N acknowledgements.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.bank import Child, judge
from support.servers import MariaDB, Postgres, running
from support.trials import Trials, soak

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", params=[Postgres, MariaDB], ids=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[Postgres | MariaDB]:
    """One that syncs its log at every commit, and is killed by its tests."""
    with running(request.param(durable=True)) as server:
        yield server


def kill_the_application(folder: Path, url: str, times: int) -> list[str]:
    rng, acknowledged = random.Random(7), list[str]()
    for n in range(times):
        child = Child(folder, url, f"run{n}")
        child.until(rng.randrange(1, 200))
        child.end()
        acknowledged += child.acknowledged
    return acknowledged


def kill_the_server(folder: Path, server: Postgres | MariaDB, url: str, times: int) -> list[str]:
    child = Child(folder, url, "kills")
    for n in range(1, times + 1):
        child.until(100 * n)
        server.kill()
        server.start()
        child.until(len(child.acknowledged) + 20)
    child.end()
    return child.acknowledged


def test_nothing_acknowledged_is_lost_when_the_application_is_killed(
    server: Postgres | MariaDB, tmp_path: Path, trials: Trials
) -> None:
    with server.database() as url:
        acknowledged = kill_the_application(tmp_path, url, 4)
        assert len(acknowledged) > 100
        assert judge(tmp_path, url, acknowledged) == ([], [])
        trials("G1", len(acknowledged), url)


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
    server: Postgres | MariaDB, tmp_path: Path, trials: Trials
) -> None:
    """And the application goes on by itself when the server is back."""
    with server.database() as url:
        acknowledged = kill_the_server(tmp_path, server, url, 2)
        assert len(acknowledged) > 200
        assert judge(tmp_path, url, acknowledged) == ([], [])
        trials("G1", len(acknowledged), url)


@pytest.mark.parametrize(("mode", "seen"), [("early", "lost"), ("torn", "torn"), ("sound", "")])
def test_the_checker_notices_a_broken_build(
    server: Postgres | MariaDB, tmp_path: Path, mode: str, seen: str
) -> None:
    """Acknowledging before the commit, and committing halves, are found by one kill at the right moment."""
    with server.database() as url:
        child = Child(tmp_path, url, "x", mode=mode, points="db.commit.before=kill@2")
        said = child.wait()
        assert child.code == -signal.SIGKILL, said
        lost, torn = judge(tmp_path, url, child.acknowledged)
        assert (bool(lost), bool(torn)) == (seen == "lost", seen == "torn")


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_hundred_kills_of_the_application_and_thirty_of_the_server(
    server: Postgres | MariaDB, tmp_path: Path, trials: Trials
) -> None:
    with server.database() as url:
        acknowledged = kill_the_application(tmp_path, url, soak(100))
        acknowledged += kill_the_server(tmp_path, server, url, soak(30))
        assert judge(tmp_path, url, acknowledged) == ([], [])
        trials("G1", len(acknowledged), url)
