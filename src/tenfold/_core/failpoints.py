"""Named points at which tests make the code fail: be killed, raise, or stand still.

Off unless ``TENFOLD_FAILPOINTS`` names them when the process starts, and then only with ``TENFOLD_APP_ENV=test``::

    TENFOLD_FAILPOINTS="db.commit.before=kill@3,db.commit.after=error"

``kill`` is SIGKILL, ``stop`` SIGSTOP, ``error`` raises :class:`FailpointError`; ``@n`` means the n-th visit (the
first by default; ``@*`` every one). A point costs one attribute look-up and one branch when nothing is on::

    if failpoints.on:
        failpoints.visit("db.commit.before")
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Final

from tenfold.errors import ConfigError

KNOWN: Final = (
    "db.begin.after",
    "db.commit.before",
    "db.commit.after",
    "db.acknowledge.before",
    "flow.effect",
    "flow.recorded",
    "flow.waiting",
    "flow.asleep",
    "events.published",
    "events.taken",
    "projection.effect",
    "projection.moved",
    "rebuild.effect",
    "rebuild.moved",
    "rebuild.swapping",
    "rebuild.swapped",
    "switch.held",
    "switch.moving",
    "grow.claimed",
    "grow.captured",
    "grow.made",
    "grow.copied",
    "grow.applied",
    "grow.verified",
    "grow.held",
    "grow.drained",
    "grow.marked",
    "grow.settling",
)
"""Every point there is, so that a harness can visit each. A new point is added here."""


class FailpointError(Exception):
    """What the action ``error`` raises."""


class Failpoints:
    """The points that are on in this process."""

    def __init__(self) -> None:
        self.on = False
        self.visits: dict[str, int] = {}
        self._actions: dict[str, tuple[str, int | None]] = {}

    def configure(self, text: str) -> None:
        """Turn on what ``text`` names, and nothing else. Raises ConfigError for a name or action that is none."""
        actions = dict(_parse(part) for part in text.split(",") if part.strip())
        self._actions, self.visits, self.on = actions, {}, bool(actions)

    def visit(self, name: str) -> None:
        """Act, when the point is on and this is the visit that was asked for."""
        if name not in self._actions:
            return
        action, wanted = self._actions[name]
        self.visits[name] = self.visits.get(name, 0) + 1
        if wanted is not None and self.visits[name] != wanted:
            return
        if action == "error":
            raise FailpointError(f"failpoint {name}")
        os.kill(os.getpid(), signal.SIGKILL if action == "kill" else signal.SIGSTOP)


def _parse(part: str) -> tuple[str, tuple[str, int | None]]:
    name, _, action = part.strip().partition("=")
    action, _, visit = action.partition("@")
    if (
        name not in KNOWN
        or action not in ("kill", "stop", "error")
        or not (visit or "1").lstrip("*").isdigit() | (visit == "*")
    ):
        raise ConfigError(
            f"{part.strip()!r} is not name=kill|stop|error[@n] with one of the names {', '.join(KNOWN)}.",
            where="TENFOLD_FAILPOINTS",
        )
    return name, (action, None if visit == "*" else int(visit or 1))


def from_environment(environ: Mapping[str, str]) -> Failpoints:
    """The points that the environment turns on; none outside of tests."""
    made = Failpoints()
    if environ.get("TENFOLD_APP_ENV") == "test" and (text := environ.get("TENFOLD_FAILPOINTS", "")):
        made.configure(text)
    return made


failpoints: Final = from_environment(os.environ)
