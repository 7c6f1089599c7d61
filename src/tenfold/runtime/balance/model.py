"""What a balancer is told: listeners, pools of upstreams, options. Pure; it is checked before anything is written.

Names, paths and files end up in the text of a configuration, so each is checked to be nothing else than that.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from tenfold._core.sections import Settings
from tenfold.errors import ConfigError

PROBES = "/health/ready"
"""Page of the operations listener that says whether an instance is to get requests."""
CALLS = "/_tenfold/"
"""Begins the paths that services call each other by. Public listeners answer 404 there."""
CERTIFICATE = "Tenfold-Certificate"
"""Header in which a service is told what its caller has shown."""
WEIGHT_MAX = 256

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_TLS_NAME = re.compile(r"[a-z0-9._-]{1,253}")
_PATH = re.compile(r"/[A-Za-z0-9._~/-]*")
_UNQUOTABLE = re.compile(r"""["'\\$;{}\x00-\x1f]""")


class Upstream(Struct, frozen=True):
    """One instance, as a balancer sees it."""

    name: str
    """Of the instance: "web.1"."""
    host: str
    port: int
    ready_port: int = 0
    """Port of its operations listener, asked whether it is ready. 0: a connection to ``port`` has to do."""
    weight: int = 1
    slow_start: bool = True
    """Whether it gets its share little by little when it is new, where the balancer can do that."""


class Inner(Struct, frozen=True):
    """By what the balancer is one of the services (files, PEM): it shows its certificate to instances that take nobody
    without one, and to callers; and looks at theirs."""

    certificate: str
    key: str
    ca: str
    """Whoever has a certificate from here is one of the services."""


class Pool(Struct, frozen=True):
    """Upstreams that answer the same requests."""

    name: str
    upstreams: tuple[Upstream, ...] = ()
    """May be empty: then the answer is 503."""
    paths: tuple[str, ...] = ("/",)
    """What of the URL's path it answers: "/orders" covers /orders and what begins with /orders/. The longest wins."""
    tls_name: str = ""
    """The name (DNS) that the certificate of each upstream has to be valid for, where they take mutual TLS only."""


class Tls(Struct, frozen=True):
    """Files (PEM) of a listener that speaks TLS."""

    certificate: str
    key: str
    client_ca: str = ""
    """When set, only clients with a certificate signed by one of these are let in."""


class Listener(Struct, frozen=True):
    """Where the balancer accepts connections."""

    name: str
    host: str
    port: int
    tls: Tls | None = None
    http2: bool = True
    """Offered to clients that speak TLS."""
    pool: str = ""
    """The pool that answers everything here; empty: each by its paths."""
    internal: bool = False
    """For calls between services, which public listeners refuse."""
    redirect: int = 0
    """When set, everything here is answered with 308 to this port, where TLS is spoken."""


class StaticFiles(Struct, frozen=True):
    """A folder that the balancer serves by itself."""

    path: str
    folder: str
    """Absolute."""


class Options(Struct, frozen=True):
    """What holds for all listeners and pools. Times are seconds, sizes are bytes."""

    sticky: bool = False
    compress: bool = True
    compress_min_bytes: int = 1024
    micro_cache_bytes: int = 0
    """0: nothing is kept."""
    tries: int = 3
    connect_timeout_s: float = 1.0
    silence_s: float = 35.0
    """Longest silence of an instance: above the app's deadlines, so that the app says by itself that it is late."""
    header_timeout_s: float = 10.0
    body_timeout_s: float = 20.0
    write_timeout_s: float = 20.0
    idle_s: float = 60.0
    """How long connections to instances are kept. Below the app's ``http.keep_alive_s``, so that it is always this side that
    closes: a request could else meet a connection that is being closed."""
    body_max_bytes: int = 33_554_432
    header_max_bytes: int = 16_384
    connections_max: int = 10_000
    slow_start_s: float = 5.0
    drain_s: float = 2.0
    stop_timeout_s: float = 30.0


