"""Tests that need one expensive server run in one process of a parallel run, so that it is started once.

A pytest plugin for ``--dist loadgroup``. xdist tells its scheduler of marked groups by changing the ids of tests, which
they no longer allow since pytest 9.2, so groups are known here by what the ids say.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

EXPENSIVE = re.compile("kafka|rabbitmq|nats|sqs|browser", re.IGNORECASE)


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
