"""Which route a request takes, by host and path. Pure.

The most specific host decides first (a name, then ``*.example.com``, then any), then the longest path. A path stands for
itself and all below it: ``/orders`` takes ``/orders/7`` and not ``/orders-old``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from msgspec import Struct

from tenfold.errors import BadRequest, ConfigError, NotFound

if TYPE_CHECKING:
    from tenfold._core.sections import GatewayRoute

INSIDE = "/_tenfold"
"""Below it services answer each other; nobody else is let there."""

_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_SLASHES = re.compile(r"/{2,}")
_NAME = re.compile(r"[a-z][a-z0-9_-]*")


class Route(Struct, frozen=True):
    """One entry of ``[gateway.routes]``, checked."""

    name: str
    host: str
    """Lower case, without a port; ``*.`` before it stands for one or more labels; empty for any."""
    path: str
    """Without a slash at its end, so empty for all paths."""
    options: GatewayRoute

    @property
    def services(self) -> tuple[str, ...]:
        """Those that may answer, the usual one first."""
        return (self.options.service, *self.options.canary)

    def takes(self, host: str, path: str) -> bool:
        """Whether it is one for this host and path."""
        if self.host.startswith("*."):
            if not host.endswith(self.host[1:]):
                return False
        elif self.host and host != self.host:
            return False
        return path == self.path or path.startswith(self.path + "/")

    def inner(self, raw: str, path: str) -> str:
        """The path that the service sees, percent-encoded: as it came, where the server tells that (``raw``) and what is
        stripped was written plainly; else made of the decoded ``path``."""
        if not self.options.strip:
            return raw or quote(path)
        if raw.startswith(f"{self.path}/") and "//" not in raw[: len(self.path) + 2]:
            return raw[len(self.path) :]
        return quote(_SLASHES.sub("/", path)[len(self.path) :]) or "/"

    def outer(self, path: str) -> str:
        """The public path of a path of the service; empty when this route does not lead there."""
        if self.options.strip:
            return self.path + path
        return path if path == self.path or path.startswith(self.path + "/") else ""


class Routes:
    """All of them. Raises :class:`ConfigError` for what cannot work, naming the route."""

    def __init__(self, declared: Mapping[str, GatewayRoute]) -> None:
        routes = [_checked(name, options) for name, options in declared.items()]
        self.ordered: Sequence[Route] = sorted(routes, key=_rank)
        """The most specific first."""
        seen: dict[tuple[str, str], Route] = {}
        for route in routes:
            twin = seen.setdefault((route.host, route.path), route)
            if twin is not route:
                host = f" of {route.host}" if route.host else ""
                raise ConfigError(
                    f"{route.path or '/'}{host} is the route {twin.name!r}, too.",
                    where=f"gateway.routes.{route.name}",
                    remedy="Give one of the two another path or host, or take it out.",
                )

    @property
    def services(self) -> list[str]:
        """All that a route leads to, each once."""
        return list(dict.fromkeys(name for route in self.ordered for name in route.services))

    def find(self, host: str, path: str) -> Route:
        """The route of a request: ``host`` as its header has it, ``path`` percent-decoded.

        Raises BadRequest for a path that a service might read as another one, and NotFound.
        """
        if "\\" in path or ("/." in path and any(part in (".", "..") for part in path.split("/"))):
            raise BadRequest(
                "The path has the segments '.' or '..', or a backslash; write the path that is meant."
            )
        host, seen = hostname(host), _SLASHES.sub("/", path) if "//" in path else path
        if seen != INSIDE and not seen.startswith(INSIDE + "/"):
            for route in self.ordered:
                if route.takes(host, seen):
                    return route
        raise NotFound(f"{path} is not served here.")


def hostname(host: str) -> str:
    """The name in a ``Host`` header, in lower case and without its port."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower().removesuffix(".")


def _rank(route: Route) -> tuple[int, int, int]:
    kind = 2 if not route.host else 1 if route.host.startswith("*.") else 0
    return kind, -len(route.host) if kind == 1 else 0, -len(route.path)


def _checked(name: str, options: GatewayRoute) -> Route:
    where = f"gateway.routes.{name}"
    host, path = options.host.lower(), options.path
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is not a name of a route.",
            where=where,
            remedy="Use lower-case letters, digits, '-' and '_', beginning with a letter.",
        )
    if host and not _HOST.fullmatch(host):
        raise ConfigError(
            f"{options.host!r} is not a host.",
            where=f"{where}.host",
            remedy='Write a name without scheme and port, as "api.shop.example" or "*.shop.example".',
        )
    if not path.startswith("/") or not path.isprintable() or set(path) & set("?#%\\{} ") or "//" in path:
        raise ConfigError(
            f"{path!r} is not a path.",
            where=f"{where}.path",
            remedy='Write it decoded and without blanks to fill, as "/orders"; all below it belong to it.',
        )
    _check_canary(options, f"{where}.canary")
    return Route(name, host, path.rstrip("/"), options)


def _check_canary(options: GatewayRoute, where: str) -> None:
    if options.service in options.canary:
        raise ConfigError(
            f"{options.service!r} is the route's own service, which gets what the canaries leave.",
            where=where,
        )
    if (total := sum(options.canary.values())) > 100:
        raise ConfigError(f"the weights are {total:g} % together.", where=where, remedy="At most 100 %.")
