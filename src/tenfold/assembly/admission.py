"""What admission sees of the app's parts, and what is shown of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tenfold._core.context import Priority
from tenfold.guard.shedding.observation import Seen, Station
from tenfold.telemetry import names
from tenfold.telemetry.metrics import Family, Sample

if TYPE_CHECKING:
    from tenfold.db.database import Database
    from tenfold.guard.admission import Admission
    from tenfold.telemetry.hub import Hub


CROWDS_MAX = 5
"""Tenants that metrics name at a time."""


def station_of(database: Database) -> Station:
    """Where requests stand in line for a connection or the writer."""

    def seen() -> Seen:
        numbers = database.stats()
        # Whatever is counted goes on while somebody is served.
        served = sum(value for name, value in numbers.items() if name in _SERVED)
        return Seen(int(numbers.get("waiting", 0)), int(served))

    return seen


_SERVED = frozenset({"uses_total", "transactions", "rolled_back", "inline", "threaded"})


def pressure_of(gate: Admission | None) -> Callable[[], float]:
    """How much jobs have to hold back for requests, from 0 to 1."""
    return (lambda: 0.0) if gate is None else (lambda: gate.pressure)


def show_admission(gate: Admission, telemetry: Hub) -> None:
    """Limit, queue and pressure; refusals by priority."""
    prefix = names.HTTP_SHED.removesuffix("_shed_total")
    telemetry.numbers(
        prefix,
        "Requests refused because the process was full, by priority.",
        *(
            ({names.PRIORITY: each.name.lower()}, lambda each=each: {"shed_total": gate.refused[each]})
            for each in Priority
        ),
    )
    telemetry.numbers(
        names.ADMISSION,
        "What this process lets in.",
        (
            {},
            lambda: {
                "limit": gate.limit,
                "in_flight": gate.in_flight,
                "parked": gate.parked,
                "waiting": gate.waiting,
                "pressure": gate.pressure,
                "overloaded": int(gate.overloaded),
                "admitted_total": gate.admitted,
                "over_share_total": gate.over_share,
            },
        ),
    )
    telemetry.registry.collector(lambda: _crowds(gate), f"{names.ADMISSION}_tenant_waiting")


def _crowds(gate: Admission) -> Iterator[Family]:
    """Places in line of the tenants that have the most: a few at a time, since every name is a series of its own. Who
    has no tenant is shown as one."""
    places = Counter[str]()
    for share, count in gate.line.crowds(CROWDS_MAX):
        places["" if share.startswith("\0") else share] += count
    samples = [Sample("", {names.TENANT: tenant}, count) for tenant, count in places.items()]
    about = f"Requests in line, of the {CROWDS_MAX} tenants that have the most there."
    yield Family(f"{names.ADMISSION}_tenant_waiting", "gauge", about, samples)
