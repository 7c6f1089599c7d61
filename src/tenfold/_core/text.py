"""Small helpers for sentences that people read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(wrong: str, known: Iterable[str]) -> str:
    """`` Did you mean 'right'?`` when one of ``known`` is close to ``wrong``, else an empty string."""
    close = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def plural(count: int, noun: str, nouns: str = "") -> str:
    """``1 job``, ``2 jobs``, ``1,000 entries``."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
