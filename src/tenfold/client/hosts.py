"""What is known of each host that a client calls: its breaker, and how long its answers take."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from tenfold.client.latency import Latency
from tenfold.guard.breaker import Breaker, Permit

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.client.options import Options

Forced = Literal["open", "closed"] | None

HOSTS_MAX = 256
"""Hosts remembered by one client; the one that was called longest ago is forgotten."""


class Host:
    """One host and port."""

    def __init__(self, name: str, options: Options, clock: Clock) -> None:
        self.name = name
        self.latency = Latency()
        self.breaker = Breaker(options.rules, clock.random)

    def admit(self, now: float, timeout_s: float) -> Permit | None:
        """A call that may take ``timeout_s`` begins, unless the breaker is open.

        It counts as failed when half of its time is over, or four times what nearly all answers take where that is
        longer: a host that is known to be slow is not taken for one that is gone.
        """
        usual_s = self.latency.quantile_s(0.99) or 0.0
        slow_s = min(timeout_s, max(timeout_s / 2, 4 * usual_s))
        return self.breaker.admit(now, slow_s=slow_s, usual_s=min(usual_s, slow_s))


class Hosts:
    """The hosts of one client."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self._options, self._clock = options, clock
        self._known: OrderedDict[str, Host] = OrderedDict()
        self._forced: Forced = None

    def of(self, name: str) -> Host:
        """The host of that name (``api.example``, ``api.example:8443``), new when it is not known."""
        host = self._known.get(name)
        if host is None:
            host = self._known[name] = Host(name, self._options, self._clock)
            host.breaker.forced = self._forced
            if len(self._known) > HOSTS_MAX:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(name)
        return host

    def all(self) -> list[Host]:
        """All that are known."""
        return list(self._known.values())

    def force(self, breaker: Forced) -> None:
        """Hold the breakers of all hosts open or closed, also of those that are not known yet."""
        self._forced = breaker
        for host in self._known.values():
            host.breaker.forced = breaker

    def change(self, options: Options) -> None:
        """Judge by other options from now on."""
        self._options = options
        for host in self._known.values():
            host.breaker.rules = options.rules
