"""What people change at run time: checked, in force at once, kept, seen by the fleet, over at its time."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from tenfold._core.clock import ManualClock
from tenfold.errors import ConfigError, InvalidInput, NotFound, StoreUnavailable
from tenfold.guard.backends._memory_overrides import MemoryOverrides
from tenfold.guard.overrides import POLL_S, Adjustable, Override, Overrides, moment


class Store(MemoryOverrides):
    """One that can be away."""

    away = False

    async def read(self) -> list[Override]:
        if self.away:
            raise StoreUnavailable("nobody answers")
        return await super().read()


class Instance:
    """One process of a fleet, with one operation and one client to change."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.overrides = Overrides(
            store,
            clock,
            [self._adjustable("orders.place", "limit", "rate"), self._adjustable("payments", "breaker")],
        )

    def _adjustable(self, name: str, *policies: str) -> Adjustable:
        def check(value: Any) -> Any:
            if value == "wrong":
                raise ConfigError("this is wrong, at character 3.", remedy="Write another.")
            return value

        def apply(values: Mapping[str, Any]) -> None:
            self.seen.append((name, dict(values)))

        return Adjustable(name, dict.fromkeys(policies, check), apply)


def two() -> tuple[Instance, Instance, Store, ManualClock]:
    store, clock = Store(), ManualClock()
    return Instance(store, clock), Instance(store, clock), store, clock


ANN = {"by": "ann", "why": "a flood"}


async def test_a_change_holds_at_once_where_it_was_made_and_elsewhere_after_a_look() -> None:
    here, there, _, _ = two()
    await here.overrides.set("orders.place.limit", "5/minute", **ANN)
    assert here.seen == [("orders.place", {"limit": "5/minute"})]
    assert there.seen == []
    await there.overrides.look()
    assert there.seen == here.seen


async def test_an_instance_looks_at_its_start_and_then_once_a_second() -> None:
    here, there, _, clock = two()
    await here.overrides.set("payments.breaker", "open", **ANN)
    await there.overrides.start()
    assert there.seen == [("payments", {"breaker": "open"})]
    await here.overrides.unset("payments.breaker", by="ann")
    await clock.advance(POLL_S)
    await there.overrides.stop()
    assert there.seen[-1] == ("payments", {})


async def test_what_is_changed_of_one_thing_is_applied_together_and_nothing_else_is_touched() -> None:
    here, _, _, _ = two()
    await here.overrides.set("orders.place.limit", "5/minute", **ANN)
    await here.overrides.set("orders.place.rate", 3, **ANN)
    await here.overrides.look()
    assert here.seen[1:] == [("orders.place", {"limit": "5/minute", "rate": 3})]


async def test_a_change_ends_by_itself_also_while_the_store_is_away() -> None:
    here, _, store, clock = two()
    await here.overrides.set("orders.place.limit", None, until="90s", **ANN)
    store.away = True
    await clock.advance(89)
    await here.overrides.look()
    assert len(here.seen) == 1
    await clock.advance(1)
    await here.overrides.look()
    assert here.seen[1:] == [("orders.place", {})]


async def test_what_has_ended_is_forgotten_by_whoever_sees_it() -> None:
    here, there, store, clock = two()
    await here.overrides.set("orders.place.limit", None, until="90s", **ANN)
    await clock.advance(90)
    await there.overrides.look()
    assert await store.read() == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("orders.place.limt", "5/minute", "Did you mean 'orders.place.limit'?"),
        ("orders.place.breaker", "open", "There is no policy"),
    ],
)
async def test_an_unknown_policy_is_refused_with_the_nearest_name(name: str, value: str, said: str) -> None:
    here, _, store, _ = two()
    with pytest.raises(NotFound, match=said):
        await here.overrides.set(name, value, **ANN)
    assert await store.read() == []


async def test_a_wrong_value_is_refused_with_its_sentence_and_nothing_changes() -> None:
    here, _, store, _ = two()
    with pytest.raises(InvalidInput) as refused:
        await here.overrides.set("orders.place.limit", "wrong", **ANN)
    assert [(e.path, e.message) for e in refused.value.errors] == [
        ("value", "This is wrong, at character 3. Write another.")
    ]
    assert (await store.read(), here.seen) == ([], [])


async def test_who_and_why_must_be_said_and_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    here, _, _, _ = two()
    with pytest.raises(InvalidInput):
        await here.overrides.set("orders.place.limit", 1, by="ann", why="  ")
    with caplog.at_level(logging.INFO, "tenfold.guard"):
        await here.overrides.set("orders.place.limit", "5/minute", **ANN)
        await here.overrides.unset("orders.place.limit", by="bob", why="it is over")
    said = [record.getMessage() for record in caplog.records]
    assert any("orders.place.limit = '5/minute', by ann: a flood" in line for line in said)
    assert any("taken back, by bob: it is over" in line for line in said)


async def test_what_another_version_has_set_is_passed_over_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    here, _, store, clock = two()
    await store.put(Override("orders.gone.limit", 5, "ann", "old", clock.now()))
    for _ in range(3):
        await here.overrides.look()
    assert here.seen == []
    assert sum("passed over" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("until", "at"),
    [
        (None, None),
        ("15m", 1_900.0),
        ("2h", 8_200.0),
        (1_500, 1_500.0),
        ("1970-01-01T01:00:00+00:00", 3_600.0),
        ("1970-01-01T01:00:00Z", 3_600.0),
    ],
)
def test_an_end_is_a_time_from_now_or_a_moment(until: Any, at: float | None) -> None:
    assert moment(until, 1_000.0) == at


@pytest.mark.parametrize("until", ["tomorrow", "1970-01-01T01:00:00", "2 hours", "", True, 999, "-5m"])
def test_an_end_in_the_past_or_without_a_zone_is_refused(until: Any) -> None:
    with pytest.raises(InvalidInput):
        moment(until, 1_000.0)
