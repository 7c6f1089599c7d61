"""Settings: ``tenfold.toml``, then ``TENFOLD_…`` variables, then what the command line says; later wins.

Every value knows where it came from (``tenfold config`` prints it). A key that nothing reads is refused with
the nearest one that exists. The variable of ``http.body_max_bytes`` is ``TENFOLD_HTTP_BODY_MAX_BYTES``; a
service's own settings (``Service("orders", settings=OrderSettings)``) stand under ``[services.orders]``.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

import msgspec
from msgspec import Struct

from tenfold._core.choices import expected, type_below
from tenfold._core.secrets import printable
from tenfold._core.sections import ClientSettings, PeerSettings, QueueSettings, Settings, TenantSettings
from tenfold._core.text import nearest
from tenfold.errors import ConfigError, UnknownSetting

PREFIX = "TENFOLD_"
NO_SETTINGS = frozenset({"TENFOLD_FAILPOINTS", "TENFOLD_INSTANCE"})
"""Variables with our prefix that something else reads: :mod:`tenfold._core.failpoints`, and whoever looks for the
instance of a fleet that a process is (:mod:`tenfold.runtime.up.process`)."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings with the source of every value: ``sources["http.port"] == "TENFOLD_HTTP_PORT"``."""

    settings: Settings
    sources: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """``(path, printable value, source)`` for every setting, secrets hidden."""
        for path, value in _leaves(msgspec.structs.asdict(self.settings)):
            shown = f"services.{path.removeprefix('peers.')}" if path.startswith("peers.") else path
            yield shown, printable(shown, value), self.sources.get(shown, "default")


def load(
    file: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    services: Mapping[str, type[Any] | None] | None = None,
) -> Loaded:
    """Read and check settings.

    ``file`` may be missing only when it is None (then ``tenfold.toml`` here, if there is one). ``overrides``
    are dotted paths from the command line. ``services`` maps service names to the class of their settings, or None.
    Raises :class:`ConfigError` with the path of the wrong key or value.
    """
    merge = _Merge(services or {})
    merge.file(_read(file), str(file or "tenfold.toml"))
    merge.environment(os.environ if environ is None else environ)
    for path, value in (overrides or {}).items():
        if value is not None:
            merge.put(path, value, "command line")
    return Loaded(_build(merge), merge.sources)


def peek(path: str, file: Path | None = None, *, environ: Mapping[str, str] | None = None) -> str:
    """One setting before the app is known that says which others exist; empty when nobody set it.

    Reads the same places as :func:`load` and checks nothing but that ``file`` is TOML.
    """
    found = (os.environ if environ is None else environ).get(variable(path))
    if found is None:
        found = _value_at(_read(file), path)
    return "" if found is None else str(found)


def known_paths(services: Mapping[str, type[Any] | None] | None = None) -> dict[str, Any]:
    """Every dotted path that may be set, with its type."""
    paths = dict(_paths_of(Settings, ""))
    for section in ("services", "peers"):
        paths.pop(section)
    for name, type_ in (services or {}).items():
        paths.update(_paths_of(PeerSettings, f"services.{name}."))
        if type_ is not None:
            paths.update(_paths_of(type_, f"services.{name}."))
    return paths


def differences(before: Settings, after: Settings) -> list[str]:
    """The dotted paths of what is not the same in both, in the order of their names."""
    old, new = (dict(_leaves(msgspec.structs.asdict(each))) for each in (before, after))
    paths = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    return sorted(
        f"services.{path.removeprefix('peers.')}" if path.startswith("peers.") else path for path in paths
    )


def variable(path: str) -> str:
    """The environment variable of a path: ``http.port`` → ``TENFOLD_HTTP_PORT``."""
    return PREFIX + path.replace(".", "_").replace("-", "_").upper()


