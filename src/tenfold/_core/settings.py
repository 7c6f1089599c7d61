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
from typing import Annotated, Any, Literal, get_origin

import msgspec
from msgspec import Meta, Struct

from tenfold._core.secrets import printable
from tenfold._core.text import nearest
from tenfold.errors import ConfigError, UnknownSetting

Port = Annotated[int, Meta(ge=0, le=65_535)]
Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]

PREFIX = "TENFOLD_"
NO_SETTINGS = frozenset({"TENFOLD_FAILPOINTS"})
"""Variables with our prefix that something else reads (:mod:`tenfold._core.failpoints`)."""


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
    concurrency_max: Annotated[int, Meta(ge=0)] = 1000
    """Requests in progress at a time in this process; 0 for no bound. Beyond it, ``waiting_max`` wait up to half a
    second for a place, and the rest are refused at once (503 with Retry-After)."""
    waiting_max: Annotated[int, Meta(ge=0)] = 100
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
    docs: bool | None = None
    """Serve /openapi.json and the API explorer at /docs. Default: yes, but not in production."""


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
    """SQLite: connections that read at the same time as the writer."""
    pool_max: Count = 10
    """Servers: connections of one process at most."""
    pool_wait_s: Seconds = 5.0
    """Servers: how long work waits for a connection when all are taken; then 503 with Retry-After. Work with an
    earlier deadline waits until shortly before it."""
    connect_timeout_s: Seconds = 5.0
    """Servers: how long making a connection may take."""
    replicas: list[str] = []
    """Servers: URLs of copies of the database at ``url``, which answer reads. The same in every process of the app."""
    lag_max_s: Seconds = 10.0
    """A replica that is further behind is left out until it has caught up."""
    replica_wait_s: Annotated[float, Meta(ge=0)] = 0.0
    """How long a read waits for a replica to have its caller's last write before it goes to the primary."""
    statement_timeout_s: Seconds = 30.0
    """For work without a deadline."""
    lock_timeout_s: Seconds = 10.0
    """How long a transaction waits for the writer (SQLite), or for a row that another one holds."""
    watch: bool = True
    """Find slow and repeated statements and missing indexes: in the log, and at /database of the operations listener."""
    slow_s: Seconds = 0.2
    """A statement that takes longer is called slow."""
    migrate: Literal["auto", "check"] | None = None
    """Apply migrations at start, or refuse to start when behind. Default: auto in development, check in production."""


class CacheSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[cache]"""

    url: str = "memory:"
    """"memory:" (this process), "redis://…" or "memcached://host:port,host2:port" (shared by all)."""
    entries_max: Count = 100_000
    """Entries kept in this process by each cache of the memory backend."""
    ttl_max_s: Seconds = 86_400.0
    """Ceiling on any entry's life."""
    loads_max: Count = 64
    """Values loaded at a time in this process; more wait for a place. Spares the database after a cold start."""
    prefix: str = "tenfold"
    """First part of every key in a shared store; apps that share one must differ in it."""
    timeout_s: Seconds = 0.05
    """How long a read waits for a shared store. After that, nobody waits until it answers again."""
    near_entries: Annotated[int, Meta(ge=0)] = 10_000
    """Copies kept in this process by each cache of a shared store; 0 for none."""
    near_ttl_s: Seconds = 1.0
    """How stale such a copy may be at most, whatever is lost between the processes and the store."""
    lease_s: Seconds = 2.0
    """A process that died while it loaded a value is waited for so long at most; then another loads it."""
    busy_s: Seconds = 60.0
    """Longest time from the end of a transaction's work to the end of its commit. Until then, what it invalidates
    is read from the source, also when its process died."""


class GuardSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[guard]: rate limits, idempotency keys, leases, sessions"""

    url: str = ""
    """Where they are kept: "redis://…", or "memory:" (this process only). Empty: the service's database."""
    away: Literal["open", "closed", "local"] = "local"
    """What a rate limit does while its store is away: admit all, refuse all (503), or count in each process by itself."""
    timeout_s: Seconds = 0.25
    """How long a rate limit waits for the store before it counts as away; other work waits eight times as long."""
    prefix: str = "tenfold"
    """Begins the names of keys in Redis; apps that share a server need different ones."""


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
    guard: GuardSettings = GuardSettings()
    worker: WorkerSettings = WorkerSettings()
    auth: AuthSettings = AuthSettings()
    mail: MailSettings = MailSettings()
    log: LogSettings = LogSettings()
    trace: TraceSettings = TraceSettings()
    services: dict[str, Any] = {}
    """Per service, an instance of the class it declared."""

    @property
    def shows_docs(self) -> bool:
        """Whether the public listener serves the API's documentation."""
        return self.app.env != "production" if self.http.docs is None else self.http.docs


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

    services: Mapping[str, type[Any]]
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
            return
        if any(p.startswith(path + ".") for p in known):
            raise ConfigError(
                "it is a table of settings, not a value.", where=where, remedy=f"Write [{path}]."
            )
        parts = path.split(".")
        if parts[0] == "services" and len(parts) > 1 and parts[1] not in self.services:
            remedy = nearest(parts[1], self.services).strip()
            raise UnknownSetting(f"no service {parts[1]!r} with settings exists.", where=where, remedy=remedy)
        raise UnknownSetting("there is no such setting.", where=where, remedy=nearest(path, known).strip())


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
        raise _wrong(error, path, value, source) from None
    except msgspec.DecodeError as error:
        raise ConfigError(f"it is not JSON: {error}.", where=f"{source}: {path}") from None


def _separated(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _build(merge: _Merge) -> Settings:
    own = dict(merge.tree.pop("services", {}))
    built = {
        name: _convert(own.get(name, {}), type_, f"services.{name}", merge.sources)
        for name, type_ in merge.services.items()
    }
    settings: Settings = _convert(merge.tree, Settings, "", merge.sources)
    return msgspec.structs.replace(settings, services=built)


def _convert(values: Any, type_: type[Any], prefix: str, sources: Mapping[str, str]) -> Any:
    try:
        return msgspec.convert(values, type_)
    except msgspec.ValidationError as error:
        _, _, at = str(error).partition(" - at `$")
        below = at.rstrip("`").lstrip(".")
        path = ".".join(part for part in (prefix, below) if part)
        source = sources.get(path.partition("[")[0], "")
        raise _wrong(error, path, _value_at(values, below.partition("[")[0]), source) from None


def _value_at(values: Any, path: str) -> Any:
    for key in path.split(".") if path else ():
        values = values.get(key) if isinstance(values, Mapping) else None
    return values


def _wrong(error: msgspec.ValidationError, path: str, value: Any, source: str) -> ConfigError:
    """The sentence for a value that does not fit, or for one that is missing; secrets are not quoted."""
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
    return ConfigError(f"{message[:1].lower()}{message[1:]}{quoted}.", where=where)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        branch = msgspec.structs.asdict(value) if isinstance(value, Struct) else value
        if isinstance(branch, Mapping):
            yield from _leaves(branch, f"{prefix}{key}.")
        else:
            yield prefix + key, value
