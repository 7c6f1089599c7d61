"""Scripts, styles and the icon, served from this package. Addresses carry a digest, so they may be kept for ever."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final

SCRIPTS: Final = ("htmx.min.js", "idiomorph-ext.min.js", "uPlot.iife.min.js", "dashboard.js")
"""In the order they are loaded."""
STYLES: Final = ("uPlot.min.css", "dashboard.css", "pages.css")
TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOLDER: Final = Path(__file__).parent


def address(root: str, name: str) -> str:
    """Where a file is; another address when its content changes."""
    return f"{root}/static/{_digest(name)}/{name}"


@lru_cache
def read(name: str) -> tuple[bytes, str] | None:
    """Content and media type of a file, or None when there is none of that name."""
    path = _FOLDER / name
    if path.parent != _FOLDER or path.suffix not in TYPES or not path.is_file():
        return None
    return path.read_bytes(), TYPES[path.suffix]


@lru_cache
def _digest(name: str) -> str:
    found = read(name)
    assert found is not None, name
    return sha256(found[0]).hexdigest()[:12]
