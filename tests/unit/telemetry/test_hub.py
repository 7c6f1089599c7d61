"""Other parts show their numbers without knowing metrics."""

from __future__ import annotations

from tenfold._core.clock import ManualClock
from tenfold._core.sections import Settings
from tenfold.telemetry.hub import Hub
from tenfold.telemetry.metrics import Family


def families(hub: Hub) -> dict[str, Family]:
    return {family.name: family for family in hub.registry.collect()}


def test_numbers_of_several_sources_are_one_family_each_read_when_asked() -> None:
    hub = Hub("shop", Settings(), ManualClock(), None)
    hits = {"hits_total": 1, "entries": 5}
    hub.numbers(
        "x_cache", "Caches.", ({"cache": "a"}, lambda: hits), ({"cache": "b"}, lambda: {"hits_total": 2})
    )
    hits["hits_total"] = 9
    found = families(hub)
    counter, gauge = found["x_cache_hits"], found["x_cache_entries"]
    assert (counter.kind, gauge.kind) == ("counter", "gauge")
    assert [(s.suffix, s.labels["cache"], s.value) for s in counter.samples] == [
        ("_total", "a", 9),
        ("_total", "b", 2),
    ]
    assert [(s.suffix, s.labels["cache"], s.value) for s in gauge.samples] == [("", "a", 5)]


def test_a_source_that_fails_hides_no_other() -> None:
    hub = Hub("shop", Settings(), ManualClock(), None)

    def broken() -> dict[str, int]:
        raise OSError

    hub.numbers("x_broken", "Broken.", ({}, broken))
    hub.numbers("x_sound", "Sound.", ({}, lambda: {"n": 1}))
    assert "x_sound_n" in families(hub)


def test_without_a_log_nothing_is_written_per_request() -> None:
    assert Hub("shop", Settings(), ManualClock(), None).http.access is None
