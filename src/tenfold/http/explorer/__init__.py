"""The API explorer: a page that reads the OpenAPI document and sends real requests, and one that shows the events of
the AsyncAPI document.

Plain files in this package, no build step, nothing from another host, no inline script: the page carries a
content security policy that forbids all of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from tenfold.http.files import guess_media_type
from tenfold.http.reply import Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def pages(documents: Mapping[str, bytes]) -> dict[str, Response]:
    """Every page of the documentation by path: the JSON ``documents``, ``/docs`` and its files."""
    found = {
        path: Response(document, media_type="application/json", headers=_cached("no-cache"))
        for path, document in documents.items()
    }
    for name, content in _assets().items():
        path = {"index.html": "/docs", "events.html": "/docs/events"}.get(name, f"/docs/{name}")
        found[path] = Response(content, media_type=_media_type(name), headers=_cached("no-cache"))
    return found


def _cached(policy: str) -> dict[str, str]:
    return {"Cache-Control": policy, "Content-Security-Policy": POLICY}


def _media_type(name: str) -> str:
    return guess_media_type(name)


@cache
def _assets() -> dict[str, bytes]:
    folder = files(__name__) / "assets"
    return {entry.name: entry.read_bytes() for entry in sorted(folder.iterdir(), key=lambda e: e.name)}
