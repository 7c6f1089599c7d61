"""Policies changed at run time: who said what, why, and until when.

An override stands in front of what the code and the settings say. It is kept in the app's database, looked for once a
second by every instance, and forgotten at its end; the instance that is told applies it before it answers. So a change
has reached all instances 2 s after it was made, and a new or restarted instance has it before its first request. While
the database is away, what was known last stays in force, and ends at its time all the same.

Times are seconds since the epoch on the clock of the machine.
"""

from __future__ import annotations

import asyncio
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from tenfold._core.context import Context, Priority, use
from tenfold._core.tasks import end_tasks
from tenfold._core.text import keepable, nearest
from tenfold.errors import ConfigError, FieldError, InvalidInput, NotFound, StoreUnavailable

if TYPE_CHECKING:
    from tenfold._core.clock import Clock

log = logging.getLogger("tenfold.guard")

POLL_S = 1.0
"""Longest time until an instance sees what another one was told, besides that of a statement."""
NAME_MAX_CHARS = 200
TEXT_MAX_CHARS = 1_000

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,9})([smhd])")


class Override(msgspec.Struct, frozen=True):
    """One changed policy. ``value`` None lifts it: no limit, no bound."""

    name: str
    """``orders.place_order.limit``: whose policy, and which."""
    value: str | int | float | bool | None
    by: str
    why: str
    at: float
    until: float | None = None
    """When it ends by itself; None: when it is unset."""

    def __str__(self) -> str:
        shown = "none" if self.value is None else repr(self.value)
        return f"{self.name} = {shown}, by {self.by}: {self.why}"


class OverrideStore(ABC):
    """Where overrides are kept.

    - Order: of concurrent :meth:`put` on a name the last one stays.
    - Loss: none that was acknowledged, where ``durable``; otherwise all end with the process.
    - Consistency: :meth:`read` has every change that was acknowledged before it began.
    - Errors: StoreUnavailable only.
    """

    durable: bool

    @abstractmethod
    async def read(self) -> list[Override]:
        """All of them, those included whose time is over."""

    @abstractmethod
    async def put(self, override: Override) -> None:
        """Keep it, in place of one with the same name."""

    @abstractmethod
    async def remove(self, name: str) -> bool:
        """Forget the one of that name; False when there is none."""

    @abstractmethod
    async def prune(self, now: float) -> None:
        """Forget those that ended at ``now`` or before."""


@dataclass(frozen=True, slots=True)
class Adjustable:
    """Something whose policies can be changed while it runs: an operation, a service, the admission, a client."""

    name: str
    checks: Mapping[str, Callable[[Any], Any]]
    """By policy: from the value as it came to the one to apply. Raises ConfigError."""
    apply: Callable[[Mapping[str, Any]], None]
    """Puts into force what is changed of it now, by policy: all of it, so an empty mapping means as declared."""


@dataclass(slots=True)
class _Known:
    """What can be changed, by full name."""

    policies: dict[str, tuple[Adjustable, str]] = field(default_factory=dict)

    def add(self, adjustable: Adjustable) -> None:
        for policy in adjustable.checks:
            self.policies[f"{adjustable.name}.{policy}"] = (adjustable, policy)

    def find(self, name: str) -> tuple[Adjustable, str]:
        if name not in self.policies:
            raise NotFound(f"There is no policy {name[:NAME_MAX_CHARS]!r}.{nearest(name, self.policies)}")
        return self.policies[name]

    def value(self, name: str, value: Any) -> Any:
        """Raises NotFound, and InvalidInput that says what is wrong with the value, and where in it."""
        adjustable, policy = self.find(name)
        try:
            return adjustable.checks[policy](value)
        except ConfigError as error:
            sentence = f"{error.what[:1].upper()}{error.what[1:]} {error.remedy}".strip()
            raise InvalidInput(
                f"{name} cannot be {value!r}.", errors=[FieldError("body", "value", sentence)]
            ) from None


