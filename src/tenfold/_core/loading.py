"""Imports of whole programs: an app with all that it stands on is some hundred thousand objects, which stay.

Where the process is the program's own, they are never looked through again: neither in the course of requests, nor by a
forked child, which would then copy them.
"""

from __future__ import annotations

import gc
import importlib
from types import ModuleType


class _Process:
    own = False
    """It has imported a program by itself, and what that makes as it starts is still to come."""


def import_program(module: str) -> ModuleType:
    """Import ``module`` without looking for garbage on the way, which would be a tenth of the time and find none.

    What the process holds after its first such import stays. For processes that are the program's own.
    """
    looking = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        if looking:
            if not gc.get_freeze_count():
                gc.freeze()
                _Process.own = True
            gc.enable()


def program_started() -> None:
    """What the program has made as it started the first time (tables, statements, connections) stays too: to look through
    it takes longer than anything that a request waits for. Nothing happens in a process that is not the program's own."""
    if _Process.own:
        _Process.own = False
        gc.collect()
        gc.freeze()
