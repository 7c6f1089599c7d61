"""A primary with two standbys, and a database of registers on them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import registers
from support.cluster import Cluster
from support.servers import Postgres, running
from support.standby import Standby


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running(Postgres()) as primary, running(Standby(primary)) as one, running(Standby(primary)) as other:
        yield Cluster(primary, [one, other])


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """The name of a database with registers, on all nodes."""
    with cluster.primary.database() as url:
        name = url.rpartition("/")[2]
        cluster.primary.sql(*registers.SETUP, database=name)
        cluster.catch_up()
        yield name
