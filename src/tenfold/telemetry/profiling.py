"""Where the running process spends its time: a thread of ours looks at the stacks of all others for a while.

Nothing is installed, traced or slowed down beyond the looking itself: a hundred looks a second take about one
hundredth of a core. A look at a stack says what Python runs; how long it ran is asked of the operating system, which
counts the time of each thread on a processor. So a thread that waits weighs nothing (``cpu``), unless waiting is what
is asked for (``wall``).

Bounded: one profile at a time, of 60 s at most, with so many different stacks and so deep; what is beyond is counted.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct, field

from tenfold.errors import Conflict

if TYPE_CHECKING:
    from types import FrameType

    from tenfold._core.clock import Clock

Kind = Literal["cpu", "wall"]

LOOKS_PER_S: Final = 100
SECONDS_MAX: Final = 60.0
SWITCH_S: Final = 0.0001
"""How long a thread may keep the interpreter from the looking one. Usually that is 5 ms: work that takes less would never
be seen, because the looking thread comes in when it is over."""
DEPTH_MAX: Final = 128
"""Frames of one stack that are kept, the innermost ones."""
STACKS_MAX: Final = 20_000
KEPT_MAX: Final = 8
"""Profiles that are remembered."""


class Place(Struct, frozen=True, order=True):
    """A function, where it is defined."""

    function: str
    file: str
    line: int


Stack = tuple[Place, ...]
"""From the outside in; the first place is the thread's name, with no file."""


class Profile(Struct, kw_only=True):
    """What was seen. ``stacks`` has seconds by stack: on a processor (``cpu``), or of the clock (``wall``)."""

    id: int
    kind: Kind
    by: str
    """Who asked for it."""
    at: float
    """When it began, in seconds since the epoch."""
    wanted_s: float
    took_s: float = 0.0
    looks: int = 0
    stacks: dict[Stack, float] = field(default_factory=dict[Stack, float])
    beyond_s: float = 0.0
    """Seconds in stacks that there was no room for."""
    done: bool = False

    @property
    def total_s(self) -> float:
        """Seconds in all stacks that are kept."""
        return sum(self.stacks.values())

    def add(self, stack: Stack, seconds: float) -> None:
        """Seconds spent in ``stack``."""
        known = self.stacks.get(stack)
        if known is None and len(self.stacks) >= STACKS_MAX:
            self.beyond_s += seconds
        else:
            self.stacks[stack] = (known or 0.0) + seconds


Frames = Callable[[], Mapping[int, "FrameType"]]
"""As ``sys._current_frames``: the innermost frame of each thread, by its ident."""


