"""What a page of metrics is read as, and how the instances of a role become one sample."""

from __future__ import annotations

import msgspec
import pytest

from tenfold._core.clock import ManualClock
from tenfold._core.sections import ScaleSettings, Settings
from tenfold.assembly.admission import show_admission
from tenfold.guard.admission import Admission
from tenfold.guard.shedding.limit import FixedLimit
from tenfold.runtime.scale import Sample, Scaler
from tenfold.runtime.scale.signals import Load, Reading, load_between, quantile, read, sample_of
from tenfold.telemetry import names
from tenfold.telemetry.exposition import Exposition
from tenfold.telemetry.hub import Hub
from tenfold.telemetry.operations import OperationTable

PAGE = f"""# HELP {names.ADMISSION}_limit What this process lets in.
# TYPE {names.ADMISSION}_limit gauge
{names.ADMISSION}_limit 20.0
{names.ADMISSION}_in_flight 12.0
{names.ADMISSION}_parked 2.0
{names.ADMISSION}_waiting 3.0
{names.ADMISSION}_admitted_total 1000.0
{names.HTTP_SHED}{{priority="default"}} 5.0
{names.HTTP_SHED}{{priority="sheddable"}} 7.0
{names.HTTP_DURATION}_bucket{{le="0.1",operation="a{{b}}, le=",method="GET"}} 90.0
{names.HTTP_DURATION}_bucket{{method="GET",le="0.25"}} 100.0
{names.HTTP_DURATION}_bucket{{method="GET",le="+Inf"}} 100.0
{names.QUEUE_OLDEST} 4.5
{names.QUEUE_HANDLED}{{handler="mail",outcome="done"}} 40.0
process_cpu_seconds_total 8.0 1395066363000
something_else 3
{names.ADMISSION}_limit_of_others NaN
"""


def loads(**more: float) -> Load:
    return msgspec.structs.replace(Load(10.0, 20.0, 0.2, 0.0, 0.5), **more)


def test_a_page_is_read_by_the_names_that_are_written() -> None:
    reading = read(PAGE, 7.0)
    assert reading.at == 7.0
    assert reading[f"{names.ADMISSION}_limit"] == 20.0
    assert reading[names.HTTP_SHED] == 12.0
    assert reading["process_cpu_seconds_total"] == 8.0
    assert dict(reading.buckets) == {0.1: 90.0, 0.25: 100.0, float("inf"): 100.0}


@pytest.mark.parametrize(
    "text", ["", "<html>", f"{names.QUEUE_OLDEST} none\n", f"{names.QUEUE_OLDEST} NaN\n", "\0" * 50]
)
def test_what_is_no_page_of_numbers_says_nothing(text: str) -> None:
    assert read(text, 0.0) == Reading(0.0, {}, {})


def test_the_names_are_those_that_an_instance_shows() -> None:
    clock = ManualClock()
    telemetry = Hub("app", Settings(), clock, None)
    gate = Admission(FixedLimit(20), clock)
    show_admission(gate, telemetry)
    stats = OperationTable(telemetry.registry).stats("orders.list", "GET", "/orders")
    before = read(Exposition(telemetry.registry).render()[0].decode(), 0.0)
    for _ in range(5):
        gate.enter()
    gate.refused[1] += 5
    stats.buckets[7] += 4
    after = read(Exposition(telemetry.registry).render("application/openmetrics-text")[0].decode(), 2.0)
    load = load_between(before, after)
    assert load is not None
    assert (load.limit, load.in_flight) == (20.0, 10.0)
    assert 0.05 < load.p99_s <= 0.1
    assert load.cpu >= 0.0


def test_who_was_refused_and_who_waits_would_be_in_progress_too() -> None:
    before = read(PAGE, 0.0)
    later = {**before.numbers, f"{names.ADMISSION}_admitted_total": 1040.0, names.HTTP_SHED: 30.0}
    later[f"{names.ADMISSION}_waiting"] = 5.0
    load = load_between(before, Reading(2.0, later, before.buckets))
    assert load is not None
    assert load.in_flight == pytest.approx((12 - 2) * (1 + (18 + 2) / 40))


def test_a_process_that_began_anew_and_a_page_that_is_not_later_say_nothing() -> None:
    before = read(PAGE, 5.0)
    assert load_between(before, before) is None
    assert load_between(before, read(PAGE.replace(" 1000.0", " 3.0"), 7.0)) is None


def test_a_quantile_is_of_what_came_in_between() -> None:
    inf = float("inf")
    before = {0.1: 1000.0, 1.0: 1000.0, inf: 1000.0}
    assert quantile(before, {0.1: 1000.0, 1.0: 1100.0, inf: 1100.0}, 0.5) == pytest.approx(0.55)
    assert quantile(before, {0.1: 1000.0, 1.0: 1000.0, inf: 1010.0}, 0.99) == 1.0
    assert quantile(before, before, 0.99) == 0.0
    assert quantile({}, {}, 0.99) == 0.0


def test_instances_that_do_not_answer_are_taken_to_do_what_the_others_do_unless_they_are_most() -> None:
    assert sample_of([loads()] * 3, 4, 1.0) == Sample(1.0, 4, 40.0, 20.0, 0.2, 0.0, 0.5)
    assert sample_of([loads()], 4, 1.0) is None
    assert sample_of([], 0, 1.0) is None


def test_one_slow_instance_does_not_decide_for_the_others() -> None:
    """It serves one request at a time, at two seconds; its three neighbours are well."""
    scaler = Scaler(ScaleSettings(), wanted=4)
    slow = loads(in_flight=2.0, limit=2.0, p99_s=2.5, cpu=0.1)
    well = loads(in_flight=14.0, limit=20.0, p99_s=0.1)
    for number in range(600):
        sample = sample_of([slow, well, well, well], 4, number * 2.0)
        assert sample is not None
        wanted = scaler.decide([sample], 1, 8, number * 2.0).wanted
    assert wanted in (3, 4)
