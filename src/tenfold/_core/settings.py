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
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tenfold._core.text import nearest
from tenfold.errors import ConfigError, UnknownSetting

Port = Annotated[int, Meta(ge=0, le=65_535)]
Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]

PREFIX = "TENFOLD_"


class AppSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[app]"""

    target: str = ""
    """What the commands run when they name none: "shop.app:app"."""
    env: Literal["development", "production", "test"] = "development"
    data_dir: str = "data"
    """Folder of everything the embedded backends keep."""
    secret_key: str = ""
    """Signs tokens. Required in production; made and kept in data_dir in development."""
    stop_timeout_s: Seconds = 15.0
    """How long running work may take to end after SIGTERM."""


class HttpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[http]: the public listener and its limits"""

    host: str = "127.0.0.1"
    port: Port = 8000
    server: Literal["uvicorn", "granian"] = "uvicorn"
    timeout_s: Seconds = 30.0
    """Deadline of an operation that declares none."""
    body_timeout_s: Seconds = 20.0
    """How long a client may take to send its body."""
    body_max_bytes: Count = 1_048_576
    upload_max_bytes: Count = 33_554_432
    """The same for multipart bodies, which are spooled to disk."""
    header_max_bytes: Count = 16_384
    query_max_params: Count = 200
    json_max_depth: Count = 32
    threads: Count = 16
    """Handlers that are plain functions run in a pool of this size."""
    blocked_loop_warn_s: Seconds = 0.1
    """A handler that holds the event loop longer is named in the log."""
    cors_origins: list[str] = []
    """Origins that browsers may call from; ["*"] for any."""
    trusted_proxies: list[str] = []
    """Networks whose X-Forwarded-… headers are believed."""
    compress_min_bytes: int = 1024
    """Bodies of at least this size are compressed with gzip; 0 turns it off."""
    docs: bool = True
    """Serve /openapi.json and the API explorer at /docs."""


class OpsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[ops]: the operations listener (metrics, health, mailbox)"""

    host: str = "127.0.0.1"
    port: Port = 8001
    token: str = ""
    """Bearer token asked of every page but the health checks; required when host is not loopback."""


class DatabaseSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[database]"""

    url: str = "sqlite:///app.db"
    """Relative SQLite paths are below app.data_dir."""
    readers: Count = 4
    """Connections that read at the same time as the writer."""
    statement_timeout_s: Seconds = 30.0
    """For work without a deadline."""
    lock_timeout_s: Seconds = 10.0
    """How long a transaction waits for the writer."""
    migrate: Literal["auto", "check"] | None = None
    """Apply migrations at start, or refuse to start when behind. Default: auto in development, check in production."""


class CacheSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[cache]"""

    url: str = "memory:"
    entries_max: Count = 100_000
    ttl_max_s: Seconds = 86_400.0
    """Ceiling on any entry's life."""


class WorkerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[worker]: runs jobs, subscribers and schedules"""

    enabled: bool = True
    concurrency: Count = 64
    batch: Count = 200
    """Messages claimed at a time."""
    lease_s: Seconds = 15.0
    """A worker that is silent for so long loses its messages to another."""
    poll_s: Seconds = 1.0
    """Longest time between two looks at the queue when no notification came."""
    processes: Count = 2
    """Size of the pool for CPU-bound jobs."""
    retention_s: Seconds = 604_800.0
    """How long finished messages and inbox rows are kept."""


class AuthSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[auth]"""

    access_ttl_s: Seconds = 900.0
    refresh_ttl_s: Seconds = 2_592_000.0
    session_ttl_s: Seconds = 1_209_600.0
    hash_threads: Count = 2
    """Passwords are hashed in a pool of this size."""


class MailSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[mail]"""

    url: str = ""
    """smtp://user:password@host:port; empty writes mails to data_dir/mailbox."""
    sender: str = "no-reply@localhost"


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[log]"""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] | None = None
    """Default: text on a terminal, JSON elsewhere."""
    access: bool = True
    """One line per request."""


class TraceSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[trace]"""

    ratio: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of the traces that start here which are recorded; a caller's decision is followed."""
    exporter: str = "none:"
    """Where finished spans go: "none:" or "console:"."""
    ring: Count = 1000
    """Finished spans kept in memory."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a running app reads, checked once at start."""

    app: AppSettings = AppSettings()
    http: HttpSettings = HttpSettings()
    ops: OpsSettings = OpsSettings()
    database: DatabaseSettings = DatabaseSettings()
    cache: CacheSettings = CacheSettings()
    worker: WorkerSettings = WorkerSettings()
    auth: AuthSettings = AuthSettings()
    mail: MailSettings = MailSettings()
    log: LogSettings = LogSettings()
    trace: TraceSettings = TraceSettings()
    services: dict[str, Any] = {}
    """Per service, an instance of the class it declared."""


SECRETS = frozenset({"app.secret_key", "ops.token", "database.url", "cache.url", "mail.url"})
"""Paths whose value is never printed whole (of URLs, only the password is hidden)."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings with the source of every value: ``sources["http.port"] == "TENFOLD_HTTP_PORT"``."""

    settings: Settings
    sources: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """``(path, printable value, source)`` for every setting, secrets hidden."""
        for path, value in _leaves(msgspec.structs.asdict(self.settings)):
            yield path, printable(path, value), self.sources.get(path, "default")


