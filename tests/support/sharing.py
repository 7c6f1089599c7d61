"""What tests share is started once and ends with the last of them: a pytest plugin.

With ``--dist loadgroup`` tests that need one expensive server run in one process of a parallel run. xdist tells its
scheduler of marked groups by changing the ids of tests, which they no longer allow since pytest 9.2, so groups are known
here by what the ids say.

A fixture of the session that is defined for one folder ends when the tests of that folder are over, and a broker with its
group. To pytest both would run until the end: some twenty processes, each of which takes a few percent of a core while it
does nothing. Should a test come that wants one after all, it is started again.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import pytest

EXPENSIVE = re.compile("kafka|rabbitmq|nats|sqs|browser", re.IGNORECASE)
BROKERS = {"kafka": "kafka", "rabbitmq": "rabbitmq", "nats": "nats", "moto": "sqs"}
"""Fixtures of servers, and the group of tests that has them to itself."""

_MADE = pytest.StashKey[dict[pytest.FixtureDef[Any], pytest.FixtureRequest]]()
"""The fixtures of the session, in the order in which they were set up."""


def group(nodeid: str) -> str:
    """Tests with the same answer run one after another in one process."""
    found = EXPENSIVE.search(nodeid)
    return nodeid if found is None else found.group().lower()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The scheduler of a run with ``--dist loadgroup``."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class Scheduling(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return Scheduling(config, log)


def wanted(fixture: pytest.FixtureDef[Any], item: pytest.Item) -> bool:
    """Whether ``item`` may use a fixture of the session."""
    if fixture.node is not None and fixture.node.nodeid not in {node.nodeid for node in item.listchain()}:
        return False
    named = fixture.argname in getattr(item, "fixturenames", ())
    return named or group(item.nodeid) == BROKERS.get(fixture.argname, group(item.nodeid))


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    value = yield
    if request.scope == "session":
        made = request.config.stash.setdefault(_MADE, {})
        made.pop(fixturedef, None)  # set up again, with another parameter: it is now the last
        made[fixturedef] = request
    return value


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
    yield
    made = item.config.stash.get(_MADE, {})
    for fixture in reversed(list(made)):
        if nextitem is not None and not wanted(fixture, nextitem):
            fixture.finish(made.pop(fixture))
