"""Imports of whole programs: an app with all that it stands on is some hundred thousand objects, which stay."""

from __future__ import annotations

import gc
import importlib
from functools import cache
from types import ModuleType


def import_program(module: str) -> ModuleType:
    """Import ``module`` without looking for garbage on the way, which would be a tenth of the time and find none.

    What the process holds after its first such import is never looked through again: neither in the course of requests,
    nor by a forked child, which would then copy it. For processes that are the program's own.
    """
    looking = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        if looking:
            if not gc.get_freeze_count():
                gc.freeze()
            gc.enable()


@cache
def keep_started() -> None:
    """What the process holds when its first app has started stays too, whoever imported it (another server, a script). To
    look through it for garbage is a pause of tens of milliseconds, in the middle of requests. Not again for later apps, lest
    a process that starts and stops them all the time (tests) keeps them all."""
    if gc.isenabled():
        gc.freeze()