def load(
    file: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    services: Mapping[str, type[Any]] | None = None,
) -> Loaded:
    """Read and check settings.

    ``file`` may be missing only when it is None (then ``tenfold.toml`` here, if there is one). ``overrides``
    are dotted paths from the command line. ``services`` maps service names to the class of their settings.
    Raises :class:`ConfigError` with the path of the wrong key or value.
    """
    services = services or {}
    tree: dict[str, Any] = {}
    sources: dict[str, str] = {}
    _merge(tree, sources, _read(file), str(file or "tenfold.toml"), services)
    _merge_environment(tree, sources, os.environ if environ is None else environ, services)
    for path, value in (overrides or {}).items():
        if value is not None:
            _check_known(path, "command line", services)
            _put(tree, path, value)
            sources[path] = "command line"
    return Loaded(_build(tree, sources, services), sources)


def peek(path: str, file: Path | None = None, *, environ: Mapping[str, str] | None = None) -> str:
    """One setting before the app is known that says which others exist; empty when nobody set it.

    Reads the same places as :func:`load` and checks nothing but that ``file`` is TOML.
    """
    found = (os.environ if environ is None else environ).get(variable(path))
    value: Any = _read(file) if found is None else found
    for key in path.split(".") if found is None else ():
        value = value.get(key, "") if isinstance(value, dict) else ""
    return str(value)


def printable(path: str, value: Any) -> str:
    """The value as people may see it: secrets hidden, passwords in URLs replaced."""
    if path in SECRETS and value:
        return _hide_password(value) if "://" in str(value) else "••••••"
    if any(word in path for word in ("password", "secret", "token", "api_key")) and value:
        return "••••••"
    return str(value) if not isinstance(value, str) else value or '""'


def known_paths(services: Mapping[str, type[Any]] | None = None) -> dict[str, Any]:
    """Every dotted path that may be set, with its type."""
    paths = dict(_paths_of(Settings, ""))
    paths.pop("services")
    for name, type_ in (services or {}).items():
        paths.update(_paths_of(type_, f"services.{name}."))
    return paths


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
    if not path.exists():
        if file is not None:
            raise ConfigError(f"there is no file {path}.", where="--config")
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"it is not valid TOML: {error}.", where=str(path)) from None


def _merge(
    tree: dict[str, Any],
    sources: dict[str, str],
    read: dict[str, Any],
    source: str,
    services: Mapping[str, type[Any]],
) -> None:
    for path, value in _leaves(read):
        _check_known(path, source, services)
        _put(tree, path, value)
        sources[path] = source


def _merge_environment(
    tree: dict[str, Any],
    sources: dict[str, str],
    environ: Mapping[str, str],
    services: Mapping[str, type[Any]],
) -> None:
    by_variable = {variable(path): (path, type_) for path, type_ in known_paths(services).items()}
    for name, text in environ.items():
        if not name.startswith(PREFIX):
            continue
        if name not in by_variable:
            raise UnknownSetting(
                "no setting has this variable.", where=name, remedy=nearest(name, by_variable).strip()
            )
        path, type_ = by_variable[name]
        _put(tree, path, _parse(text, type_))
        sources[path] = name


def _parse(text: str, type_: Any) -> Any:
    """A variable's text as the setting's type: JSON for lists, comma-separated lists too."""
    if "list" in str(type_):
        if text.startswith("["):
            return msgspec.json.decode(text)
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return msgspec.convert(text, type_, strict=False)
    except msgspec.ValidationError:
        return text  # the message comes from _build, which knows the path


def _check_known(path: str, source: str, services: Mapping[str, type[Any]]) -> None:
    known = known_paths(services)
    if path in known or any(p.startswith(path + ".") for p in known):
        return
    if path.startswith("services.") and path.split(".")[1] not in services:
        name, names = path.split(".")[1], list(services)
        raise UnknownSetting(
            f"no service {name!r} with settings exists.",
            where=f"{source}: {path}",
            remedy=nearest(name, names).strip(),
        )
    raise UnknownSetting(
        "there is no such setting.", where=f"{source}: {path}", remedy=nearest(path, known).strip()
    )


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[last] = value


def _build(tree: dict[str, Any], sources: Mapping[str, str], services: Mapping[str, type[Any]]) -> Settings:
    own = dict(tree.pop("services", {}))
    built = {
        name: _convert(own.get(name, {}), type_, f"services.{name}", sources)
        for name, type_ in services.items()
    }
    settings: Settings = _convert(tree, Settings, "", sources)
    return msgspec.structs.replace(settings, services=built)


def _convert(values: Any, type_: type[Any], prefix: str, sources: Mapping[str, str]) -> Any:
    try:
        return msgspec.convert(values, type_)
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at `$")
        path = f"{prefix}{at.rstrip('`')}".strip(".")
        source = sources.get(path, "")
        raise ConfigError(
            f"{message[:1].lower()}{message[1:]}.", where=f"{source}: {path}" if source else path
        ) from None


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        branch = msgspec.structs.asdict(value) if isinstance(value, Struct) else value
        if isinstance(branch, Mapping):
            yield from _leaves(branch, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _hide_password(url: str) -> str:
    head, sep, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{head}{sep}{user}{colon}{'••••' if colon else ''}{at}{host}"