def _paths_of(type_: type[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for f in msgspec.structs.fields(type_):
        inner = f.type
        if isinstance(inner, type) and issubclass(inner, Struct):
            yield from _paths_of(inner, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, inner


def _read(file: Path | None) -> dict[str, Any]:
    path = file or Path("tenfold.toml")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if file is None:
            return {}
        raise ConfigError(f"there is no file {path}.", where="--config") from None
    except OSError as error:
        raise ConfigError(f"it cannot be read: {error.strerror or error}.", where=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"it is not valid TOML: {error}.", where=str(path)) from None


@dataclass(slots=True)
class _Merge:
    """Values as they come in, source after source, each checked to be a setting."""

    services: Mapping[str, type[Any] | None]
    tree: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    known: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.known = known_paths(self.services)

    def file(self, read: Mapping[str, Any], source: str) -> None:
        for path, value in _leaves(read):
            self.put(path, value, source)

    def environment(self, environ: Mapping[str, str]) -> None:
        by_variable = self._by_variable()
        for name, text in environ.items():
            if not name.startswith(PREFIX) or name in NO_SETTINGS:
                continue
            if name not in by_variable:
                raise UnknownSetting(
                    "no setting has this variable.", where=name, remedy=nearest(name, by_variable).strip()
                )
            path = by_variable[name]
            self.put(path, _parse(text, self.known[path], path, name), name)

    def put(self, path: str, value: Any, source: str) -> None:
        """Set one value over what an earlier source said."""
        self._check(path, source)
        *parents, last = path.split(".")
        tree = self.tree
        for parent in parents:
            tree = tree.setdefault(parent, {})
        tree[last] = value
        self.sources[path] = source

    def _by_variable(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for path in self.known:
            if found.setdefault(variable(path), path) != path:
                raise ConfigError(
                    f"it would mean both {found[variable(path)]} and {path}.",
                    where=variable(path),
                    remedy="Rename one of the two settings, or its service.",
                )
        return found

    def _check(self, path: str, source: str) -> None:
        known, where = self.known, f"{source}: {path}"
        if path in known or any(path.startswith(p + ".") and _is_mapping(t) for p, t in known.items()):
            _check_named(path, where)
            return
        if any(p.startswith(path + ".") for p in known):
            raise ConfigError(
                "it is a table of settings, not a value.", where=where, remedy=f"Write [{path}]."
            )
        parts = path.split(".")
        if parts[0] == "services" and len(parts) > 1 and parts[1] not in self.services:
            remedy = nearest(parts[1], self.services).strip()
            raise UnknownSetting(f"no service {parts[1]!r} exists.", where=where, remedy=remedy)
        raise UnknownSetting("there is no such setting.", where=where, remedy=nearest(path, known).strip())


_NAMED: Mapping[str, type[Struct]] = {
    "clients": ClientSettings,
    "queues": QueueSettings,
    "tenants": TenantSettings,
}
"""Sections of which there is one for each name, and names are free."""


def _check_named(path: str, where: str) -> None:
    """Of ``queues.mail.rate``, the name is free, and what stands below it is not."""
    section, _, rest = path.partition(".")
    _, dot, key = rest.rpartition(".")
    if section not in _NAMED or not dot:
        return
    keys = _NAMED[section].__struct_fields__
    if key not in keys:
        raise UnknownSetting("there is no such setting.", where=where, remedy=nearest(key, keys).strip())


def _by_name(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What is said under each name. Names may have dots, which were taken for levels of the tree."""
    for key, value in tree.items():
        name = prefix + key
        if not isinstance(value, Mapping):
            if not prefix:
                yield name, value  # no table: refused when it is converted
            continue
        said = {key: each for key, each in value.items() if not isinstance(each, Mapping)}
        if said:
            yield name, said
        yield from _by_name({key: each for key, each in value.items() if key not in said}, f"{name}.")


def _is_mapping(type_: Any) -> bool:
    return type_ is dict or get_origin(type_) is dict


def _parse(text: str, type_: Any, path: str, source: str) -> Any:
    """A variable's text as the setting's type. Lists are JSON, or separated by commas; mappings are JSON."""
    container = get_origin(type_) or type_
    value: Any = text
    try:
        if container in (list, tuple, set, frozenset, dict):
            listed = container is not dict and not text.lstrip().startswith("[")
            value = _separated(text) if listed else msgspec.json.decode(text)
        return msgspec.convert(value, type_, strict=False)
    except msgspec.ValidationError as error:
        raise _wrong(error, path, value, source, type_) from None
    except msgspec.DecodeError as error:
        raise ConfigError(f"it is not JSON: {error}.", where=f"{source}: {path}") from None


def _separated(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _build(merge: _Merge) -> Settings:
    said = dict(merge.tree.pop("services", {}))
    peers, own = _peers(said, merge)
    built = {
        name: _convert(own.get(name, {}), type_, f"services.{name}", merge.sources)
        for name, type_ in merge.services.items()
        if type_ is not None
    }
    named = {section: _named(merge, section, type_) for section, type_ in _NAMED.items()}
    settings: Settings = _convert(merge.tree, Settings, "", merge.sources)
    return msgspec.structs.replace(settings, services=built, peers=peers, **named)


def _peers(said: Mapping[str, Any], merge: _Merge) -> tuple[dict[str, PeerSettings], dict[str, Any]]:
    """Where services are, apart from what their own classes read."""
    peers: dict[str, PeerSettings] = {}
    own: dict[str, Any] = {}
    for name, values in said.items():
        where = {key: value for key, value in values.items() if key in PeerSettings.__struct_fields__}
        if where:
            peers[name] = _convert(where, PeerSettings, f"services.{name}", merge.sources)
        own[name] = {key: value for key, value in values.items() if key not in where}
    return peers, own


def _named(merge: _Merge, section: str, type_: type[Struct]) -> dict[str, Any]:
    tree = msgspec.to_builtins(merge.tree.pop(section, {}))
    return {name: _convert(said, type_, f"{section}.{name}", merge.sources) for name, said in _by_name(tree)}


def _convert(values: Any, type_: type[Any], prefix: str, sources: Mapping[str, str]) -> Any:
    try:
        return msgspec.convert(values, type_)
    except msgspec.ValidationError as error:
        _, _, at = str(error).partition(" - at `$")
        below = at.rstrip("`").lstrip(".")
        path = ".".join(part for part in (prefix, below) if part)
        source = sources.get(path.partition("[")[0], "")
        value = _value_at(values, below.partition("[")[0])
        raise _wrong(error, path, value, source, type_below(type_, below)) from None


def _value_at(values: Any, path: str) -> Any:
    for key in path.split(".") if path else ():
        values = values.get(key) if isinstance(values, Mapping) else None
    return values


_OF_WORDS = ("Invalid enum value", "Expected `int | str`")
"""How msgspec begins what it says of a value that should have been a certain word."""


def _wrong(error: msgspec.ValidationError, path: str, value: Any, source: str, type_: Any) -> ConfigError:
    """The sentence for a value that does not fit ``type_``, or for one that is missing; secrets are not quoted."""
    message = str(error).partition(" - at `$")[0]
    if message.startswith("Object missing required field"):
        missing = f"{path}.{message.split('`')[1]}"
        section, _, key = missing.rpartition(".")
        return ConfigError(
            "it has no default and no value.",
            where=missing,
            remedy=f"Set {variable(missing)}, or {key} under [{section}].",
        )
    quoted = "" if isinstance(value, Mapping) else f"; the value is {printable(path, value)}"
    where = f"{source}: {path}" if source else path
    words = expected(type_, value) if message.startswith(_OF_WORDS) else None
    if words is not None:
        return ConfigError(f"the value is {printable(path, value)}; {words}", where=where)
    return ConfigError(f"{message[:1].lower()}{message[1:]}{quoted}.", where=where)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        branch = msgspec.structs.asdict(value) if isinstance(value, Struct) else value
        if isinstance(branch, Mapping):
            yield from _leaves(branch, f"{prefix}{key}.")
        else:
            yield prefix + key, value
