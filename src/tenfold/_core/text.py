"""Small helpers for sentences that people read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_UNKEPT = re.compile("[\x00\ud800-\udfff]")


def nearest(wrong: str, known: Iterable[str]) -> str:
    """`` Did you mean 'right'?`` when one of ``known`` is close to ``wrong``, else an empty string."""
    close = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def plural(count: int, noun: str, nouns: str = "") -> str:
    """``1 job``, ``2 jobs``, ``1,000 entries``."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def keepable(text: str) -> str:
    """``text`` as every database keeps it. What people and other programs say may hold NUL, which PostgreSQL has no place
    for, and lone surrogates (a file name that is no UTF-8), which no encoding has: they become U+FFFD."""
    return _UNKEPT.sub("\ufffd", text) if _UNKEPT.search(text) else text
