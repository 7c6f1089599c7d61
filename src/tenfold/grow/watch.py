"""What a move tells whoever watches it; the command shows it, tests count it."""

from __future__ import annotations

from tenfold.grow.steps import Step


class Watch:
    """Told what happens. This one says nothing."""

    def step(self, step: Step) -> None:
        """A step begins."""

    def table(self, name: str, rows: int, total: int, size: int) -> None:
        """``rows`` of about ``total`` rows of a table are copied; the last piece had ``size`` bytes."""

    def checked(self, name: str, rows: int, total: int) -> None:
        """``rows`` of a table are compared."""

    def lag(self, entries: int) -> None:
        """So many changes are noted and not followed yet."""

    def doing(self, statement: str) -> None:
        """A statement begins that may take long."""

    def note(self, sentence: str) -> None:
        """Something to know."""
