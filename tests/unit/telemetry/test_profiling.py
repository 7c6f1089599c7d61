"""Profiles of the running process: what is weighed, what is bounded, that it ends."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from types import FrameType

import pytest

from tenfold._core.clock import SystemClock
from tenfold.errors import Conflict
from tenfold.telemetry import profiling
from tenfold.telemetry.profiling import Place, Profile, Profiler, ThreadTimes, places

pytestmark = pytest.mark.skipif(
    not ThreadTimes().known, reason="this machine does not tell the time of threads"
)


class Burner:
    """A thread that computes, and one that waits, from ``with`` to its end."""

    def __enter__(self) -> Burner:
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self.burn, name="burner"),
            threading.Thread(target=self._end.wait, name="waiter"),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def burn(self) -> None:
        while not self._end.is_set():
            sum(range(500))

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


def finished(profiler: Profiler, **options: object) -> Profile:
    profile = profiler.start(0.25, **options)  # type: ignore[arg-type]
    assert profiler._thread is not None
    profiler._thread.join()
    assert profile.done
    return profile


def by_thread(profile: Profile) -> dict[str, float]:
    found: dict[str, float] = {}
    for stack, seconds in profile.stacks.items():
        found[stack[0].function] = found.get(stack[0].function, 0.0) + seconds
    return found


def test_time_on_a_processor_goes_to_who_computes_and_none_to_who_waits() -> None:
    with Burner():
        seconds = by_thread(finished(Profiler(SystemClock())))
    assert max(seconds, key=seconds.__getitem__) == "burner"
    assert seconds.get("waiter", 0.0) < seconds["burner"] / 10


def test_time_of_the_clock_goes_to_every_thread_alike_and_stacks_are_read_from_the_outside_in() -> None:
    with Burner():
        profile = finished(Profiler(SystemClock()), kind="wall")
    seconds = by_thread(profile)
    assert seconds["waiter"] > profile.took_s / 2
    burning = next(stack for stack in profile.stacks if stack[0].function == "burner")
    assert [p.function for p in burning if p.function in ("Thread.run", "Burner.burn")] == [
        "Thread.run",
        "Burner.burn",
    ]
    assert profiling.__name__ not in {thread.function for stack in profile.stacks for thread in stack[:1]}


def test_there_is_one_profile_at_a_time_and_it_can_be_ended_early() -> None:
    profiler = Profiler(SystemClock())
    profile = profiler.start(60.0, by="ann")
    with pytest.raises(Conflict):
        profiler.start(1.0)
    assert profiler.running is profile
    profiler.stop()
    assert profile.done
    assert profiler.running is None
    assert profile.took_s < 30
    assert (profile.by, profiler.get(profile.id)) == ("ann", profile)


def test_threads_let_go_of_the_interpreter_sooner_while_somebody_looks_and_as_usual_after() -> None:
    usual, profiler = sys.getswitchinterval(), Profiler(SystemClock())
    with Burner():
        profiler.start(60.0)
        while profiler.running is not None and not profiler.running.looks:
            time.sleep(0.01)
        assert sys.getswitchinterval() == pytest.approx(profiling.SWITCH_S)
        profiler.stop()
    assert sys.getswitchinterval() == pytest.approx(usual)


def test_a_profile_asks_for_a_minute_at_most() -> None:
    profiler = Profiler(SystemClock())
    assert profiler.start(1e9).wanted_s == profiling.SECONDS_MAX
    profiler.stop()


def test_so_many_profiles_are_remembered() -> None:
    profiler = Profiler(SystemClock())
    for _ in range(profiling.KEPT_MAX + 3):
        profiler.start(0.1)
        profiler.stop()
    assert [profile.id for profile in profiler.kept] == list(range(4, profiling.KEPT_MAX + 4))


def test_more_stacks_than_there_is_room_for_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "STACKS_MAX", 2)
    profile = Profile(id=1, kind="cpu", by="", at=0.0, wanted_s=1.0)
    for n in range(4):
        profile.add((Place(f"f{n}", "f.py", 1),), 1.0)
    profile.add((Place("f0", "f.py", 1),), 1.0)
    assert (len(profile.stacks), profile.beyond_s, profile.total_s) == (2, 2.0, 3.0)


def test_the_innermost_functions_of_a_deep_stack_are_kept() -> None:
    def deep(n: int) -> FrameType:
        return sys._getframe() if n == 0 else deep(n - 1)

    found = places(deep(300))
    assert len(found) == profiling.DEPTH_MAX
    assert {place.function.rpartition(".")[2] for place in found} == {"deep"}


def test_a_machine_that_does_not_tell_weighs_nothing(tmp_path: Path) -> None:
    times = ThreadTimes(tmp_path / "nowhere")
    times.begin()
    assert not times.known
    assert times.since_last(1) == 0.0
