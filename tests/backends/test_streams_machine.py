"""Streams of events do what a list would, whoever appends, loads or looks back in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.streams_machine import Streams, judge
from support.trials import soak
from tenfold.eventstore.states import Known


def test_streams_do_what_lists_would(tmp_path: Path) -> None:
    judge(tmp_path, "sqlite:///app.db", Streams, 40, 20)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("url", ["postgres_url", "mariadb_url", "sqlite"])
def test_streams_do_what_lists_would_for_long(
    request: pytest.FixtureRequest, tmp_path: Path, url: str
) -> None:
    where = "sqlite:///app.db" if url == "sqlite" else request.getfixturevalue(url)
    judge(tmp_path, where, Streams, soak(1_000), 40)


def test_the_machine_finds_a_build_that_trusts_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that remembers a state of its own transaction before anybody knows whether it commits."""

    def touched(*_: Any) -> bool:
        return False

    def fits(*_: Any) -> bool:
        return True

    monkeypatch.setattr("tenfold.eventstore.aggregate.is_touched", touched)
    monkeypatch.setattr(Known, "fits", fits)
    with pytest.raises(AssertionError):
        judge(tmp_path, "sqlite:///app.db", Streams, 40, 20)
