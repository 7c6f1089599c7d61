"""The limits that an app declares, by the name of who did: what holds now may be another than what was written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from tenfold._core.text import nearest
from tenfold.errors import DeclarationError
from tenfold.guard.rates import Limit

log = logging.getLogger("tenfold.guard")

Prepare = Callable[[str, Limit], Callable[[], None]]
"""Takes the name and the limit that is to hold from now on. Raises DeclarationError, or answers what makes it so."""


class InForce(NamedTuple):
    """A declared limit, and what holds in its place."""

    declared: Limit
    now: Limit

    @property
    def changed(self) -> bool:
        return self.now is not self.declared


class DeclaredLimits:
    """Those of one app. Names are ``"app"``, ``"service NAME"``, and those of operations."""

    def __init__(self) -> None:
        self._limits: dict[str, InForce] = {}
        self._users: dict[str, list[Prepare]] = {}

    def declare(self, name: str, limit: Limit, prepare: Prepare) -> None:
        """Somebody applies the limit, and is to be asked before it changes."""
        self._limits.setdefault(name, InForce(limit, limit))
        self._users.setdefault(name, []).append(prepare)

    def show(self) -> dict[str, InForce]:
        """All of them, by name."""
        return dict(self._limits)

    def set(self, name: str, text: str | None) -> None:
        """All who apply it do so from now on, or none does. Raises DeclarationError."""
        found = self._limits.get(name)
        if found is None:
            raise DeclarationError(
                "there is no such limit.",
                where=f"limit of {name!r}",
                remedy=f"Declared are {', '.join(self._limits) or 'none'}.{nearest(name, self._limits)}",
            )
        declared = found.declared
        now = declared if text is None else Limit(text, cost=declared.cost, away=declared.away)
        for apply in [prepare(name, now) for prepare in self._users[name]]:
            apply()
        self._limits[name] = InForce(declared, now)
        log.info("the limit of %s is %s; declared is %s", name, now, declared)
