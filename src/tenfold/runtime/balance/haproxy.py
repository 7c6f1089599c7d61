"""HAProxy, 2.6 and later, as a master with one worker.

What it cannot do: serve files (``static``). A request's body is passed on while it comes, so one that does not say its length
is bounded by the app alone.

**Changing without loss.** When only instances come and go, the running worker is told over its socket: the new ones are added
(and get their share little by little), the old ones get no new requests, and nobody's connection is touched. Anything else,
and every change with ``sticky`` (whose cookies servers get from the file only), is a new worker (SIGUSR2): it takes the sockets
over, and the old one ends each client's connection with its next answer (``idle-close-on-response``). After ``drain_s`` it is
ended, unless it is busy with a stream: then it goes on until that ends, for ``stop_timeout_s`` at most.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from tenfold._core.clock import Clock
from tenfold.errors import ConfigError
from tenfold.runtime.balance import programs
from tenfold.runtime.balance.contract import Balancer
from tenfold.runtime.balance.haproxy_socket import (
    ask,
    commands,
    in_progress,
    servers_in,
    short,
    states_in,
    without_servers,
)
from tenfold.runtime.balance.model import CALLS, CERTIFICATE, PROBES, Listener, Options, Plan, Pool, Upstream
from tenfold.runtime.balance.parts import CIPHERS, COMPRESSED, REFUSALS, address, https_port, seconds

log = logging.getLogger("tenfold.balancer")

CONFIG, RUNNING, PID, SOCKET, MASTER = (
    "haproxy.cfg", "running.cfg", "haproxy.pid", "admin.sock", "master.sock",
)  # fmt: skip
SOCKET_PATH_MAX = 90
"""Of a Unix socket's path, bytes; the system's limit is 107, and HAProxy needs some for a temporary name."""
CHECKS = (
    "inter 1s fastinter 250ms downinter 500ms rise 1 fall 2 observe layer4 error-limit 1 on-error mark-down"
)
"""A second's look at each instance; one that refuses a connection is left out at once, until it is found ready."""
COOKIE = "tenfold_instance"
NOWHERE = "_nowhere"
"""The backend of paths that no pool answers."""
INNER = "tls/inner"
"""Begins the names of the files by which it is one of the services."""


