"""One process of the fleet, as the plan, the state file and ``tenfold ps`` see it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from tenfold.runtime.up.roles import Role

State = Literal["starting", "ready", "draining", "held"]
"""``held`` is that of a group's first instance that is missing, for who lists them: no process is in it."""


class Instance(Struct, kw_only=True):
    """An instance has a name for as long as its process lives; another process gets the next free name.

    Times are wall-clock seconds since the epoch: they outlive the supervisor. ``created_at`` is what the system says about
    the process, and with ``pid`` it tells this process from a later one that was given the same number.
    """

    name: str
    """``web.1``"""
    role: Role
    service: str = ""
    port: int = 0
    """Of requests; 0 for a role that takes none."""
    ops_port: int = 0
    pid: int = 0
    created_at: float = 0.0
    generation: int = 0
    """Counts rolling restarts: one of an older generation is to be replaced."""
    state: State = "starting"
    since: float = 0.0
    """When it came into its state."""
    started_at: float = 0.0
    answers: bool = False
    """Its last answer was that it is ready."""
    heard_at: float = 0.0
    """When it last answered anything about its health."""
    told_at: float = 0.0
    """When it had its SIGTERM; 0 before."""
    killed: bool = False
    """It has had its SIGKILL."""
    served: bool = False
    """It was ready once."""
    known: bool = False
    """A balancer sends requests there, or may."""
    worn: str = ""
    """Why it is to be replaced although it works; empty when it is not."""
    memory: int = 0
    """Resident bytes when it was last looked at."""
    cpu: float = 0.0
    """Share of one core, likewise."""

    @property
    def group(self) -> str:
        return self.service or self.role

    @property
    def number(self) -> int:
        return int(self.name.rpartition(".")[2])
