"""From a URL to the backend that speaks its scheme.

``sqlite:///…`` for the capability ``db`` is the module ``tenfold.db.backends.sqlite``; each backend module has
one class ``Backend`` with ``from_url``. Third parties register an entry point in the group
``tenfold.backends`` named ``capability.scheme``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules
from typing import Any

from tenfold._core.text import nearest
from tenfold.errors import ConfigError, MissingExtra

GROUP = "tenfold.backends"
ALIASES = {
    "postgres": "postgresql",
    "mariadb": "mysql",
    "rediss": "redis",
    "valkey": "redis",
    "valkeys": "redis",
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
    "rabbitmqs": "rabbitmq",
}
"""Schemes that another one's backend speaks too."""


def backend_class(capability: str, url: str, *, where: str) -> Any:
    """The backend class for ``url``; ``where`` is the setting's path, for the message."""
    scheme = scheme_of(url)
    for entry in _registered():
        if entry.name == f"{capability}.{scheme}":
            return entry.load()
    name = f"tenfold.{capability}.backends.{scheme}"
    private = scheme.startswith("_")  # a module that backends share
    if private or not scheme.isidentifier() or importlib.util.find_spec(name) is None:
        known = known_schemes(capability)
        raise ConfigError(
            f"no {capability} backend speaks {scheme!r}.",
            where=where,
            remedy=f"Known are: {', '.join(known)}.{nearest(scheme, known)}",
        )
    try:
        return importlib.import_module(name).Backend
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"it needs the library {error.name!r}, which is not installed.",
            where=where,
            remedy=f"Run: pip install 'tenfold[{scheme}]'",
        ) from error


def scheme_of(url: str) -> str:
    """The name of the backend module for a URL: its scheme without a driver (``+psycopg``), aliases resolved."""
    scheme = url.partition(":")[0].partition("+")[0].lower()
    return ALIASES.get(scheme, scheme)


def known_schemes(capability: str) -> list[str]:
    """Every scheme that has a backend: ours and those of entry points."""
    package = importlib.import_module(f"tenfold.{capability}.backends")
    ours = [m.name for m in iter_modules(package.__path__) if not m.name.startswith("_")]
    theirs = [
        entry.name.partition(".")[2] for entry in _registered() if entry.name.startswith(f"{capability}.")
    ]
    return sorted({*ours, *theirs})


@functools.cache
def _registered() -> tuple[EntryPoint, ...]:
    """Backends of third parties. Reading what is installed takes 10 ms, so it is done once."""
    return tuple(entry_points(group=GROUP))