class Overrides:
    """The overrides of one running app. A part, started when everything adjustable exists."""

    def __init__(self, store: OverrideStore, clock: Clock, adjustables: Iterable[Adjustable]) -> None:
        self.store = store
        self._clock = clock
        self._known = _Known()
        self.know(adjustables)
        self._in_force: dict[str, Override] = {}
        self._passed_over: set[tuple[str, float]] = set()
        self._away = False
        self._poller: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self.applied = 0
        """Changes that this instance put into force since its start, ends included."""

    def know(self, adjustables: Iterable[Adjustable]) -> None:
        """Of more that can be changed. Before :meth:`start` or the first :meth:`look`."""
        for adjustable in adjustables:
            self._known.add(adjustable)

    # ── life ──

    async def start(self) -> None:
        """Put into force what is kept, then look for changes once a second."""
        await self.look()
        self._poller = asyncio.create_task(self._keep_looking(), name="policy overrides")

    async def stop(self) -> None:
        """Stop looking. What is in force stays so."""
        await end_tasks(self._poller)
        self._poller = None

    # ── for people ──

    @property
    def names(self) -> list[str]:
        """Everything that can be changed."""
        return sorted(self._known.policies)

    @property
    def in_force(self) -> list[Override]:
        """The changes that hold now in this instance, by name."""
        return [self._in_force[name] for name in sorted(self._in_force)]

    def get(self, name: str) -> Override | None:
        """The change of this policy. Raises NotFound for a policy that does not exist."""
        self._known.find(name)
        return self._in_force.get(name)

    async def set(
        self, name: str, value: Any, *, by: str, why: str, until: str | float | None = None
    ) -> Override:
        """Change a policy in all instances; in this one it holds when this returns.

        ``until`` is a moment or a time from now, see :func:`moment`. Raises NotFound for an unknown policy,
        InvalidInput for a value that it does not take, and StoreUnavailable; then nothing has changed.
        """
        self._known.value(name, value)
        now = self._clock.now()
        override = Override(name, value, _text("by", by), _text("why", why), now, moment(until, now))
        async with self._turn:
            with _own_work():
                await self.store.put(override)
            self._put_into_force([*(o for o in self._in_force.values() if o.name != name), override])
        return override

    async def unset(self, name: str, *, by: str, why: str = "") -> bool:
        """Go back to what code and settings say; False when nothing was changed. Raises as :meth:`set`."""
        self._known.find(name)
        async with self._turn:
            with _own_work():
                removed = await self.store.remove(name)
            if removed:
                log.info(
                    "policy override of %s is taken back, by %s: %s", name, by, why or "(no reason given)"
                )
            self._put_into_force([o for o in self._in_force.values() if o.name != name])
        return removed

    # ── for the fleet ──

    async def look(self) -> None:
        """Put into force what the store has now; what was known last, while it is away."""
        async with self._turn:
            try:
                with _own_work():
                    found: Sequence[Override] = await self.store.read()
                    now = self._clock.now()
                    if any(o.until is not None and o.until <= now for o in found):
                        await self.store.prune(now)
                self._away = False
            except StoreUnavailable as error:
                found = list(self._in_force.values())
                if not self._away:
                    self._away = True
                    log.warning(
                        "policy overrides cannot be read; those that are known stay in force: %s", error
                    )
            self._put_into_force(found)

    async def _keep_looking(self) -> None:
        while True:
            await self._clock.sleep(POLL_S)
            await self.look()

    def _put_into_force(self, found: Iterable[Override]) -> None:
        now = self._clock.now()
        wanted = {o.name: o for o in found if (o.until is None or o.until > now) and self._is_possible(o)}
        before, self._in_force = self._in_force, wanted
        touched: dict[int, Adjustable] = {}
        for name in before.keys() | wanted.keys():
            old, new = before.get(name), wanted.get(name)
            if old == new:
                continue
            self._tell(old, new, now)
            adjustable, _ = self._known.policies[name]
            touched[id(adjustable)] = adjustable
        for adjustable in touched.values():
            self.applied += 1
            adjustable.apply(self._of(adjustable))

    def _of(self, adjustable: Adjustable) -> dict[str, Any]:
        return {
            policy: check(self._in_force[name].value)
            for policy, check in adjustable.checks.items()
            if (name := f"{adjustable.name}.{policy}") in self._in_force
        }

    def _is_possible(self, override: Override) -> bool:
        """Another version of the app may have set it, for what this one does not have."""
        try:
            self._known.value(override.name, override.value)
        except (NotFound, InvalidInput) as error:
            if (override.name, override.at) not in self._passed_over:
                self._passed_over.add((override.name, override.at))
                log.warning("policy override passed over (%s): %s", override, error)
            return False
        return True

    def _tell(self, old: Override | None, new: Override | None, now: float) -> None:
        if new is not None:
            log.info("policy override in force: %s", new)
        elif old is not None:
            why = "its time is over" if old.until is not None and old.until <= now else "it was taken back"
            log.info("policy override no longer in force, %s: %s", why, old)


def _own_work() -> AbstractContextManager[Context]:
    """With a connection in reserve, and no deadline but the statement's: changing a limit is what ends an overload."""
    return use(Context(operation="tenfold.policies", own=True, priority=Priority.CRITICAL))


def moment(until: str | float | None, now: float) -> float | None:
    """Seconds since the epoch: from that number, ``90s``, ``15m``, ``2h`` or ``7d`` from now, or an RFC 3339 time with
    its offset. None is never. Raises InvalidInput for anything else, and for the past."""
    if until is None:
        return None
    at = _read_moment(until, now)
    if at is None:
        raise _wrong("until", f'{until!r} is no time. Write "2h", or a time such as "2027-01-31T18:00:00Z".')
    if at <= now:
        raise _wrong("until", f"{until!r} is over already.")
    return at


def _read_moment(until: str | float, now: float) -> float | None:
    if not isinstance(until, str):
        return None if isinstance(until, bool) else float(until)
    if duration := _DURATION.fullmatch(until):
        return now + int(duration[1]) * _UNITS[duration[2]]
    try:
        read = datetime.fromisoformat(until)
    except ValueError:
        return None
    return None if read.tzinfo is None else read.timestamp()


def _text(name: str, text: str) -> str:
    text = keepable(text.strip())
    if not 1 <= len(text) <= TEXT_MAX_CHARS:
        what = "Who changes it" if name == "by" else "Why it is changed"
        raise _wrong(name, f"{what} must be said, in {TEXT_MAX_CHARS:,} characters at most.")
    return text


def _wrong(path: str, sentence: str) -> InvalidInput:
    return InvalidInput(errors=[FieldError("body", path, sentence)])
