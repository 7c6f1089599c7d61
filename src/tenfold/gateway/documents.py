"""One OpenAPI document of those of several services, as their clients meet them at the gateway. Pure.

Of each document, the paths that a route leads to are taken, with the path that the route has. What two services say
differently under one name gets the service's name before it where only the document itself refers to it (schemas and
other components); where a client would see it (a path with a method, an operation's id, a security scheme), it is an
error that names both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

Tree = dict[str, Any]

METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
_POINTER = "#/components/"
_ODD = re.compile(r"[^A-Za-z0-9._-]")


class DocumentConflict(ValueError):
    """The documents do not fit together. The message is a sentence that names the services."""


class Source(Struct, frozen=True):
    """What one service says of itself."""

    service: str
    document: Mapping[str, Any]
    outer: Callable[[str], Iterable[str]]
    """The public paths of a path of the service; none for one that no route leads to."""


def merged(title: str, version: str, sources: Iterable[Source]) -> Tree:
    """The document of all. The same sources give the same document. Raises :class:`DocumentConflict`."""
    merge = _Merge()
    for source in sources:
        merge.add(source)
    return {
        "openapi": merge.openapi or "3.1.1",
        "info": {"title": title, "version": version},
        "servers": [{"url": "/"}],
        "tags": [merge.tags[name] for name in sorted(merge.tags)],
        "paths": dict(sorted(merge.paths.items())),
        "components": {kind: dict(sorted(each.items())) for kind, each in sorted(merge.components.items())},
    }


class _Merge:
    """What has come together so far, and whose it is."""

    def __init__(self) -> None:
        self.openapi = ""
        self.paths: dict[str, Tree] = {}
        self.components: dict[str, Tree] = {}
        self.tags: dict[str, Any] = {}
        self._owners: dict[tuple[str, ...], str] = {}

    def add(self, source: Source) -> None:
        """Raises :class:`DocumentConflict`."""
        document = _checked(source)
        self._version(source.service, str(document["openapi"]))
        renamed = self._add_components(source.service, document.get("components", {}))
        for path, item in document["paths"].items():
            for public in source.outer(path):
                self._add_path(source.service, public, _following(item, renamed))
        shown = {tag for item in self.paths.values() for tag in _tags(item)}
        for tag in document.get("tags", ()):
            if tag.get("name") in shown:
                self.tags.setdefault(tag["name"], tag)

    def _version(self, service: str, version: str) -> None:
        minor = version.rpartition(".")[0]
        if self.openapi and minor != self.openapi.rpartition(".")[0]:
            other = self._owners["openapi",]
            raise DocumentConflict(
                f"{other} describes itself in OpenAPI {self.openapi}, and {service} in {version}."
            )
        if version > self.openapi:
            self.openapi = version
        self._owners.setdefault(("openapi",), service)

    def _add_path(self, service: str, path: str, item: Tree) -> None:
        there = self.paths.setdefault(path, {})
        for name, member in item.items():
            if name in METHODS:
                self._once(service, path, name)
                self._identify(service, member.get("operationId"))
            elif there.get(name, member) != member:
                other = self._owners["member", path, name]
                raise DocumentConflict(f"{other} and {service} say different {name} of {path}.")
            there[name] = member
            self._owners.setdefault(("member", path, name), service)

    def _once(self, service: str, path: str, method: str) -> None:
        other = self._owners.setdefault(("path", path, method), "")
        self._owners["path", path, method] = service
        if other:
            whose = (
                f"{other} and {service} both have" if other != service else f"two paths of {service} become"
            )
            raise DocumentConflict(f"{whose} {method.upper()} {path}.")

    def _identify(self, service: str, id_: str | None) -> None:
        """An operation that is reached by several paths has its id at each of them."""
        if id_ is not None and (other := self._owners.setdefault(("operation", id_), service)) != service:
            raise DocumentConflict(f"{other} and {service} both have an operation with the id {id_!r}.")

    def _add_components(self, service: str, given: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Take them over; answers which references lead elsewhere now."""
        renamed = self._different(service, given)
        for kind, name, member in _each(given):
            there = self.components.setdefault(kind, {})
            if kind == "securitySchemes" and there.get(name, member) != member:
                other = self._owners[kind, name]
                raise DocumentConflict(f"{other} and {service} have different security schemes {name!r}.")
            at = renamed.get(f"{_POINTER}{kind}/{name}", f"/{name}").rpartition("/")[2]
            there[at] = _following(member, renamed)
            self._owners.setdefault((kind, name), service)
        return renamed

    def _different(self, service: str, given: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """The new names of components that others have differently. Those of the same text mean different things, too,
        where what they refer to is different."""
        found: dict[str, str] = {}
        grew = True
        while grew:
            grew = False
            for kind, name, member in _each(given):
                pointer, there = f"{_POINTER}{kind}/{name}", self.components.get(kind, {})
                if pointer in found or name not in there or kind == "securitySchemes":
                    continue
                if there[name] != _following(member, found):
                    found[pointer] = f"{_POINTER}{kind}/{_ODD.sub('_', service)}.{name}"
                    grew = True
        return found


def _each(given: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, str, Any]]:
    return [(kind, name, member) for kind, members in given.items() for name, member in members.items()]


def _checked(source: Source) -> Mapping[str, Any]:
    document = source.document
    if not isinstance(document.get("openapi"), str) or not isinstance(document.get("paths"), Mapping):
        raise DocumentConflict(f"what {source.service} has at /openapi.json is no OpenAPI document.")
    if not str(document["openapi"]).startswith("3."):
        raise DocumentConflict(f"{source.service} describes itself in OpenAPI {document['openapi']}, not 3.")
    items = document["paths"].values()
    if not all(isinstance(each, Mapping) for each in (document.get("components", {}), *items)):
        raise DocumentConflict(
            f"the OpenAPI document of {source.service} has a path or component that is no object."
        )
    return document


def _following(tree: Any, renamed: Mapping[str, str]) -> Any:
    """A copy in which references lead to where the components are now."""
    if isinstance(tree, Mapping):
        return {
            name: renamed.get(value, value)
            if name == "$ref" and isinstance(value, str)
            else _following(value, renamed)
            for name, value in tree.items()
        }
    if isinstance(tree, list):
        return [_following(each, renamed) for each in tree]
    return renamed.get(tree, tree) if isinstance(tree, str) and tree.startswith(_POINTER) else tree


def _tags(item: Mapping[str, Any]) -> Iterable[str]:
    return [tag for name in METHODS & item.keys() for tag in item[name].get("tags", ())]
