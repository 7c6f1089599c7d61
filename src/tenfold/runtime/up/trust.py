"""By what the services of a fleet know each other: their keys, and their certificates where ``identity.tls`` is on.

They are issued by ``tenfold identity`` (in development also here), into one folder that all instances read; each uses what
is its own. Whatever is missing or no good is said before anything starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from tenfold._core.settings import variable
from tenfold.errors import ConfigError
from tenfold.runtime.balance import Inner
from tenfold.security.identity import certificates, files
from tenfold.security.identity.certificates import CA, CERTIFICATE, KEY
from tenfold.security.identity.issuing import issue
from tenfold.security.identity.keys import PUBLIC, private_keys
from tenfold.security.identity.names import BALANCER, GATEWAY, ServiceName, service_name
from tenfold.security.identity.tls import SOON_S

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.runtime.up.fleet import Fleet

KEYS: Final = "identity"
"""Folder of services' keys below the data folder, where the settings name none."""


class Trust(Struct, frozen=True):
    """What instances and balancer of one fleet need to know of it."""

    env: Mapping[str, str] = field(default_factory=dict)
    """Settings of instances."""
    folder: Path = Path()
    domain: str = ""
    shows: Mapping[str, str] = field(default_factory=dict)
    """By group: the service whose certificate its instances show. Empty without ``identity.tls``."""

    @property
    def inner(self) -> Inner | None:
        """By what the balancer is one of them."""
        if not self.shows:
            return None
        home = (self.folder / BALANCER).absolute()
        return Inner(str(home / CERTIFICATE), str(home / KEY), str((self.folder / PUBLIC / CA).absolute()))

    def tls_name(self, group: str) -> str:
        """The name by which the balancer knows instances of this group; empty where they show none."""
        service = self.shows.get(group)
        return ServiceName(self.domain, service).host if service else ""

    def check(self) -> None:
        """Raise :class:`ConfigError` for a certificate of the balancer that is no good, with what to do."""
        if self.shows:
            certificates.check(self.folder, ServiceName(self.domain, BALANCER), time.time())


def trust_of(app: App, fleet: Fleet, say: Callable[[str], object]) -> Trust:
    """That of a fleet whose services run in processes of their own. In development what is missing is made; production
    wants it to be there. Raises :class:`ConfigError`."""
    settings = app.settings.identity
    if not any(group.calls_port for group in fleet.groups.values()):
        return Trust()
    develops = app.settings.app.env != "production"
    if not settings.folder and not develops:
        raise ConfigError(
            "services in processes of their own prove to each other who calls, and have no keys.",
            where="identity.folder",
            remedy=f'Run `tenfold identity issue`, and set [identity] folder = "{KEYS}".',
        )
    env = {} if settings.folder else {variable("identity.folder"): KEYS}
    shows = _shows(app, fleet) if settings.tls else {}
    domain = settings.trust_domain or app.name
    trust = Trust(env, app.data_dir / (settings.folder or KEYS), domain, shows)
    # Not in a name of its own: whoever answers there has been shown to the balancer.
    shown = [*shows.values(), BALANCER, *([GATEWAY] if _has_gateway(fleet) else [])] if shows else []
    if develops:
        _make(trust, app, shown, say)
    for service in app.services:
        if not private_keys(trust.folder / service.name):
            raise ConfigError(
                f"there is no private key of {service.name}.",
                where=str(trust.folder / service.name),
                remedy=f"Make one by: tenfold identity issue {service.name}",
            )
    for name in shown:
        certificates.check(trust.folder, service_name(domain, name), time.time())
        _check_host(trust, name)
    return trust


def _has_gateway(fleet: Fleet) -> bool:
    return any(group.role == GATEWAY for group in fleet.groups.values())


def _shows(app: App, fleet: Fleet) -> dict[str, str]:
    """By group, the service whose certificate is shown. Raises :class:`ConfigError` where that would be several."""
    split = app.settings.up.services
    rest = [service.name for service in app.services if service.name not in split]
    found = {group.name: group.service for group in fleet.groups.values() if group.service}
    if "web" in fleet.groups and rest:
        if len(rest) > 1:
            raise ConfigError(
                f"`web` would serve {' and '.join(rest)}, and a process has one name to show in its certificate.",
                where="identity.tls",
                remedy=f"Give each instances of its own: [up.services] {rest[0]} = 1",
            )
        found["web"] = rest[0]
    return found


def _make(trust: Trust, app: App, shown: Sequence[str], say: Callable[[str], object]) -> None:
    now = app.clock.now()
    made = [s.name for s in app.services if issue(trust.folder, s.name, now) is not None]
    if made:
        say(f"Made keys by which services know each other, in {trust.folder}: {', '.join(made)}.")
    ends = {name: certificates.listed(trust.folder, name) for name in shown}
    lacking = [name for name, said in ends.items() if said is None or said.not_after - now < SOON_S]
    for name in lacking:
        certificates.issue(trust.folder, service_name(trust.domain, name), now)
    if lacking:
        say(f"Made certificates for mutual TLS, in {trust.folder}: {', '.join(lacking)}.")


def _check_host(trust: Trust, name: str) -> None:
    """The balancer looks at names in the DNS, and not at SPIFFE's."""
    full = ServiceName(trust.domain, name)
    if name in trust.shows.values() and not certificates.known_by_host(trust.folder, full):
        raise ConfigError(
            f"the certificate of {full} is not valid for {full.host}, by which the balancer knows it.",
            where=str(trust.folder / name / CERTIFICATE),
            remedy=f"Run: tenfold identity issue {name} --tls; or have your authority put that name into it.",
        )


class Renewals:
    """Notices certificates that were changed, once their files stay as they are: they are written one after the other."""

    def __init__(self) -> None:
        self._shown: files.Stamp = ()
        self._seen: files.Stamp = ()

    def shown(self, paths: Sequence[str]) -> None:
        """These are in use now."""
        self._shown = self._seen = _stamp(paths)

    def due(self, paths: Sequence[str]) -> bool:
        """Whether they are others than those in use, and the same as when this was asked last."""
        seen, self._seen = self._seen, _stamp(paths)
        return self._seen == seen != self._shown


def _stamp(paths: Sequence[str]) -> files.Stamp:
    folders = {Path(path).parent for path in paths if path}
    return tuple(each for each in files.stamp(*folders) if each[0] in paths)
