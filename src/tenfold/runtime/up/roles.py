"""What is wanted: from ``[up]`` to roles with counts. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final, Literal, get_args

from msgspec import Struct

from tenfold._core.sections import UpSettings
from tenfold._core.text import nearest
from tenfold.errors import ConfigError

Role = Literal["web", "worker", "relay", "scheduler", "gateway"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)

NICER: Final[Mapping[Role, int]] = {"worker": 5}
"""By how much a role's processes are nicer than the supervisor (sched(7)): where processors are short, who answers requests
gets three times the time of who runs jobs, which so become slow and never stand still."""
PUBLIC: Final[frozenset[Role]] = frozenset({"web", "gateway"})
"""Roles that answer requests, so that a balancer may stand in front of them."""

COUNT_MAX: Final = 256
"""More processes than one machine is for; most likely a slip of the key."""

_RANGE = re.compile(r"(\d+)(?:\s*\.\.\s*(\d+))?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)


class Wanted(Struct, frozen=True):
    """So many instances of a role, of the whole app or of one service; ``low < high`` is a range to scale within."""

    role: Role
    service: str = ""
    low: int = 1
    high: int = 1

    @property
    def group(self) -> str:
        """What its instances are called before their number: the service, or the role."""
        return self.service or self.role


def wanted_of(settings: UpSettings, services: Collection[str]) -> tuple[Wanted, ...]:
    """The groups that settings ask for, for an app of these services. Those with a count of nought are left out, and `web`
    where each service has instances of its own. Raises :class:`ConfigError` with the path of a count that is none, for a
    service that the app lacks, or when there is nothing to run."""
    found = [Wanted(role, "", *parse_count(getattr(settings, role), where=f"up.{role}")) for role in ROLES]
    for service, count in settings.services.items():
        where = f"up.services.{service}"
        if service not in services:
            raise ConfigError(f"the app has no service {service!r}.{nearest(service, services)}", where=where)
        if service in ROLES:
            raise ConfigError(
                "a service cannot have the name of a role here: their instances would share names.",
                where=where,
                remedy="Rename the service.",
            )
        found.append(Wanted("web", service, *parse_count(count, where=where)))
    split = bool(services) and set(services) <= set(settings.services)
    found = [w for w in found if w.high and not (split and w.group == "web")]
    if not found:
        raise ConfigError("there is nothing to run.", where="up", remedy='Set a count, such as web = "2..4".')
    return tuple(found)


def parse_count(text: int | str, *, where: str = "count") -> tuple[int, int]:
    """``2`` is (2, 2), ``"2..4"`` is (2, 4). Raises :class:`ConfigError` that names ``where``."""
    match = _RANGE.fullmatch(str(text).strip())
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
    if not 0 <= low <= high:
        raise ConfigError(
            f"{text!r} is no count of instances.", where=where, remedy="Write 2, or 2..4 for a range."
        )
    if high > COUNT_MAX:
        raise ConfigError(
            f"{high} instances are more than the {COUNT_MAX} that one machine may have.", where=where
        )
    return low, high


def parse_size(text: str, *, where: str = "up.memory_max") -> int:
    """Bytes of ``"512MiB"`` (``MB`` counts in thousands); 0 for an empty text. Raises :class:`ConfigError`."""
    if not text.strip():
        return 0
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            f"{text!r} is no amount of memory.", where=where, remedy='Write "512MiB" or "1.5GiB".'
        )
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** " KMGT".index(match[2].upper() or " "))


def parse_scale(text: str, known: Collection[str]) -> tuple[str, int, int]:
    """``web=4`` or ``orders=2..4`` as group and range. Raises :class:`ConfigError` for a group that the fleet lacks."""
    group, equals, count = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r} says no count.", where="scale", remedy=f"Write {group or 'web'}=4.")
    group = group.strip()
    if group not in known:
        raise ConfigError(f"this fleet has no {group!r}.{nearest(group, known)}", where="scale")
    return (group, *parse_count(count, where=f"scale {group}"))
