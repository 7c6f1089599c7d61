"""How an app's parts are put together: declarations and settings in, connected objects out."""

from __future__ import annotations

from tenfold.assembly.assembly import Assembly

__all__ = ["Assembly"]
