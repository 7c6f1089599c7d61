"""``tenfold identity``: the keys and certificates of services, and their roles in the database."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App as Commands
from cyclopts import Parameter

from tenfold._core.text import nearest, plural
from tenfold.cli import console, target
from tenfold.cli.connection import connected
from tenfold.cli.jobs import Here, Where, time_of
from tenfold.errors import ConfigError
from tenfold.security.identity.names import BALANCER, GATEWAY, IN_FRONT

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.db.ownership import Step
    from tenfold.security.identity.keys import Jwk

commands = Commands(
    name="identity",
    help="Make, rotate and show the keys of services, and roles of their own in the database.",
)

FOLDER = "identity"
"""Where they are kept when no setting says so."""
PASSWORD, HIDDEN = "{password}", "'••••••'"
"""What stands in a plan where the password comes, and what is shown of it."""
DAY_S, HOUR_S = 86_400, 3_600

Services = Annotated[str, Parameter(name="SERVICE", help="Whose; default: every service of the app.")]
Tls = Annotated[bool, Parameter(negative=(), help="A new certificate for mutual TLS, too, good for 30 days.")]
Hosts = Annotated[
    list[str] | None,
    Parameter(
        name="--host", negative=(), help="A name or address to put into certificates, besides loopback."
    ),
]


@commands.command
def issue(*services: Services, tls: Tls = False, host: Hosts = None, where: Where = Here) -> int:
    """Make the first key of services that have none, and with --tls a certificate and the authority that signs it."""
    from tenfold.security.identity import issuing

    app = _app(where)
    folder, now = _folder(app), time.time()
    for service in _chosen(app, services, tls=tls):
        if service in IN_FRONT:  # it makes no calls in a name of its own, so it signs nothing
            console.say(f"{service}: {_certified(app, folder, service, now, host)}.")
            continue
        key = issuing.issue(folder, service, now)
        done = f"made key {_short(key.kid)}" if key is not None else "has a key already"
        console.say(f"{service}: {done}{f'; {_certified(app, folder, service, now, host)}' if tls else ''}.")
    if not app.settings.identity.folder:
        console.note(f'Services use them once tenfold.toml says: [identity] folder = "{FOLDER}"')
    return 0


@commands.command
def rotate(
    *services: Services,
    now: Annotated[
        bool,
        Parameter(negative=(), help="Trust the former keys for seconds only: somebody else may have them."),
    ] = False,
    tls: Tls = False,
    host: Hosts = None,
    where: Where = Here,
) -> int:
    """Make new keys. Running processes take them over by themselves, and refuse nothing meanwhile."""
    from tenfold.security.identity import issuing
    from tenfold.security.identity.keys import NOW_OVERLAP_S, NOW_SPREAD_S, OVERLAP_S, SPREAD_S

    app, at = _app(where), time.time()
    folder = _folder(app)
    for service in _chosen(app, services, tls=tls):
        certificate = f"; {_certified(app, folder, service, at, host)}" if tls else ""
        if service in IN_FRONT:
            console.say(f"{service}{certificate.replace(';', ':', 1)}.")
            continue
        if now:
            key = issuing.rotate(folder, service, at, spread_s=NOW_SPREAD_S, overlap_s=NOW_OVERLAP_S)
            said = (
                f"the former ones are worthless in {NOW_SPREAD_S + NOW_OVERLAP_S:g} s, where this folder is"
            )
        else:
            key = issuing.rotate(folder, service, at)
            said = (
                f"it signs in {SPREAD_S:g} s; the former ones are trusted {OVERLAP_S / 60:g} minutes longer"
            )
        console.say(f"{service}: key {_short(key.kid)}; {said}{certificate}.")
    return 0


@commands.default
@commands.command
def show(*, where: Where = Here) -> int:
    """Show names, keys with their age, and until when keys and certificates are good."""
    from tenfold.security.identity.keys import PUBLIC, public_keys

    app = _app(where)
    folder, now = _folder(app), time.time()
    found = public_keys(folder / PUBLIC)
    fronts = {name for name in IN_FRONT if (folder / name).is_dir()}
    others = [name for name in sorted({*found, *fronts}) if name not in _names(app)]
    rows = [
        row for name in [*_names(app), *others] for row in _rows(app, folder, name, found.get(name, []), now)
    ]
    headings = ("name", "key", "state", "age", "private key", "certificate")
    console.table(rows, headings=headings)
    console.say(console.paint(_summary(app, folder), console.DIM))
    return 0


@commands.command
def database(
    *,
    apply: Annotated[bool, Parameter(negative=(), help="Do what the plan says. Default: print it.")] = False,
    where: Where = Here,
) -> int:
    """PostgreSQL: give each service a role of its own, which reaches its own tables and no other service's.

    The user of database.url needs the right CREATEROLE and has to own the tables. Of a role that is made, the URL is
    written to the service's folder, for its owner only to read; `tenfold run --service` connects by it.
    """
    app = _app(where)
    asyncio.run(_database(app, apply))
    return 0


async def _database(app: App, apply: bool) -> None:
    from tenfold.assembly.ownership import owned_by
    from tenfold.db import ownership

    async with connected(app):
        services, backend = owned_by(app, app.everywhere), app.databases[0].backend
        steps = await ownership.plan(backend, services)
        for step in steps:
            why = console.paint(f"-- {step.why}", console.DIM)
            console.say(f"{step.sql.replace(PASSWORD, HIDDEN)};  {why}")
        if not steps:
            console.say(f"Each of {plural(len(services), 'service')} reaches its own tables, and no other's.")
        elif not apply:
            console.note("Nothing was changed. To do it: tenfold identity database --apply")
        else:
            await ownership.apply(backend, list(_filled(app, steps)))
            console.say(f"Done: {plural(len(steps), 'statement')}.")


def _filled(app: App, steps: Sequence[Step]) -> Iterator[str]:
    """The statements with passwords, each of which is written down before anything knows it."""
    from tenfold.db.ownership import role_of
    from tenfold.security.identity import files

    services = {role_of(app.name, database.name): database.name for database in app.databases}
    for step in steps:
        if not step.creates:
            yield step.sql
            continue
        password, service = secrets.token_urlsafe(24), services[step.creates]
        path = _folder(app) / service / "database.url"
        files.make_folder(path.parent, private=True)
        url = _url(app.settings.database.url, step.creates, password)
        files.write(path, f"{url}\n".encode(), private=True)
        console.say(f"{service}: {_relative(path)}")
        yield step.sql.replace(PASSWORD, f"'{password}'")


def _url(url: str, user: str, password: str) -> str:
    """The same database, as another user."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{user}:{password}@{rest.rpartition('@')[2]}"


