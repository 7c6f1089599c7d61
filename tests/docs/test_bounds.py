"""The table of bounds says what the settings say."""

from __future__ import annotations

import re
from pathlib import Path

from tenfold._core.sections import HttpSettings

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "hostile-clients.md"
ROWS = re.findall(r"^\| [^|]+ \| `http\.(\w+)` \| (\d+) \|", GUIDE.read_text(), re.MULTILINE)
NOT_OF_CLIENTS = {
    "concurrency_max",
    "waiting_max",
    "threads",
    "port",
    "compress_min_bytes",
    "blocked_loop_warn_s",
}
"""Numbers of [http] that bound what the server does, and not what a client may do."""


def test_every_default_is_the_one_in_force() -> None:
    settings = HttpSettings()
    assert len(ROWS) >= 15
    assert {name: float(value) for name, value in ROWS} == {
        name: float(getattr(settings, name)) for name, _ in ROWS
    }


def test_every_bound_on_clients_is_in_the_table() -> None:
    settings = HttpSettings()
    numbers = {
        name
        for name in HttpSettings.__struct_fields__
        if type(getattr(settings, name)) in (int, float) and name not in NOT_OF_CLIENTS
    }
    assert numbers == {name for name, _ in ROWS}