class Profiler:
    """The profiles of this process. ``frames`` and ``used`` are for tests: where stacks and times come from."""

    def __init__(
        self, clock: Clock, *, frames: Frames = sys._current_frames, used: ThreadTimes | None = None
    ) -> None:
        self._clock, self._frames = clock, frames
        self._used = used or ThreadTimes()
        self._turn = threading.Lock()
        self._enough = threading.Event()
        self._thread: threading.Thread | None = None
        self._before: dict[int, Stack] = {}
        """What each thread was seen in last."""
        self._next = 1
        self.kept: list[Profile] = []
        """The newest last; the last may still be under way."""

    @property
    def running(self) -> Profile | None:
        """The profile under way."""
        return self.kept[-1] if self.kept and not self.kept[-1].done else None

    def get(self, id_: int) -> Profile | None:
        """One that is remembered."""
        return next((profile for profile in self.kept if profile.id == id_), None)

    def start(self, seconds: float, *, kind: Kind = "cpu", by: str = "") -> Profile:
        """Begin to look, for so many seconds, 60 at most. Raises Conflict while another profile is under way."""
        with self._turn:
            if self.running is not None:
                raise Conflict("A profile is under way; there is one at a time.")
            profile = Profile(
                id=self._next, kind=kind, by=by, at=self._clock.now(),
                wanted_s=max(0.1, min(seconds, SECONDS_MAX)),
            )  # fmt: skip
            self._next += 1
            self.kept = [*self.kept[-KEPT_MAX + 1 :], profile]
            self._enough.clear()
            self._thread = threading.Thread(
                target=self._look, args=(profile,), name="tenfold-profiler", daemon=True
            )
            self._thread.start()
        return profile

    def stop(self) -> None:
        """End the profile under way with what it has; returns when its thread is over."""
        self._enough.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _look(self, profile: Profile) -> None:
        monotonic, wait = self._clock.monotonic, self._enough.wait
        began = before = monotonic()
        own, usual_s = threading.get_ident(), sys.getswitchinterval()
        self._used.begin()
        sys.setswitchinterval(SWITCH_S)
        try:
            while before - began < profile.wanted_s and not wait(1 / LOOKS_PER_S):
                now = monotonic()
                self._add(profile, now - before, own)
                before = now
                profile.looks += 1
                profile.took_s = now - began
        finally:
            sys.setswitchinterval(usual_s)
            self._used.end()
            self._before = {}
            profile.done = True

    def _add(self, profile: Profile, passed_s: float, own: int) -> None:
        threads = {thread.ident: thread for thread in threading.enumerate()}
        seen: dict[int, Stack] = {}
        for ident, frame in self._frames().items():
            if ident == own:
                continue
            thread = threads.get(ident)
            seconds = passed_s
            if profile.kind == "cpu":
                seconds = self._used.since_last(thread.native_id if thread is not None else None)
            root = Place(thread.name if thread is not None else "another thread", "", 0)
            now = seen[ident] = (root, *places(frame))
            if seconds > 0:
                # The looking thread comes in most easily when others let go, at the end of their work: were all of the
                # time since the last look given to this one, too much of it would go to who waits for more.
                profile.add(self._before.get(ident, now), seconds / 2)
                profile.add(now, seconds / 2)
        self._before = seen


def places(frame: FrameType | None) -> Stack:
    """The functions of a stack, from the outside in."""
    found: list[Place] = []
    while frame is not None and len(found) < DEPTH_MAX:
        code = frame.f_code
        found.append(_known(code.co_qualname, code.co_filename, code.co_firstlineno))
        frame = frame.f_back
    return tuple(reversed(found))


_places: dict[tuple[str, str, int], Place] = {}


def _known(function: str, file: str, line: int) -> Place:
    """One object for each function: stacks are compared a hundred times a second."""
    key = (function, file, line)
    place = _places.get(key)
    if place is None:
        if len(_places) > STACKS_MAX:
            _places.clear()
        place = _places[key] = Place(function, file, line)
    return place


class ThreadTimes:
    """The time of threads on a processor, as Linux counts it; elsewhere nothing is known, and so nothing weighed."""

    def __init__(self, folder: Path = Path("/proc/self/task")) -> None:
        self._folder = folder
        self._before: dict[int, int] = {}

    @property
    def known(self) -> bool:
        """Whether this machine tells."""
        return self._folder.exists()

    def begin(self) -> None:
        """What was used before does not count."""
        self._before = {tid: self._read(tid) for tid in self._threads()}

    def end(self) -> None:
        """Forget."""
        self._before = {}

    def since_last(self, tid: int | None) -> float:
        """Seconds that a thread has used since it was asked about last, or since it began."""
        if tid is None:
            return 0.0
        now = self._read(tid)
        before, self._before[tid] = self._before.get(tid, 0), now
        return max(0, now - before) / 1e9

    def _threads(self) -> Iterable[int]:
        try:
            return [int(each.name) for each in self._folder.iterdir()]
        except OSError:
            return []

    def _read(self, tid: int) -> int:
        """Nanoseconds on a processor; 0 for a thread that is over."""
        try:
            return int((self._folder / str(tid) / "schedstat").read_bytes().split()[0])
        except (OSError, ValueError, IndexError):
            return 0
