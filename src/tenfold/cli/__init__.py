"""The ``tenfold`` command: one file per noun, each imported when its command is used."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the process's exit code: 0, 1 for a failure, 2 for wrong usage or settings."""
    from tenfold.cli.program import run

    return run(arguments)