class Plan(Struct, frozen=True):
    """Everything that a configuration is made from."""

    listeners: tuple[Listener, ...]
    pools: tuple[Pool, ...]
    static: tuple[StaticFiles, ...] = ()
    options: Options = Options()
    inner: Inner | None = None
    """Needed where a pool has a ``tls_name``."""

    def routes(self) -> list[tuple[str, Pool]]:
        """Paths with their pools, the longest first."""
        pairs = [(path, pool) for pool in self.pools for path in pool.paths]
        return sorted(pairs, key=lambda pair: (-len(pair[0]), pair[0]))


def plan_of(
    settings: Settings,
    pools: Iterable[Pool],
    *,
    internal: Sequence[Listener] = (),
    inner: Inner | None = None,
) -> Plan:
    """The plan that ``[balancer]`` and ``[http]`` ask for in front of ``pools``.

    ``internal`` are further listeners, for services that find each other through the balancer. Raises
    :class:`ConfigError` for what no balancer could do.
    """
    said = settings.balancer
    public = Listener("public", said.host, said.port, _tls(settings), said.http2)
    if said.redirect_port is not None:
        internal = (_redirect(settings, said.redirect_port), *internal)
    static = tuple(_static(each) for each in said.static)
    plan = Plan((public, *internal), tuple(pools), static, _options(settings), inner)
    check(plan)
    return plan


def _tls(settings: Settings) -> Tls | None:
    said = settings.balancer
    if bool(said.tls_certificate) != bool(said.tls_key):
        there, lacks = ("certificate", "key") if said.tls_certificate else ("key", "certificate")
        raise ConfigError(
            f"balancer.tls_{there} is set, and it is not.",
            where=f"balancer.tls_{lacks}",
            remedy="TLS needs both.",
        )
    if said.tls_client_ca and not said.tls_certificate:
        raise ConfigError(
            "clients have certificates only where TLS is spoken.",
            where="balancer.tls_client_ca",
            remedy="Set balancer.tls_certificate and balancer.tls_key.",
        )
    if not said.tls_certificate:
        return None
    return Tls(*(absolute(path) for path in (said.tls_certificate, said.tls_key, said.tls_client_ca)))


def _redirect(settings: Settings, port: int) -> Listener:
    said = settings.balancer
    if not said.tls_certificate:
        raise ConfigError(
            "it leads to HTTPS, which is not spoken.",
            where="balancer.redirect_port",
            remedy="Set balancer.tls_certificate and balancer.tls_key.",
        )
    return Listener("redirect", said.host, port, redirect=said.port)


def _static(text: str) -> StaticFiles:
    path, separator, folder = text.partition("=")
    if not separator or not folder:
        raise ConfigError(
            f"{text!r} is no path with its folder.",
            where="balancer.static",
            remedy='Write "/assets=public/assets".',
        )
    return StaticFiles(path.rstrip("/") or "/", absolute(folder))


def _options(settings: Settings) -> Options:
    said, http = settings.balancer, settings.http
    silence_s = said.timeout_s if said.timeout_s is not None else http.timeout_s + 5.0
    return Options(
        sticky=said.sticky,
        compress=said.compress,
        compress_min_bytes=http.compress_min_bytes or 1024,
        micro_cache_bytes=said.micro_cache_max_bytes if said.micro_cache else 0,
        tries=said.tries,
        connect_timeout_s=said.connect_timeout_s,
        silence_s=silence_s,
        header_timeout_s=http.header_timeout_s,
        body_timeout_s=http.body_timeout_s,
        write_timeout_s=http.write_timeout_s,
        idle_s=min(60.0, http.keep_alive_s * 0.8),
        body_max_bytes=max(http.body_max_bytes, http.upload_max_bytes),
        header_max_bytes=http.header_max_bytes,
        connections_max=http.connections_max,
        slow_start_s=said.slow_start_s,
        drain_s=said.drain_s,
        stop_timeout_s=said.stop_timeout_s,
    )


def absolute(path: str) -> str:
    """``path`` from here; empty stays empty."""
    return str(Path(path).expanduser().absolute()) if path else ""


