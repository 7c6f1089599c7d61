"""Balancers in front of a fleet: a plan as NGINX's or HAProxy's configuration, and the process that follows it."""

from __future__ import annotations

from tenfold.runtime.balance.contract import Balancer
from tenfold.runtime.balance.model import (
    Inner,
    Listener,
    Options,
    Plan,
    Pool,
    StaticFiles,
    Tls,
    Upstream,
    plan_of,
)

__all__ = [
    "Balancer",
    "Inner",
    "Listener",
    "Options",
    "Plan",
    "Pool",
    "StaticFiles",
    "Tls",
    "Upstream",
    "balancer_of",
    "plan_of",
]


def balancer_of(kind: str, program: str = "") -> Balancer | None:
    """The balancer that ``balancer.kind`` names; None for "none". ``program`` is the path of its binary."""
    if kind == "nginx":
        from tenfold.runtime.balance.nginx import Nginx

        return Nginx(program)
    if kind == "haproxy":
        from tenfold.runtime.balance.haproxy import Haproxy

        return Haproxy(program)
    return None
