"""The plan of a fleet: what it does in each case, and what holds in all of them under chance."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from support.machine import Fate, Machine
from tenfold.runtime.up.fleet import Fleet, Group, Rules, held_sentence
from tenfold.runtime.up.plan import plan
from tenfold.runtime.up.roles import Wanted

WEB = (Wanted("web", "", 2, 2),)


def machine(*fates: Fate, wanted: Any = WEB, **options: Any) -> Machine:
    return Machine(wanted, fates=fates or ("well",), **options)


def test_what_is_wanted_starts_and_is_admitted_when_it_answers() -> None:
    fleet = machine()
    first = fleet.tick()
    assert [(step.kind, step.name) for step in first] == [("start", "web.1"), ("start", "web.2")]
    assert first[0].sentence == "web.1 starts: 0 of 2 are there."
    fleet.run(10)
    assert [instance.name for instance in fleet.ready()] == ["web.1", "web.2"]


def test_a_whole_fleet_does_not_start_at_once() -> None:
    fleet = machine(wanted=(Wanted("web", "", 8, 8), Wanted("worker", "", 3, 3)))
    for _ in range(100):
        fleet.tick()
        assert sum(i.state == "starting" for i in fleet.fleet.instances.values()) <= fleet.rules.starting_max
        fleet.now += 0.5
    assert (len(fleet.ready()), len(fleet.ready("worker"))) == (8, 3)


def test_one_that_is_killed_is_started_again_by_its_name() -> None:
    fleet = machine()
    fleet.run(20)
    fleet.kill("web.1")
    assert "web.1 ended by itself (signal 9); the next one may start " in fleet.said[-1]
    fleet.run(6)
    assert [instance.name for instance in fleet.ready()] == ["web.2", "web.1"]
    assert fleet.starts() == 3


def test_ends_of_instances_that_were_of_use_hold_nothing() -> None:
    fleet = machine()
    for _ in range(20):
        fleet.run(12)
        fleet.kill(fleet.ready()[0].name)
    fleet.run(12)
    assert len(fleet.ready()) == 2
    assert not fleet.fleet.groups["web"].held


def test_a_crash_loop_is_held_with_its_last_words_and_one_try_a_minute() -> None:
    fleet = machine("dies at start")
    fleet.run(120)
    group = fleet.fleet.groups["web"]
    assert "web is held" in group.held
    assert "tenfold restart web" in group.held
    assert group.words[-1] == "KeyError: 'DATABASE_URL'"
    before = fleet.starts()
    assert before <= fleet.rules.crashes_max + fleet.rules.starting_max + 2
    fleet.run(600)
    assert fleet.starts() - before <= 10 + 1


def test_a_held_role_goes_on_by_itself_when_one_try_gets_ready() -> None:
    fleet = machine("dies at start")
    fleet.run(40)
    fleet.fates = ("well",)
    fleet.run(90)
    assert len(fleet.ready()) == 2
    assert not fleet.fleet.groups["web"].held


def test_what_is_held_without_a_word_says_how_to_find_out() -> None:
    group = Group(role="web", failures=5)
    assert (
        "web is held: 5 instances in a row ended before being of use. Find out with `tenfold run` what it waits for"
        in (held_sentence(group, Rules(), []))
    )


def test_a_restart_lets_a_held_role_go_on_at_once() -> None:
    fleet = machine("dies at start")
    fleet.run(40)
    fleet.fates = ("well",)
    fleet.fleet.renew(["web"])
    fleet.run(10)
    assert len(fleet.ready()) == 2


def test_a_rolling_restart_to_code_that_fails_leaves_what_runs() -> None:
    fleet = machine()
    fleet.run(20)
    fleet.fates = ("dies at start",)
    fleet.fleet.renew(["web"])
    fleet.run(300)
    assert [(i.name, i.generation) for i in fleet.ready()] == [("web.1", 0), ("web.2", 0)]
    assert "2 instances that are ready go on" in fleet.fleet.groups["web"].held


def test_one_that_never_gets_ready_is_ended_and_counts_as_a_crash() -> None:
    fleet = machine("never ready", rules=Rules(ready_timeout_s=5))
    fleet.run(12)
    assert any("not ready within 5 s (up.ready_timeout_s)" in step.sentence for _, step in fleet.history)
    assert any("never got ready" in said for said in fleet.said)
    assert fleet.fleet.groups["web"].failures >= 2


def test_those_that_hang_at_start_do_not_pile_up() -> None:
    fleet = machine("hangs at start", rules=Rules(ready_timeout_s=2, stop_s=20))
    for _ in range(120):
        fleet.run(0.5)
        assert len(fleet.fleet.instances) <= 2
    assert fleet.starts() > 2


def test_one_that_hangs_on_drain_is_killed_after_its_time() -> None:
    fleet = machine("hangs on drain", rules=Rules(stop_s=20))
    fleet.run(20)
    fleet.fleet.scale("web", 1, 1)
    fleet.run(30)
    told, killed = (next(at for at, s in fleet.history if s.kind == kind) for kind in ("tell", "kill"))
    assert killed - told == pytest.approx(20)
    assert len(fleet.fleet.instances) == 1


def test_one_that_falls_silent_is_replaced() -> None:
    fleet = machine("falls silent", rules=Rules(silent_timeout_s=10))
    fleet.run(60)
    assert any("has not answered for 10 s" in step.sentence for _, step in fleet.history)


def test_instances_that_say_they_are_not_ready_stay() -> None:
    """Their database is away: others would not be ready either."""
    fleet = machine()
    fleet.run(20)
    for body in fleet.bodies.values():
        body.ready_at = float("inf")
    fleet.run(600)
    assert [i.name for i in fleet.ready()] == ["web.1", "web.2"]
    assert fleet.starts() == 2


def test_one_above_its_memory_is_replaced_in_order() -> None:
    fleet = machine("grows", rules=Rules(memory_max=512 << 20))
    fleet.run(20)
    fleet.fates = ("well",)
    lowest = 2
    for _ in range(120):
        fleet.tick()
        lowest = min(lowest, len(fleet.ready()))
        fleet.now += 0.5
    assert fleet.starts() == 4
    assert lowest == 2
    assert any("900 MiB, and 512 are allowed (up.memory_max)" in step.sentence for _, step in fleet.history)


def test_the_balancer_knows_before_the_instance() -> None:
    fleet = machine(rules=Rules(drain_s=3))
    fleet.run(20)
    fleet.fleet.scale("web", 1, 1)
    fleet.run(20)
    gone, told = (next(at for at, s in fleet.history if s.kind == kind) for kind in ("withdraw", "tell"))
    assert told - gone == pytest.approx(3.5)  # the balancer took half a second to forget it


def test_a_balancer_that_does_not_follow_delays_the_end_and_does_not_prevent_it() -> None:
    fleet = machine(rules=Rules(drain_s=3, stop_s=20))
    fleet.run(20)
    fleet._balance = lambda: None  # type: ignore[method-assign]
    fleet.fleet.scale("web", 1, 1)
    fleet.run(40)
    gone, told = (next(at for at, s in fleet.history if s.kind == kind) for kind in ("withdraw", "tell"))
    assert told - gone == pytest.approx(20)


def test_fixed_ports_are_freed_before_they_are_taken_again() -> None:
    fleet = machine(wanted=(Wanted("web", "", 1, 1),), balanced=False)
    fleet.run(20)
    fleet.fleet.renew(["web"])
    for _ in range(60):
        fleet.tick()
        assert {i.name for i in fleet.fleet.instances.values()} <= {"web.1"}
        fleet.now += 0.5
    assert [(i.name, i.generation) for i in fleet.ready()] == [("web.1", 1)]


def test_settings_that_changed_win_over_what_was_asked_for_since() -> None:
    fleet = Fleet()
    fleet.want(WEB, balanced=True)
    fleet.scale("web", 5, 5)
    fleet.want(WEB, balanced=True)
    assert fleet.groups["web"].count == 5
    fleet.want((Wanted("web", "", 3, 4), Wanted("worker")), balanced=True)
    assert (fleet.groups["web"].count, fleet.groups["worker"].count) == (4, 1)
    fleet.want((Wanted("worker"),), balanced=True)
    assert fleet.groups["web"].count == 0


def test_a_state_that_was_kept_continues() -> None:
    fleet = machine()
    fleet.run(20)
    fleet.fleet.renew(["web"])
    fleet.run(2)
    kept = msgspec.json.decode(msgspec.json.encode(fleet.fleet), type=Fleet)
    assert kept == fleet.fleet
    assert plan(kept, fleet.rules, fleet.now) == plan(fleet.fleet, fleet.rules, fleet.now)


def test_everything_ends() -> None:
    fleet = machine(
        "well", "hangs on drain", "never ready", wanted=(Wanted("web", "", 4, 4), Wanted("worker"))
    )
    fleet.run(15)
    fleet.fleet.stopping = True
    fleet.run(fleet.rules.stop_s + 5)
    assert not fleet.fleet.instances


FATES: tuple[Fate, ...] = ("well",) * 6 + (
    "dies at start",
    "never ready",
    "hangs on drain",
    "falls silent",
    "grows",
)  # type: ignore[assignment]


@pytest.mark.parametrize("seed", range(40))
def test_whatever_becomes_of_instances(seed: int) -> None:
    """No more than one surge; none that is ready leaves below the count, but those that fell silent; in the end all is
    as wanted."""
    fleet = Machine(
        WEB, seed, Rules(memory_max=512 << 20, silent_timeout_s=15, ready_timeout_s=8), fates=FATES
    )
    count = 2
    for tick in range(600):
        if fleet.rng.random() < 0.01 and fleet.ready():
            fleet.kill(fleet.rng.choice(fleet.ready()).name)
        if fleet.rng.random() < 0.01:
            fleet.fleet.renew(["web"])
        if tick == 300:
            fleet.fleet.scale("web", count := 4, 4)
        before = {i.name for i in fleet.ready()}
        steps = fleet.tick()
        left = [
            s for s in steps if s.kind == "withdraw" and s.name in before and "not answered" not in s.sentence
        ]
        assert not left or len(fleet.ready()) >= count, (tick, left)
        assert len(fleet.live()) <= count + 1, (tick, fleet.live())
        fleet.now += 0.5
    fleet.fates = ("well",)
    fleet.run(400)
    assert len(fleet.ready()) == count
    generation = fleet.fleet.groups["web"].generation
    assert all(i.generation == generation for i in fleet.ready())


@pytest.mark.parametrize("seed", range(10))
def test_a_rolling_restart_under_chance_keeps_the_count_and_gives_everybody_the_new_code(seed: int) -> None:
    fleet = Machine((Wanted("web", "", 3, 6),), seed, fates=("well", "hangs on drain"))
    fleet.run(30)
    fleet.fleet.renew(["web"])
    for _ in range(400):
        fleet.tick()
        assert 3 <= len(fleet.ready()) <= 4
        assert len(fleet.live()) <= 4
        assert len(fleet.fleet.instances) <= 5
        fleet.now += 0.5
    assert {i.generation for i in fleet.fleet.instances.values()} == {1}
    assert fleet.starts() == 6
