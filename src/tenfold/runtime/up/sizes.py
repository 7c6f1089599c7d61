"""How many instances a group with a range has: what :mod:`tenfold.runtime.scale` decides by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tenfold.runtime.scale.driver import Numbers
from tenfold.runtime.scale.policy import Scaler

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import ScaleSettings
    from tenfold.runtime.up.fleet import Fleet


class Sizes:
    """A :class:`~tenfold.runtime.up.supervisor.Sizing`."""

    def __init__(self, settings: ScaleSettings, clock: Clock, token: str = "") -> None:
        self._settings, self._clock = settings, clock
        self._numbers = Numbers(clock, token)
        self._scalers: dict[str, Scaler] = {}
        self._said: dict[str, int] = {}

    async def decide(self, fleet: Fleet) -> Sequence[tuple[str, int, str]]:
        """Group, count and a sentence, where the count is to be another. In a dry run the sentences come once, and the
        counts stay."""
        moves: list[tuple[str, int, str]] = []
        for name, group in fleet.groups.items():
            if group.low >= group.high:
                self._scalers.pop(name, None)
                continue
            ready = [(i.name, i.ops_port) for i in fleet.of(name) if i.state == "ready"]
            await self._numbers.look(name, ready)
            scaler = self._scalers.setdefault(name, Scaler(self._settings, group.count))
            now = self._clock.monotonic()
            decision = scaler.decide(self._numbers.samples(name), group.low, group.high, now)
            before = self._said.get(name, group.count)
            self._said[name] = decision.advised
            if (decision.wanted, decision.advised) != (group.count, before):
                moves.append((name, decision.wanted, f"{name}: {decision.why}"))
        return moves

    def follow(self, settings: ScaleSettings, token: str) -> None:
        """Take these over. Where they differ, what was learned under the others is forgotten."""
        self._numbers.token = token
        if settings != self._settings:
            self._settings = settings
            self._scalers.clear()

    def close(self) -> None:
        self._numbers.close()
