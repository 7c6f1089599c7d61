"""From a path to what serves it: a dict for fixed paths, a tree of segments for the others.

Paths are matched segment by segment *before* percent-decoding, so an encoded slash stays inside its segment.
A fixed segment wins over a placeholder. ``{name}`` takes one non-empty segment; ``{name:path}``, last in the
template, takes the rest with its slashes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Generic, TypeVar

from tenfold.errors import BadRequest, DeclarationError
from tenfold.http.limits import URI_MAX_BYTES, uri_too_long
from tenfold.http.wire import PERCENT, BadText, unquote_strictly

T = TypeVar("T")

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:path)?\}")


class _Node(Generic[T]):
    __slots__ = ("fixed", "methods", "rest", "single")

    def __init__(self) -> None:
        self.fixed: dict[str, _Node[T]] = {}
        self.single: _Node[T] | None = None
        self.rest: dict[str, T] = {}
        self.methods: dict[str, T] = {}


def path_names(template: str, *, where: str = "") -> tuple[str, ...]:
    """Names of the placeholders. Raises DeclarationError for a template that cannot be matched."""
    names: list[str] = []
    segments = template.split("/")[1:]
    for position, segment in enumerate(segments):
        if "{" not in segment and "}" not in segment:
            continue
        match = _PLACEHOLDER.fullmatch(segment)
        if match is None:
            raise DeclarationError(
                f"its path {template!r} has the segment {segment!r}.",
                where=where,
                remedy="A placeholder is a whole segment: /orders/{order_id}.",
            )
        if match[2] and position != len(segments) - 1:
            raise DeclarationError(
                f"{segment} takes the rest of the path, so nothing can follow it in {template!r}.",
                where=where,
            )
        if match[1] in names:
            raise DeclarationError(f"its path {template!r} has {{{match[1]}}} twice.", where=where)
        names.append(match[1])
    return tuple(names)


class Router(Generic[T]):
    """Templates and their endpoints; ``static`` is looked at directly by the entries."""

    def __init__(self) -> None:
        self.static: dict[str, dict[str, T]] = {}
        self._root: _Node[T] = _Node()

    def add(self, template: str, method: str, endpoint: T, *, where: str = "") -> None:
        """Raises DeclarationError when the method is taken for a path of the same shape."""
        if path_names(template, where=where):
            methods = self._leaf(template)
        else:
            methods = self.static.setdefault(template, {})
        if method in methods:
            raise DeclarationError(f"{method} {template} is served by another operation.", where=where)
        methods[method] = endpoint

    def replace(self, template: str, method: str, endpoint: T) -> None:
        """Serve a method and path that are served already with another endpoint, from the next request on."""
        methods = self._leaf(template) if path_names(template) else self.static[template]
        methods[method] = endpoint

    def find(self, path: str, raw_path: bytes) -> tuple[Mapping[str, T], tuple[str, ...]] | None:
        """What serves ``path``: endpoints by method, and the values of the placeholders, decoded.

        ``raw_path`` is the same before percent-decoding, or empty when unknown.

        Raises BadRequest for percent-encoding that is not UTF-8, UriTooLong for one that is too long.
        """
        if len(path) > URI_MAX_BYTES:
            raise uri_too_long("path", len(path))
        if PERCENT in raw_path or "\x00" in path:
            return self._find_encoded(path, raw_path)
        return self._walk(path.split("/"))

    def _find_encoded(self, path: str, raw_path: bytes) -> tuple[Mapping[str, T], tuple[str, ...]] | None:
        """The same for a path with percent-encoding: matched as it came, decoded afterwards."""
        found = self._walk((raw_path.decode("latin-1") or path).split("/"))
        try:
            if found is not None:
                return found[0], tuple(unquote_strictly(value) for value in found[1])
            decoded = "/".join(unquote_strictly(segment) for segment in raw_path.decode("latin-1").split("/"))
        except BadText as error:
            raise BadRequest(f"The path {error}") from None
        return (self.static[decoded], ()) if decoded in self.static else None

    def _walk(self, segments: list[str]) -> tuple[Mapping[str, T], tuple[str, ...]] | None:
        """Follow fixed segments where they exist; only when that ends nowhere, look for other ways."""
        node = self._root
        values: tuple[str, ...] = ()
        choices = False
        for segment in segments[1:]:
            if segment in node.fixed:
                choices = choices or node.single is not None or bool(node.rest)
                node = node.fixed[segment]
            elif node.single is not None and segment and not node.rest:
                values = (*values, segment)
                node = node.single
            elif node.single is not None or node.rest or choices:
                return _search(self._root, segments, 1, ())
            else:
                return None
        if node.methods:
            return node.methods, values
        return _search(self._root, segments, 1, ()) if choices else None

    def _leaf(self, template: str) -> dict[str, T]:
        node = self._root
        for segment in template.split("/")[1:]:
            match = _PLACEHOLDER.fullmatch(segment)
            if match is None:
                node = node.fixed.setdefault(segment, _Node())
            elif match[2]:
                return node.rest
            else:
                node.single = node.single or _Node()
                node = node.single
        return node.methods


def _search(
    node: _Node[T], segments: list[str], position: int, values: tuple[str, ...]
) -> tuple[Mapping[str, T], tuple[str, ...]] | None:
    if position == len(segments):
        return (node.methods, values) if node.methods else None
    segment = segments[position]
    if segment in node.fixed and (found := _search(node.fixed[segment], segments, position + 1, values)):
        return found
    if node.single is not None and segment:
        found = _search(node.single, segments, position + 1, (*values, segment))
        if found:
            return found
    return (node.rest, (*values, "/".join(segments[position:]))) if node.rest else None