class Haproxy(Balancer):
    """HAProxy as a process of ours, below a folder of its own."""

    name = "HAProxy"
    program_name = "haproxy"

    def __init__(self, program: str = "", *, clock: Clock | None = None) -> None:
        super().__init__(program, clock=clock)
        self._child: subprocess.Popen[bytes] | None = None

    def render(self, plan: Plan) -> dict[str, str]:
        if plan.static:
            raise ConfigError(
                "HAProxy serves no files.",
                where="balancer.static",
                remedy='Let the app serve them, or write balancer.kind = "nginx".',
            )
        return {CONFIG: "\n".join(_config(plan)) + "\n"}

    def links(self, plan: Plan) -> dict[str, str]:
        """HAProxy looks for a certificate's key beside it, at its name and ``.key``."""
        found: dict[str, str] = {}
        for listener in plan.listeners:
            if listener.tls is not None:
                found[f"tls/{listener.name}.pem"] = listener.tls.certificate
                found[f"tls/{listener.name}.pem.key"] = listener.tls.key
        if plan.inner is not None:
            found[f"{INNER}.pem"], found[f"{INNER}.pem.key"] = plan.inner.certificate, plan.inner.key
            found[f"{INNER}-ca.pem"] = plan.inner.ca
        return found

    async def check(self, folder: Path) -> None:
        done = await programs.run(self.program, "-C", str(folder), "-f", CONFIG, "-c")
        if done.status:
            raise ConfigError(
                f"HAProxy refuses its configuration: {_first_error(done.said)}.", where=str(folder / CONFIG)
            )

    async def start(self, folder: Path) -> None:
        self.folder = folder
        if self.running(folder):
            return
        _reachable(folder)
        for name in (PID, SOCKET, MASTER):
            (folder / name).unlink(missing_ok=True)
        command = [
            self.program,
            "-W",
            "-db",
            "-C",
            str(folder),
            "-f",
            CONFIG,
            "-p",
            PID,
            "-S",
            f"unix@{MASTER}",
        ]
        with (folder / programs.LOG).open("ab") as out:
            self._child = subprocess.Popen(  # noqa: S603, ASYNC220 - asyncio would end it with the loop
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        text = (folder / CONFIG).read_text(encoding="utf-8")
        await programs.until(
            lambda: self._ended() or ((folder / SOCKET).exists() and self.running(folder) != 0),
            programs.ANSWER_S,
            self._clock,
        )
        if self._ended() or not (folder / SOCKET).exists():
            raise self._failed("does not start", folder)
        programs.put(folder, {RUNNING: text}, {})

    async def reload(self, folder: Path) -> None:
        self.folder = folder
        text = (folder / CONFIG).read_text(encoding="utf-8")
        before = (folder / RUNNING).read_text(encoding="utf-8") if (folder / RUNNING).exists() else ""
        only_servers = text != before and without_servers(text) == without_servers(before)
        if not only_servers or f"cookie {COOKIE}" in text:
            await self._replace_worker(folder)
        elif why := await self._move(folder, servers_in(text)):
            log.info("HAProxy gets a new worker, since it did not take a change of its servers: %s", why)
            await self._replace_worker(folder)
        programs.put(folder, {RUNNING: text}, {})

    async def stop(self) -> None:
        if self.folder is None:
            return
        folder, pid = self.folder, self.running(self.folder)
        programs.tell(pid, signal.SIGUSR1)
        end = self._clock.monotonic() + self._stop_timeout_s
        while self._lives(pid, folder) and self._clock.monotonic() < end and await self._busy(folder):
            await self._clock.sleep(programs.LOOK_S)
        programs.tell(pid, signal.SIGTERM)
        await programs.until(lambda: not self._lives(pid, folder), programs.ANSWER_S, self._clock)
        self._child = None

    async def _busy(self, folder: Path) -> set[str]:
        """Ids of the workers that have requests in progress. Clients that are connected and ask nothing do not count, who
        would keep a worker for a minute."""
        try:
            said = await ask(folder / MASTER, "show proc")
            pids = [line.split()[0] for line in said.splitlines() if " worker " in line]
            return {pid for pid in pids if in_progress(await ask(folder / MASTER, f"@!{pid} show sess"))}
        except OSError:
            return set()  # it has ended

    def running(self, folder: Path) -> int:
        self._ended()
        pid = programs.pid_in(folder / PID)
        return pid if programs.process_of(pid, folder) is not None else 0

    def _ended(self) -> bool:
        return self._child is not None and self._child.poll() is not None

    def _lives(self, pid: int, folder: Path) -> bool:
        self._ended()
        return programs.process_of(pid, folder) is not None

    async def _replace_worker(self, folder: Path) -> None:
        before = await self._workers(folder)
        programs.tell(self.running(folder), signal.SIGUSR2)
        end = self._clock.monotonic() + programs.ANSWER_S
        while self._clock.monotonic() < end:
            await self._clock.sleep(programs.LOOK_S)
            with suppress(OSError):  # the master is away for a moment while it starts itself again
                if (await self._workers(folder)) - before:
                    break
        else:
            raise self._failed("did not take its new configuration, and goes on with the old one", folder)
        await self._clock.sleep(self._drain_s)
        for pid in before - await self._busy(folder):
            programs.tell(int(pid), signal.SIGTERM)

    async def _workers(self, folder: Path) -> set[str]:
        """Ids of the workers that accept connections."""
        said = (await ask(folder / MASTER, "show proc")).partition("# old workers")[0]
        return {line.split()[0] for line in said.splitlines() if " worker " in line}

    async def _move(self, folder: Path, wanted: Mapping[str, Mapping[str, str]]) -> str:
        """Tell the running worker its servers. What it did not take, in its own words; empty when all went well."""
        has = states_in(await ask(folder / SOCKET, "show servers state"))
        for command, answer in commands(wanted, has):
            said = (await ask(folder / SOCKET, command)).strip()
            if said != answer and not command.startswith(
                "del server"
            ):  # one with connections cannot be deleted yet
                return f"{command}: {said}"
        return ""


def _reachable(folder: Path) -> None:
    if len(os.fsencode(short(folder / MASTER))) > SOCKET_PATH_MAX:
        raise ConfigError(
            f"{folder} is too long a path for the sockets in it.",
            where="app.data_dir",
            remedy="Choose a shorter one.",
        )


def _first_error(said: str) -> str:
    lines = [line.partition(" : ")[2] for line in said.splitlines() if line.startswith("[ALERT]")]
    return (
        (lines or said.splitlines() or ["no reason given"])[0].removeprefix("config : ").strip().rstrip(".")
    )


# ── the text ──


def _config(plan: Plan) -> Iterator[str]:
    yield "# Written by Tenfold from tenfold.toml: a change here is lost. Paths are below the folder of this file."
    parts = [_global(plan.options), _defaults(plan.options)]
    if plan.options.micro_cache_bytes:
        parts.append(_cache(plan.options))
    parts += [_frontend(listener, plan) for listener in plan.listeners]
    parts += [_backend(pool, plan) for pool in plan.pools]
    if not any(path == "/" for path, _ in plan.routes()):
        # A refusal in the frontend would come before any backend is chosen.
        parts.append(iter((f"backend {NOWHERE}", "http-request deny deny_status 404")))
    for head, *lines in parts:
        yield ""
        yield head
        yield from (f"    {line}" for line in lines)


def _global(options: Options) -> Iterator[str]:
    yield "global"
    yield f"maxconn {options.connections_max}"
    yield "no strict-limits  # fewer connections, rather than none, where so many files may not be open"
    yield f"stats socket unix@{SOCKET} mode 600 level admin"
    yield "# What is still in progress so long after it was told to end is cut off."
    yield f"hard-stop-after {seconds(options.stop_timeout_s)}"
    yield "# Room for the largest headers that the app takes; it says by itself what is too large."
    yield f"tune.bufsize {max(16_384, 2 * options.header_max_bytes)}"
    yield "ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets"
    yield f"ssl-default-bind-ciphers {CIPHERS}"


def _defaults(options: Options) -> Iterator[str]:
    yield "defaults"
    yield "mode http"
    yield "log stderr format raw daemon notice"
    yield f"timeout http-request {seconds(options.header_timeout_s)}"
    yield "timeout http-keep-alive 60s"
    yield f"timeout client {seconds(max(options.body_timeout_s, options.silence_s))}"
    yield f"timeout connect {seconds(options.connect_timeout_s)}"
    yield "# Longer than the app's deadlines, so that the app says by itself that it is late."
    yield f"timeout server {seconds(options.silence_s)}"
    yield "timeout queue 5s"
    yield "timeout tunnel 1h  # WebSockets; the app sends a ping every 20 s"
    yield "# Connections to instances are kept and shared; a client's first request takes no risk with one."
    yield "option http-keep-alive"
    yield "http-reuse safe"
    yield "# A worker that is leaving ends a client's connection with an answer, not in front of a request."
    yield "option idle-close-on-response"
    yield "# What HAProxy refuses by itself is a problem document (RFC 9457), as with the app."
    for each in REFUSALS:
        after = f' hdr Retry-After "{each.retry_after_s}"' if each.retry_after_s else ""
        yield (
            f"http-error status {each.status} content-type application/problem+json string '{each.document()}'{after}"
        )


def _cache(options: Options) -> Iterator[str]:
    yield "cache micro"
    size = max(1, options.micro_cache_bytes // 1_048_576)
    yield f"total-max-size {size}  # MiB"
    yield f"max-object-size {min(1_048_576, size * 524_288)}"
    yield "max-age 86400  # at most; the answer says how long"
    yield "process-vary on"


def _frontend(listener: Listener, plan: Plan) -> Iterator[str]:
    yield f"frontend {listener.name}"
    everywhere = " v4v6" if listener.host == "::" else ""  # every address of the machine, as with the app
    yield f"bind {address(listener.host, listener.port)}{everywhere}{_tls(listener)}"
    if listener.redirect:
        port = https_port(listener.redirect)
        yield f"http-request redirect location https://%[req.hdr(host),host_only]{port}%[pathq] code 308"
        return
    yield "# Who asks, for an app whose http.trusted_proxies has this machine's address. What a client claims in Forwarded,"
    yield "# which the app would believe first, is taken away."
    yield "http-request del-header Forwarded"
    yield (
        'http-request set-header X-Forwarded-For "%[req.fhdr(x-forwarded-for)], %[src]"'
        " if { req.fhdr(x-forwarded-for) -m found }"
    )
    yield "http-request set-header X-Forwarded-For %[src] unless { req.fhdr(x-forwarded-for) -m found }"
    yield f"http-request set-header X-Forwarded-Proto {'https' if listener.tls else 'http'}"
    yield "http-request set-header X-Forwarded-Host %[req.hdr(host)]"
    yield f"http-request deny deny_status 413 if {{ req.hdr_val(content-length) gt {plan.options.body_max_bytes} }}"
    if plan.inner is not None:
        yield "# Whom a caller has shown is told to the service, which compares it with the caller's token."
        shown = listener.internal and listener.tls is not None
        yield f"http-request {'set' if shown else 'del'}-header {CERTIFICATE}{' %[ssl_c_der,base64]' if shown else ''}"
    if not listener.internal:
        yield "# Calls between services come in by other ways."
        yield f"http-request deny deny_status 404 if {{ path,url_dec -m reg ^/+{CALLS.strip('/')}/ }}"
    if listener.pool:
        yield f"default_backend {listener.pool}"
        return
    rest = ""
    for path, pool in plan.routes():
        if path == "/":
            rest = pool.name
        else:
            yield f"use_backend {pool.name} if {{ path {path} }} || {{ path_beg {path}/ }}"
    yield f"default_backend {rest or NOWHERE}"


def _tls(listener: Listener) -> str:
    if listener.tls is None:
        return ""
    protocols = "h2,http/1.1" if listener.http2 else "http/1.1"
    clients = f' ca-file "{listener.tls.client_ca}" verify required' if listener.tls.client_ca else ""
    return f" ssl crt tls/{listener.name}.pem alpn {protocols}{clients}"


def _backend(pool: Pool, plan: Plan) -> Iterator[str]:
    options = plan.options
    yield f"backend {pool.name}"
    yield "balance leastconn"
    if all(each.ready_port for each in pool.upstreams):
        yield "# An instance that is leaving, or whose database is away, says so and gets no new requests."
        yield "option httpchk"
        yield f"http-check send meth GET uri {PROBES} ver HTTP/1.1 hdr Host balancer"
        yield "http-check expect status 200"
    yield "# Another instance is tried where none took the connection; where it broke off before an answer, only for methods"
    yield "# that are idempotent."
    yield f"retries {options.tries - 1}"
    yield "option redispatch 1"
    yield "retry-on conn-failure empty-response"
    yield "http-request disable-l7-retry unless { method GET HEAD OPTIONS PUT DELETE }"
    if options.sticky:
        secure = (
            " secure"
            if all(each.tls or each.redirect for each in plan.listeners if not each.internal)
            else ""
        )
        yield f"cookie {COOKIE} insert indirect nocache httponly{secure} attr SameSite=Lax"
    if options.compress:
        yield "# What the app compressed already is left as it is."
        yield "compression algo gzip"
        yield f"compression type text/html {COMPRESSED}"
    if options.micro_cache_bytes:
        yield from _caching()
    yield from (f"server {_server(each, options)}{_mutual(pool)}" for each in pool.upstreams)


def _caching() -> Iterator[str]:
    yield "# Answers are kept for as long as their Cache-Control says; without that, not at all. With Set-Cookie neither, nor"
    yield "# for callers with credentials."
    yield "acl credentials req.hdr(authorization) -m found"
    yield "acl credentials req.hdr(cookie) -m found"
    yield "http-request set-var(txn.credentials) bool(true) if credentials"
    yield "http-request cache-use micro unless credentials"
    yield (
        "http-response cache-store micro if !{ var(txn.credentials) -m bool } { res.fhdr(cache-control) -m sub max-age= s-maxage= }"
        " !{ res.hdr(set-cookie) -m found }"
    )


def _mutual(pool: Pool) -> str:
    """For instances that take connections of services only."""
    if not pool.tls_name:
        return ""
    return (
        f" ssl verify required verifyhost {pool.tls_name} ssl-min-ver TLSv1.3 no-ssl-reuse"
        f" crt {INNER}.pem ca-file {INNER}-ca.pem"
    )


def _server(upstream: Upstream, options: Options) -> str:
    """What stands behind ``server`` in a file, and behind ``add server`` on the socket, which knows no defaults."""
    probe = f" port {upstream.ready_port}" if upstream.ready_port else ""
    slow = (
        f" slowstart {seconds(options.slow_start_s)}" if upstream.slow_start and options.slow_start_s else ""
    )
    cookie = f" cookie {upstream.name}" if options.sticky else ""
    # The port makes the name one that its successor does not have, so that both can be there for a while.
    return (
        f"{upstream.name}-{upstream.port} {address(upstream.host, upstream.port)} weight {upstream.weight}"
        f" check{probe} {CHECKS} pool-purge-delay {seconds(min(5.0, options.idle_s))}{slow}{cookie}"
    )
