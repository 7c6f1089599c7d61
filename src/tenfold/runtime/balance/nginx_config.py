"""The configuration of NGINX as text. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tenfold.runtime.balance.model import (
    CALLS,
    CERTIFICATE,
    Inner,
    Listener,
    Options,
    Plan,
    Pool,
    StaticFiles,
    Upstream,
)
from tenfold.runtime.balance.parts import CIPHERS, COMPRESSED, REFUSALS, address, https_port, seconds

GENERATION, PID = "generation.conf", "nginx.pid"
QUOTED_NOTHING = "''"
LEAVING = "/-leaving/"
"""Begins the paths by which a process that is leaving finds its way; nobody reaches them from outside."""
TYPES = {
    "text/html": "html htm", "text/css": "css", "text/javascript": "js mjs", "application/json": "json map",
    "text/plain": "txt", "text/csv": "csv", "application/xml": "xml", "application/manifest+json": "webmanifest",
    "image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg jpeg", "image/gif": "gif", "image/webp": "webp",
    "image/avif": "avif", "image/x-icon": "ico", "font/woff2": "woff2", "font/woff": "woff", "font/ttf": "ttf",
    "application/pdf": "pdf", "application/wasm": "wasm", "video/mp4": "mp4", "video/webm": "webm",
}  # fmt: skip


def config(plan: Plan) -> Iterator[str]:
    """Its lines."""
    options = plan.options
    yield from (
        "# Written by Tenfold from tenfold.toml: a change here is lost. Paths are below the folder of this file.",
        "",
        f"pid {PID};",
        "error_log balancer.log warn;",
        "worker_processes auto;",
        "# What is still in progress so long after it was told to end is cut off.",
        f"worker_shutdown_timeout {seconds(options.stop_timeout_s)};",
        "",
        "events {",
        f"    worker_connections {2 * options.connections_max};  # to clients and to instances",
        "}",
        "",
        "http {",
    )
    parts = [_basics(options), _forwarding(options)]
    if plan.inner is not None:
        parts.append(_inner(plan.inner))
    if options.compress:
        parts.append(_compression(options))
    if options.micro_cache_bytes:
        parts.append(_micro_cache(options))
    parts += [_upstream(pool, options) for pool in plan.pools if pool.upstreams]
    parts += [_server(listener, plan) for listener in plan.listeners]
    for number, part in enumerate(parts):
        if number:
            yield ""
        yield from (f"    {line}" if line else "" for line in part)
    yield "}"


def _basics(options: Options) -> Iterator[str]:
    yield "access_log off;  # the app writes a line for each request"
    yield "server_tokens off;"
    yield "sendfile on;"
    yield "tcp_nopush on;"
    for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        yield f"{what}_temp_path temporary/{what};"
    yield "default_type application/octet-stream;"
    yield "types {"
    yield from (f"    {kind} {endings};" for kind, endings in TYPES.items())
    yield "}"
    yield ""
    yield "# Limits like the app's. A body is taken whole before an instance sees the request, so slow clients cost none."
    yield f"client_max_body_size {options.body_max_bytes};"
    yield f"large_client_header_buffers 4 {options.header_max_bytes};"
    yield f"client_header_timeout {seconds(options.header_timeout_s)};"
    yield f"client_body_timeout {seconds(options.body_timeout_s)};"
    yield f"send_timeout {seconds(options.write_timeout_s)};"
    yield "reset_timedout_connection on;"
    yield "keepalive_timeout 60s;"


def _forwarding(options: Options) -> Iterator[str]:
    yield "# Connections to instances are kept, and WebSockets passed through."
    yield "map $http_upgrade $to_instance {"
    yield "    default upgrade;"
    yield "    '' '';"
    yield "}"
    yield "proxy_http_version 1.1;"
    yield "proxy_set_header Connection $to_instance;"
    yield "proxy_set_header Upgrade $http_upgrade;"
    yield ""
    yield "# Who asks, for an app whose http.trusted_proxies has this machine's address. What a client claims in Forwarded,"
    yield "# which the app would believe first, is taken away."
    yield "proxy_set_header Host $http_host;"
    yield "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
    yield "proxy_set_header X-Forwarded-Proto $scheme;"
    yield "proxy_set_header X-Forwarded-Host $http_host;"
    yield "proxy_set_header Forwarded '';"
    yield ""
    yield "# Longer than the app's deadlines, so that the app says by itself that it is late."
    yield f"proxy_connect_timeout {seconds(options.connect_timeout_s)};"
    yield f"proxy_read_timeout {seconds(options.silence_s)};"
    yield f"proxy_send_timeout {seconds(options.silence_s)};"
    yield ""
    yield "# Another instance is tried where none took the connection; where it broke off before an answer, only for methods"
    yield "# that are idempotent: NGINX sends no POST or PATCH twice unless it is told to (non_idempotent). After the time-out"
    yield "# below it is too late, so that an instance that is slow to answer does not make the others slow."
    yield f"proxy_next_upstream {'error timeout' if options.tries > 1 else 'off'};"
    yield f"proxy_next_upstream_tries {options.tries};"
    yield f"proxy_next_upstream_timeout {seconds(options.silence_s * 0.8)};"
    yield ""
    yield "# Answers are read ahead of slow clients. Server-sent events are not: the app sends X-Accel-Buffering: no."
    yield "proxy_buffering on;"
    yield "proxy_max_temp_file_size 0;"


def _inner(inner: Inner) -> Iterator[str]:
    yield "# Services take connections of services only, which show each other their certificates. Whom a caller has shown is"
    yield "# told to the service, which compares it with the caller's token."
    yield f'proxy_ssl_certificate "{inner.certificate}";'
    yield f'proxy_ssl_certificate_key "{inner.key}";'
    yield f'proxy_ssl_trusted_certificate "{inner.ca}";'
    yield "proxy_ssl_verify on;"
    yield "proxy_ssl_verify_depth 2;"
    yield "proxy_ssl_protocols TLSv1.3;"
    yield "proxy_ssl_session_reuse off;"
    yield f"proxy_set_header {CERTIFICATE} $certificate_shown;"


def _compression(options: Options) -> Iterator[str]:
    yield "# What the app compressed already is left as it is."
    yield "gzip on;"
    yield "gzip_vary on;"
    yield "gzip_proxied any;"
    yield f"gzip_min_length {options.compress_min_bytes};"
    yield f"gzip_types {COMPRESSED};"


def _micro_cache(options: Options) -> Iterator[str]:
    yield "# Answers are kept for as long as their Cache-Control or Expires says; without these, not at all. With Set-Cookie"
    yield "# neither, nor for callers with credentials. Of several who want the same, one asks an instance."
    yield (
        "proxy_cache_path cache levels=1:2 keys_zone=micro:8m inactive=10m use_temp_path=off"
        f" max_size={options.micro_cache_bytes};"
    )
    yield "proxy_cache micro;"
    yield "proxy_cache_key $scheme$http_host$request_uri;"
    yield "proxy_cache_bypass $http_authorization$http_cookie;"
    yield "proxy_no_cache $http_authorization$http_cookie;"
    yield "proxy_cache_lock on;"
    yield "proxy_cache_use_stale updating;"
    yield "proxy_cache_background_update on;"


def _upstream(pool: Pool, options: Options) -> Iterator[str]:
    yield f"upstream {pool.name} {{"
    yield f"    zone {pool.name} 256k;  # one count for all workers"
    if options.sticky:
        yield "    hash $remote_addr consistent;  # sticky, by the client's address"
    else:
        yield "    least_conn;"
    yield "    # One that failed is left out for a second. (Health checks and slow start are not in NGINX's open version.)"
    yield from (f"    {_place(each)}" for each in pool.upstreams)
    yield "    keepalive 64;"
    yield f"    keepalive_timeout {seconds(options.idle_s)};  # the app's own is longer"
    yield "    keepalive_requests 100000;"
    yield "}"


def _place(upstream: Upstream) -> str:
    weight = f" weight={upstream.weight}" if upstream.weight != 1 else ""
    return f"server {address(upstream.host, upstream.port)}{weight} max_fails=1 fail_timeout=1s;  # {upstream.name}"


def _server(listener: Listener, plan: Plan) -> Iterator[str]:
    yield f"# {listener.name}"
    yield "server {"
    if listener.redirect:
        yield from (f"    {line}" for line in _redirect(listener))
        yield "}"
        return
    for part in (
        _listen(listener),
        _leaving(),
        () if plan.inner is None else _shown(listener),
        () if listener.internal else _hidden(),
        *((_static(each) for each in plan.static) if not listener.internal else ()),
        *(_location(path, pool) for path, pool in _routes(listener, plan)),
        *(_way_out(pool) for pool in plan.pools if pool.upstreams and listener.pool in {"", pool.name}),
        _refusals(),
    ):
        yield from (f"    {line}" for line in part)
    yield "}"


def _redirect(listener: Listener) -> Iterator[str]:
    yield from _listen(listener)
    yield "keepalive_timeout 0;  # whoever is sent elsewhere needs this connection no more"
    yield f"return 308 https://$host{https_port(listener.redirect)}$request_uri;"


def _routes(listener: Listener, plan: Plan) -> list[tuple[str, Pool | None]]:
    if listener.pool:
        return [("/", next(pool for pool in plan.pools if pool.name == listener.pool))]
    routes: list[tuple[str, Pool | None]] = [*plan.routes()]
    return routes if any(path == "/" for path, _ in routes) else [*routes, ("/", None)]


def _listen(listener: Listener) -> Iterator[str]:
    at, tls = address(listener.host, listener.port), listener.tls
    if listener.host == "::":
        at += " ipv6only=off"  # every address of the machine, as with the app
    if tls is None:
        yield f"listen {at};"
        return
    yield f"listen {at} ssl{' http2' if listener.http2 else ''};"
    yield f'ssl_certificate "{tls.certificate}";'
    yield f'ssl_certificate_key "{tls.key}";'
    yield "ssl_protocols TLSv1.2 TLSv1.3;"
    yield f"ssl_ciphers {CIPHERS};"
    yield "ssl_prefer_server_ciphers off;"
    if listener.internal:
        yield "ssl_session_cache off;  # each connection shows its certificate anew"
    else:
        yield "ssl_session_cache shared:tls:10m;"
        yield "ssl_session_timeout 1d;"
    yield "ssl_session_tickets off;"
    if tls.client_ca:
        yield f'ssl_client_certificate "{tls.client_ca}";'
        yield "ssl_verify_client on;"
        yield "ssl_verify_depth 4;"


def _shown(listener: Listener) -> Iterator[str]:
    yield f"set $certificate_shown {'$ssl_client_escaped_cert' if listener.internal and listener.tls else QUOTED_NOTHING};"


def _leaving() -> Iterator[str]:
    yield f"include {GENERATION};  # $leaving: the file that tells this process to end its connections"


def _hidden() -> Iterator[str]:
    yield f"location ^~ {CALLS} {{ return 404; }}  # calls between services come in by other ways"


def _static(each: StaticFiles) -> Iterator[str]:
    slash = "" if each.path == "/" else "/"
    yield f"location ^~ {each.path}{slash} {{"
    yield f'    alias "{each.folder.rstrip("/")}/";'
    yield "    add_header Cache-Control no-cache;  # kept, and asked for again: the answer is then 304"
    yield "}"


def _location(path: str, pool: Pool | None) -> Iterator[str]:
    if pool is None or not pool.upstreams:
        yield from (f"location {at} {{ return {404 if pool is None else 503}; }}" for at in _covering(path))
        return
    for at in _covering(path):
        yield f"location {at} {{"
        yield f"    if (-e $leaving) {{ rewrite ^ {LEAVING}{pool.name} last; }}"
        yield from _pass(pool, "")
        yield "}"


def _covering(path: str) -> tuple[str, ...]:
    return ("/",) if path == "/" else (f"= {path}", f"{path}/")


def _way_out(pool: Pool) -> Iterator[str]:
    yield f"location = {LEAVING}{pool.name} {{"
    yield "    internal;"
    yield "    keepalive_timeout 0;"
    yield from _pass(pool, "$request_uri")
    yield "}"


def _pass(pool: Pool, target: str) -> Iterator[str]:
    if pool.tls_name:
        yield f"    proxy_ssl_name {pool.tls_name};"
    yield f"    proxy_pass http{'s' if pool.tls_name else ''}://{pool.name}{target};"


def _refusals() -> Iterator[str]:
    yield "# What NGINX refuses by itself is a problem document (RFC 9457), as with the app."
    for each in REFUSALS:
        yield f"error_page {each.status} @refused_{each.status};"
        yield f"location @refused_{each.status} {{"
        yield "    default_type application/problem+json;"
        if each.retry_after_s:
            yield f"    add_header Retry-After {each.retry_after_s} always;"
        yield f"    return {each.status} '{each.document()}';"
        yield "}"
