"""Tell a person how far the replay is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol


class Step(Protocol):
    """One part of the work, counted."""

    def to(self, done: int) -> None:
        """So much is done by now."""
        ...


class _Plain:
    """A line at the start and at every tenth of the way."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._next = title, total, 0
        self.to(0)

    def to(self, done: int) -> None:
        if done >= self._next:
            print(f"{self._title}: {done:,} of {self._total:,}", file=sys.stderr, flush=True)
            self._next = (
                min(done + max(1, self._total // 10), self._total) if done < self._total else done + 1
            )


@contextmanager
def step(title: str, total: int) -> Generator[Step]:
    """Show one part of the work, on stderr: stdout is for the result."""
    if not sys.stderr.isatty():
        yield _Plain(title, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(f"{title:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total)

        class Bar:
            def to(self, done: int) -> None:
                progress.update(task, completed=done)

        yield Bar()
