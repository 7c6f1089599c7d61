"""What ``tenfold grow`` shows: progress bars on a terminal, plain lines elsewhere, a summary at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from tenfold._core.text import plural
from tenfold.cli import console
from tenfold.grow.steps import Step
from tenfold.grow.watch import Watch

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from tenfold.grow.growth import Report
    from tenfold.grow.preflight import Size

LINE_EVERY_S = 5.0
"""Between two lines of progress where there is no terminal."""

_SAID = {
    Step.CLAIM: "Claiming the new database",
    Step.CAPTURE: "Noting changes from now on",
    Step.MAKE: "Making the tables",
    Step.COPY: "Copying",
    Step.VERIFY: "Comparing every row",
    Step.CUT: "Cutting over",
    Step.SETTLE: "Checking foreign keys, gathering statistics",
}


class View(Watch):
    """A context manager around the move."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._bar: TaskID | None = None
        self._sizes: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._bytes = 0
        self._lag = 0
        self._began = self._said = time.monotonic()
        self._step = Step.CLAIM

    def plan(self, sizes: Sequence[Size]) -> None:
        """What there is to move."""
        self._sizes = {size.table: size.rows for size in sizes if not size.keyless}
        for name in (size.table for size in sizes if size.keyless):
            console.say(f"{name} has no primary key: it is copied whole while the app is held.")

    def __enter__(self) -> Self:
        if console.coloured(sys.stdout):
            self._bars = _bars()
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._end()
        if self._bars is not None:
            self._bars.stop()

    # ── told by the move ──

    def step(self, step: Step) -> None:
        self._end()
        self._step, self._done, self._began, self._bytes = step, {}, time.monotonic(), 0
        total = sum(self._sizes.values()) if step in (Step.COPY, Step.VERIFY) else None
        if self._bars is not None:
            self._bar = self._bars.add_task(_SAID[step], total=total, note="")
        else:
            console.say(f"{_SAID[step]} …")

    def table(self, name: str, rows: int, total: int, size: int) -> None:
        self._bytes += size
        self._count(name, rows)

    def checked(self, name: str, rows: int, total: int) -> None:
        self._count(name, rows)

    def lag(self, entries: int) -> None:
        self._lag = entries
        self._show()

    def note(self, sentence: str) -> None:
        if self._bars is not None:
            self._bars.console.print(sentence, highlight=False)
        else:
            console.say(sentence)

    # ── within ──

    def _count(self, name: str, rows: int) -> None:
        self._done[name] = rows
        self._show()

    def _show(self) -> None:
        done, note = sum(self._done.values()), self._note()
        if self._bars is not None and self._bar is not None:
            self._bars.update(self._bar, completed=done, description=_SAID[self._step], note=note)
        elif time.monotonic() - self._said > LINE_EVERY_S:
            self._said = time.monotonic()
            console.say(
                f"{_SAID[self._step]}: {done:,} of {sum(self._sizes.values()):,} rows{note and ', '}{note}"
            )

    def _note(self) -> str:
        took = max(time.monotonic() - self._began, 0.001)
        parts = [f"{sum(self._done.values()) / took:,.0f} rows/s"] if self._done else []
        parts += [f"{self._bytes / took / 1e6:.1f} MB/s"] if self._bytes > took * 1e5 else []
        parts += [f"{plural(self._lag, 'change')} behind"] if self._lag else []
        return ", ".join(parts)

    def _end(self) -> None:
        if self._bars is not None and self._bars.tasks:
            task = self._bars.tasks[-1]
            total = task.total if task.total is not None else 1
            done = sum(self._done.values())
            note = plural(done, "row") if done else ""
            self._bars.update(task.id, total=total, completed=total, note=note)


def _bars() -> Progress:
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<44}"),
        BarColumn(bar_width=16),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("[dim]{task.fields[note]}"),
    )


def show_plan(sizes: Sequence[Size], url: str) -> None:
    """What a dry run found."""
    rows: list[tuple[str, ...]] = [
        (size.table, f"{size.rows:>12,}", "while the app is held" if size.keyless else "") for size in sizes
    ]
    console.table(rows, headings=("table", f"{'rows':>12}", ""))
    total = sum(size.rows for size in sizes)
    console.say(
        f"{plural(len(sizes), 'table')} with {total:,} rows can be moved to {url}. Nothing was changed."
    )


def show_report(report: Report, url: str) -> None:
    """How the move went."""
    if report.checksums:
        rows: list[tuple[str, ...]] = [
            (name, f"{made.rows:>12,}", str(made)[:16])
            for name, made in sorted(report.checksums.items())
            if made.rows
        ]
        console.table(rows, headings=("table", f"{'rows':>12}", "checksum, equal on both sides"))
        if empty := len(report.checksums) - len(rows):
            console.say(f"{plural(empty, 'table')} without rows.")
    total = sum(made.rows for made in report.checksums.values())
    parts = [f"{total:,} rows compared"] if total else []
    parts += [f"{plural(report.followed, 'changed row')} followed"] if report.followed else []
    if report.pause_s:
        parts.append(f"the app was held for {report.pause_s:.2f} s while {report.waited} waited")
    console.say(
        f"{console.paint('✓', console.GREEN)} The database is {url} now{': ' if parts else ''}{', '.join(parts)}."
    )
