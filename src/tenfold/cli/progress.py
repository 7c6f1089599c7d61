"""How far a long command is: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from tenfold.cli import console

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_EVERY_S = 5.0
"""Between two lines where there is no terminal."""


class Bar:
    """A context manager; call it with how much is done, of how much. What is over at once shows nothing."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bars: Progress | None = None
        self._task: TaskID | None = None
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, done: int, total: int) -> None:
        if console.coloured(sys.stdout):
            self._show(done, total)
        elif time.monotonic() - self._said >= LINE_EVERY_S:
            self._said = time.monotonic()
            console.say(f"{self._what}: {done:,} of {total:,}")

    def _show(self, done: int, total: int) -> None:
        if self._bars is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bars = Progress(*columns)
            self._bars.start()
            self._task = self._bars.add_task(self._what, total=total)
        assert self._task is not None
        self._bars.update(self._task, completed=done, total=total)
