"""``tenfold up`` with a mistake in the order of its steps: ``python -m support.broken_up MISTAKE``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from tenfold.cli.up import up
from tenfold.runtime.up import plan
from tenfold.runtime.up.process import Process


def _told_first(instance: Any, rules: Any, now: float, *, stopping: bool = False) -> Iterator[plan.Step]:
    """The instance, before the balancer has forgotten it."""
    del now, stopping, rules
    if not instance.told_at:
        yield plan.Step("tell", instance.group, instance.name, f"{instance.name} is told to end.")


def _killed(process: Process) -> None:
    """Instead of SIGTERM: what is in flight is not answered."""
    os.kill(process.pid, signal.SIGKILL)


def main(mistake: str) -> None:
    plan._end = _told_first
    if mistake == "nobody is drained":
        Process.tell = _killed  # type: ignore[method-assign]
    sys.exit(up())


if __name__ == "__main__":
    main(sys.argv[1])