def _app(where: Where) -> App:
    app = target.load(where.app, where.config)
    app.configure(where.config, app__data_dir=None if where.data is None else str(where.data))
    return app


def _folder(app: App) -> Path:
    return app.data_dir / (app.settings.identity.folder or FOLDER)


def _names(app: App) -> list[str]:
    return [service.name for service in app.everywhere]


def _chosen(app: App, services: Sequence[str], *, tls: bool) -> list[str]:
    """Those that are named, else all services; with ``tls``, also what the settings put in front of them."""
    known = [*_names(app), *IN_FRONT]
    for name in IN_FRONT:
        if name in services and not tls:
            raise ConfigError(
                f"{name} signs nothing, so it has no key, but a certificate.",
                where="SERVICE",
                remedy="Add --tls.",
            )
    for name in services:
        if name not in known:
            raise ConfigError(
                f"{app.name} has no service {name!r}.{nearest(name, known)}",
                where="SERVICE",
                remedy=f"There are {', '.join(_names(app))}; and {' and '.join(IN_FRONT)}, which stand in front of them.",
            )
    stands = {
        BALANCER: app.settings.balancer.kind != "none",
        GATEWAY: bool(app.settings.gateway.routes),
    }
    return list(services) or [*_names(app), *(name for name in IN_FRONT if tls and stands[name])]


def _certified(app: App, folder: Path, service: str, now: float, hosts: list[str] | None) -> str:
    from tenfold.security.identity import certificates
    from tenfold.security.identity.names import service_name

    name = service_name(app.settings.identity.trust_domain or app.name, service)
    made = certificates.issue(folder, name, now, hosts=(*certificates.LOOPBACK, *(hosts or ())))
    return f"certificate of {name} until {time_of(made.not_after)}"


def _rows(app: App, folder: Path, service: str, keys: list[Jwk], now: float) -> Iterator[tuple[str, ...]]:
    from tenfold.security.identity.names import service_name

    name = str(service_name(app.settings.identity.trust_domain or app.name, service))
    certificate = _certificate(folder, service, now)
    if not keys:
        no_key = ("needs none", console.DIM) if service in IN_FRONT else ("none", console.YELLOW)
        yield (name, console.paint(*no_key), "", "", "", certificate)
    signing = max((key.signs_from for key in keys if key.signs_from <= now), default=0.0)
    for key in reversed(keys):
        here = "here" if (folder / service / f"{key.kid}.jwk").exists() else "elsewhere"
        yield (
            name,
            _short(key.kid),
            _state(key, signing, now),
            _span(now - key.created_at),
            here,
            certificate,
        )
        name = certificate = ""


def _state(key: Jwk, signing: float, now: float) -> str:
    if key.expires_at and key.expires_at <= now:
        return console.paint("expired", console.DIM)
    if key.signs_from > now:
        return console.paint(f"signs in {_span(key.signs_from - now)}", console.CYAN)
    if key.signs_from == signing:
        return console.paint("signs", console.GREEN)
    return f"trusted for {_span(key.expires_at - now)}" if key.expires_at else "trusted"


def _certificate(folder: Path, service: str, now: float) -> str:
    from tenfold.security.identity import certificates

    try:
        found = certificates.listed(folder, service)
    except ConfigError as error:
        return console.paint(str(error), console.RED)
    if found is None:
        return ""
    left_s = found.not_after - now
    if left_s <= 0:
        return console.paint(f"expired {_span(-left_s)} ago", console.RED)
    return console.paint(f"for {_span(left_s)}", console.YELLOW if left_s < 3 * DAY_S else console.GREEN)


def _summary(app: App, folder: Path) -> str:
    place = _relative(folder)
    if not app.settings.identity.folder:
        return f'In {place}. No process uses them yet: set [identity] folder = "{FOLDER}".'
    return f"In {place}."


def _span(seconds: float) -> str:
    """``12 s``, ``5 min``, ``3 h``, ``40 d``."""
    seconds = max(seconds, 0.0)
    for size, unit in ((2 * DAY_S, "d"), (2 * HOUR_S, "h"), (120, "min")):
        if seconds >= size:
            return f"{seconds / {'d': DAY_S, 'h': HOUR_S, 'min': 60}[unit]:.0f} {unit}"
    return f"{seconds:.0f} s"


def _short(kid: str) -> str:
    return kid[:12]


def _relative(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) or not path.is_absolute() else str(path)