def check(plan: Plan) -> None:
    """Raise :class:`ConfigError` for the first thing in ``plan`` that cannot be."""
    _unique("listeners", (each.name for each in plan.listeners))
    _unique("addresses of listeners", (f"{each.host}:{each.port}" for each in plan.listeners))
    _unique("pools", (pool.name for pool in plan.pools))
    _unique("paths", (path for path, _ in plan.routes()))
    if not plan.listeners:
        raise ConfigError("a balancer needs a listener.", where="balancer")
    if plan.inner is not None:
        for name in ("certificate", "key", "ca"):
            quotable(getattr(plan.inner, name), "identity.folder")
    for listener in plan.listeners:
        _check_listener(listener, {pool.name for pool in plan.pools})
    for pool in plan.pools:
        _check_pool(pool)
    for each in plan.static:
        _path(each.path, "balancer.static")
        if each.path == "/":
            raise ConfigError(
                "the app has the root.",
                where="balancer.static",
                remedy='Choose a path below it, as "/assets".',
            )
        quotable(each.folder, "balancer.static")
    if plan.options.tries < 1:
        raise ConfigError(
            "a request is tried at least once.", where="balancer.tries", remedy="Write 1 or more."
        )


def quotable(text: str, where: str) -> str:
    """``text``, for between double quotes in a configuration. Raises for what would end or change it there."""
    if found := _UNQUOTABLE.search(text):
        raise ConfigError(f"{text!r} has {found[0]!r} in it.", where=where, remedy="Use a path without it.")
    return text


def _check_listener(listener: Listener, pools: set[str]) -> None:
    _name(listener.name, "a listener")
    _host(listener.host, f"listener {listener.name}")
    if not 1 <= listener.port <= 65_535:
        raise ConfigError(
            f"{listener.port} is no port.",
            where=f"listener {listener.name}",
            remedy="Choose one of 1 to 65535.",
        )
    if listener.pool and listener.pool not in pools:
        raise ConfigError(f"there is no pool {listener.pool!r}.", where=f"listener {listener.name}")
    if listener.tls is not None:
        for name in ("certificate", "key", "client_ca"):
            quotable(getattr(listener.tls, name), f"balancer.tls_{name}")


def _check_pool(pool: Pool) -> None:
    _name(pool.name, "a pool")
    _unique(f"upstreams of {pool.name}", (each.name for each in pool.upstreams))
    _unique(f"addresses of {pool.name}", (f"{each.host}:{each.port}" for each in pool.upstreams))
    for path in pool.paths:
        _path(path, f"pool {pool.name}")
    if pool.tls_name and not _TLS_NAME.fullmatch(pool.tls_name):
        raise ConfigError(f"{pool.tls_name!r} is no name for a certificate.", where=f"pool {pool.name}")
    for each in pool.upstreams:
        where = f"pool {pool.name}, {each.name}"
        _name(each.name, where)
        _host(each.host, where)
        if not (1 <= each.port <= 65_535 and 0 <= each.ready_port <= 65_535):
            raise ConfigError(f"{each.port} and {each.ready_port} are not both ports.", where=where)
        if not 1 <= each.weight <= WEIGHT_MAX:
            raise ConfigError(
                f"its weight is {each.weight}.", where=where, remedy=f"Choose 1 to {WEIGHT_MAX}."
            )


def _unique(what: str, values: Iterable[str]) -> None:
    for value, times in Counter(values).items():
        if times > 1:
            raise ConfigError(f"{times} {what} are {value}.", where="balancer", remedy="Each has to differ.")


def _name(name: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name.", where=where, remedy="Use letters, digits, dots, hyphens and underscores."
        )


def _host(host: str, where: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host):
            raise ConfigError(
                f"{host!r} is no host.", where=where, remedy="Write an address or a name."
            ) from None


def _path(path: str, where: str) -> None:
    if not _PATH.fullmatch(path) or (path != "/" and path.endswith("/")) or "//" in path:
        raise ConfigError(
            f"{path!r} is no beginning of a path.",
            where=where,
            remedy='Write it as "/orders", or "/" for all.',
        )
