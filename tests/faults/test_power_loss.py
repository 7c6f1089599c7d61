"""G2: what was acknowledged survives the loss of power, on SQLite and on every server whose log waits for the disk.

Transfers are acknowledged while their database lies on a disk of its own; at a random moment all processes stop and the
disk is copied as it is, without what the kernel has not written yet. The copy is mounted, the database is started on
it, and everything acknowledged has to be there. Settings that do not wait for the disk have to lose something.

Quick setting: 2 losses on SQLite, 1 on PostgreSQL; `make soak` runs 100 and 20.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from support.bank import Child, judge
from support.power import disk, family
from support.servers import MariaDB, Postgres, running
from support.trials import Trials, soak

pytestmark = pytest.mark.mounts

FILE = "sqlite:///bank.db"
NAMES = {Postgres: "postgresql", MariaDB: "mysql"}
Losses = tuple[list[str], list[str], int]
"""What is lost, what is half there, and how much was acknowledged."""


def sqlite_losses(times: int, mode: str = "sound") -> Losses:
    rng, acknowledged, lost, torn = random.Random(2), 0, list[str](), list[str]()
    for n in range(times):
        with disk(48) as mine:
            child = Child(mine.folder, FILE, f"run{n}", mode=mode)
            child.until(rng.randrange(50, 1500))
            copy = mine.after_power_loss([child.pid], "copy")
            child.wait()
            with copy.mounted() as folder:
                here, halves = judge(folder, FILE, child.acknowledged)
        acknowledged, lost, torn = acknowledged + len(child.acknowledged), lost + here, torn + halves
    return lost, torn, acknowledged


def server_loss(kind: type[Postgres | MariaDB], folder: Path, *, durable: bool, seed: int) -> Losses:
    """One loss of the server's power. A server that cannot start again has lost everything."""
    with disk(600) as mine:
        server = kind(durable=durable).keep_in(mine.folder / "server")
        with running(server):
            child = Child(folder, server.url(), f"run{seed}")
            child.until(1)
            mine.sync()  # the files of a new server; from here on it is up to the server
            child.until(random.Random(seed).randrange(100, 600))
            copy = mine.after_power_loss([child.pid, *family(server.pid)], "copy")
            child.wait()
            server.kill()
            with copy.mounted() as files:
                lost, torn = after_a_restart(kind, files, folder, child.acknowledged)
        return lost, torn, len(child.acknowledged)


def after_a_restart(
    kind: type[Postgres | MariaDB], files: Path, folder: Path, acknowledged: list[str]
) -> tuple[list[str], list[str]]:
    server = kind(durable=True).keep_in(files / "server")
    try:
        with running(server):
            return judge(folder, server.url(), acknowledged)
    except RuntimeError:
        return acknowledged, []


def test_sqlite_loses_nothing_acknowledged_with_its_power(trials: Trials) -> None:
    lost, torn, n = sqlite_losses(2)
    assert (lost, torn) == ([], [])
    assert n > 100
    trials("G2", n, FILE)


def test_a_file_that_is_not_synced_loses_what_was_acknowledged() -> None:
    lost, _, n = sqlite_losses(1, "unsynced")
    assert len(lost) > n / 2


def test_a_server_loses_nothing_acknowledged_with_its_power(tmp_path: Path, trials: Trials) -> None:
    lost, torn, n = server_loss(Postgres, tmp_path, durable=True, seed=1)
    assert (lost, torn) == ([], [])
    assert n > 100
    trials("G2", n, NAMES[Postgres])


@pytest.mark.soak
@pytest.mark.parametrize("kind", [Postgres, MariaDB])
def test_a_server_that_does_not_wait_for_the_disk_loses(
    kind: type[Postgres | MariaDB], tmp_path: Path
) -> None:
    lost, torn, _ = server_loss(kind, tmp_path, durable=False, seed=1)
    assert lost + torn


@pytest.mark.soak
def test_sqlite_loses_nothing_in_a_hundred_losses_of_power(trials: Trials) -> None:
    lost, torn, n = sqlite_losses(soak(100))
    assert (lost, torn) == ([], [])
    trials("G2", n, FILE)


@pytest.mark.soak
@pytest.mark.parametrize("kind", [Postgres, MariaDB])
def test_a_server_loses_nothing_in_twenty_losses_of_power(
    kind: type[Postgres | MariaDB], tmp_path: Path, trials: Trials
) -> None:
    for seed in range(soak(20)):
        lost, torn, n = server_loss(kind, tmp_path, durable=True, seed=seed)
        assert (lost, torn) == ([], [])
        trials("G2", n, NAMES[kind])
