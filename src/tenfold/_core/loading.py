"""Imports of whole programs: an app with all that it stands on is some hundred thousand objects, which stay."""

from __future__ import annotations

import gc
import importlib
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
