"""Watching statements go by: how often each shape runs in one piece of work, and which are slow."""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenfold._core.context import _current as context_var
from tenfold.db.plan import NEVER

if TYPE_CHECKING:
    from types import FrameType

    from tenfold._core.context import Context
    from tenfold.db.contract import Args
    from tenfold.db.plan import Plan, PlanCache

REPEATS = 10
"""Runs of one shape in one piece of work from which on they are called repeated: a query for every row of another."""
SHAPES_MAX = 1000
"""Shapes that are remembered with where they ran; the statistics of all others are kept in their plans."""

_OURS = str(Path(__file__).parents[2])

log = logging.getLogger("tenfold.db")


class Sighting:
    """Where a statement's shape was seen, and how often in one piece of work."""

    __slots__ = ("args", "most", "operation", "slow", "where")

    def __init__(self) -> None:
        self.operation = ""
        self.where = ""
        self.most = 0
        """Most runs in one request, job or delivery."""
        self.slow = False
        """It was told about as slow."""
        self.args: Args = ()
        """Values of one run, for asking the planner. They are never shown."""


class Watcher:
    """Stands between a backend's plan cache and who runs statements, while the finder is on.

    It says in the log, once for each shape, where the same statement runs again and again, and which one was slow.
    ``timer`` is a monotonic clock in seconds.
    """

    def __init__(self, plans: PlanCache, *, slow_s: float, timer: Callable[[], float]) -> None:
        self.seen: dict[Plan, Sighting] = {}
        self.runs: dict[str, int] = defaultdict(int)
        """Statements by the service that ran them."""
        self._plans = plans
        self._slow_s = slow_s
        self._timer = timer
        self._bind: Callable[[Any, Mapping[str, Any]], tuple[Plan, Args]] = plans.bind

    def start(self) -> None:
        """See every statement from now on."""
        for plan in self._plans.known():
            plan.look_at = 1
        self._plans.bind = self.bind  # type: ignore[method-assign]
        self._plans.slow_s, self._plans.on_slow, self._plans.timer = self._slow_s, self.slow, self._timer

    def stop(self) -> None:
        """Out of the way again."""
        vars(self._plans).pop("bind", None)
        self._plans.slow_s, self._plans.on_slow, self._plans.timer = float("inf"), None, None

    def bind(self, statement: Any, params: Mapping[str, Any]) -> tuple[Plan, Args]:
        """As :meth:`PlanCache.bind`, and count."""
        plan, args = self._bind(statement, params)
        context = context_var.get()
        if context is None or not context.operation:
            return plan, args
        self.runs[context.service] += 1
        counts = context.statements
        if counts is None:
            counts = context.statements = defaultdict(int)
        runs = counts[plan] = counts[plan] + 1
        if runs >= plan.look_at:
            self._sight(plan, args, runs, context)
        return plan, args

    def _sight(self, plan: Plan, args: Args, runs: int, context: Context) -> None:
        sighting = self.seen.get(plan)
        if sighting is None:
            if len(self.seen) >= SHAPES_MAX:
                plan.look_at = NEVER
                return
            sighting = self.seen[plan] = Sighting()
            sighting.args = args
            sighting.operation, sighting.where = context.operation, call_site()
        first = runs == REPEATS and sighting.most < REPEATS
        sighting.most = max(sighting.most, runs)
        plan.look_at = max(sighting.most + 1, REPEATS)
        if first and not plan.framework:
            sighting.operation, sighting.where = context.operation, call_site()
            log.warning(
                "%s runs the same statement again and again (%d times so far): %s at %s. Ask for all rows at once, "
                "with IN, a join or one_each().", context.operation, runs, plan.describe(), sighting.where,
            )  # fmt: skip

    def slow(self, plan: Plan, args: Args, took_s: float) -> None:
        """A run took longer than the setting ``database.slow_s``."""
        sighting = self.seen.get(plan)
        if sighting is None:
            sighting = self.seen[plan] = Sighting()
        sighting.args = args
        context = context_var.get()
        if context is not None and context.operation and not sighting.operation:
            sighting.operation = context.operation
        if not sighting.slow and not plan.framework:
            sighting.slow = True
            log.warning("a statement took %.0f ms: %s", took_s * 1000, plan.describe())


def call_site() -> str:
    """File and line of the innermost frame that is neither ours nor a library's of ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(("<", _OURS)) and "sqlalchemy/" not in name and "asyncio/" not in name:
            return f"{_short(name)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _short(name: str) -> str:
    path = Path(name)
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return name
