"""A fleet under a seed: the real worker, keeper, claimer, ticker, relay, intake and leases on real SQLite, in one thread
of virtual time.

A seed decides everything: which process takes the next step, how long statements and commits take, what breaks, who
pauses, crashes or has a wrong clock, and what the clients do. The same seed is the same history.

* :mod:`.loop`: an event loop whose time jumps to the next timer and that picks the process to go on by the seed.
* :mod:`.node`: one simulated process, with its own clock and its own unreliable way to the database.
* :mod:`.world`: the fleet, its clients, its faults, and the end, when everything heals and has to come to rest.
* :mod:`.judge`: what must be true of the database then.
* :mod:`.broken`: variants that do not keep a promise, to see that the judge notices.
"""

from __future__ import annotations

from support.simulation.world import Report, World, simulate

__all__ = ["Report", "World", "simulate"]
