"""Which page a path is, and the parameters in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from tenfold.dashboard.page import Page

_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")


class Router:
    """Pages by path; the first that fits, in the order given."""

    def __init__(self, pages: Sequence[Page]) -> None:
        self._routes = [(_pattern(page.path), page) for page in pages]

    def find(self, path: str) -> tuple[Page, dict[str, str]] | None:
        """The page at ``path`` (escaped as it came), with its parameters, unescaped."""
        for pattern, page in self._routes:
            if fits := pattern.fullmatch(path):
                return page, {name: unquote(value) for name, value in fits.groupdict().items()}
        return None


def _pattern(path: str) -> re.Pattern[str]:
    parts: list[str] = []
    end = 0
    for found in _PARAMETER.finditer(path):
        parts += [re.escape(path[end : found.start()]), f"(?P<{found[1]}>{'.+' if found[2] else '[^/]+'})"]
        end = found.end()
    return re.compile("".join(parts) + re.escape(path[end:]))
