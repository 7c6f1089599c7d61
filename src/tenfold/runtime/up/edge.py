"""The balancer of a fleet: from instances that are ready to the plan that :mod:`tenfold.runtime.balance` follows."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tenfold._core.sections import Settings
from tenfold.errors import ConfigError
from tenfold.runtime import listeners
from tenfold.runtime.balance import Balancer, Listener, Plan, Pool, Tls, Upstream, balancer_of, plan_of
from tenfold.runtime.balance.certificates import check_tls
from tenfold.runtime.balance.model import absolute
from tenfold.runtime.up.fleet import Fleet
from tenfold.runtime.up.launch import HOST
from tenfold.runtime.up.trust import Renewals, Trust

if TYPE_CHECKING:
    from tenfold.runtime.up.instance import Instance

FOLDER: Final = "balancer"
"""Below the data folder."""

NO_TRUST: Final = Trust()

_Address = tuple[str, int, str]
"""Host, port, and the setting that says it."""


class Edge:
    """A :class:`~tenfold.runtime.up.supervisor.Front`.

    The public listener leads to ``gateway`` where there is one, else to each service by ``paths`` and to ``web`` with
    the rest. Services also have a listener of their own on the loopback interface, at the port that their group keeps, where
    the others call them.
    """

    def __init__(
        self,
        balancer: Balancer,
        settings: Settings,
        fleet: Fleet,
        paths: Mapping[str, Sequence[str]],
        trust: Trust,
    ) -> None:
        self._balancer, self._settings, self._fleet, self._paths = balancer, settings, fleet, paths
        self._trust = trust
        self._renewals = Renewals()
        self._folder = (Path(settings.app.data_dir) / FOLDER).absolute()

    @classmethod
    def of(
        cls, settings: Settings, fleet: Fleet, paths: Mapping[str, Sequence[str]], trust: Trust = NO_TRUST
    ) -> Edge | None:
        """That of ``balancer.kind``, None for "none". Raises :class:`ConfigError` when its program is not installed, when its
        plan cannot be, when its certificate is not good, or when somebody else has its port."""
        balancer = balancer_of(settings.balancer.kind, settings.balancer.program)
        if balancer is None:
            return None
        edge = cls(balancer, settings, fleet, paths, trust)
        edge._check(settings, known=())
        return edge

    def follow(self, settings: Settings) -> None:
        """Take these over, from the next :meth:`show` on. Raises :class:`ConfigError` as :meth:`of` does, and keeps its own."""
        self._check(settings, known=_addresses(self._settings))
        self._settings = settings

    def _check(self, settings: Settings, *, known: Collection[_Address]) -> None:
        """``known`` are addresses that a balancer of ours has."""
        plan = self._plan(settings, [])
        if not self._balancer.program:
            raise ConfigError(f"{settings.balancer.kind} is not installed.", where="balancer.kind")
        self._balancer.render(plan)
        for listener in plan.listeners:
            if listener.tls is not None and not listener.internal:
                check_tls(listener.tls, settings.balancer.names, time.time())
        if known or not self._balancer.running(self._folder):
            for host, port, where in _addresses(settings):
                if (host, port, where) not in known:
                    listeners.bind(host, port, where=where).close()

    @property
    def address(self) -> str:
        """Where clients find the fleet."""
        said = self._settings.balancer
        return f"{'https' if said.tls_certificate else 'http'}://{said.host}:{said.port}"

    async def show(self, instances: Sequence[Instance]) -> None:
        """Send requests to these and no others, once this returns."""
        self._trust.check()
        plan = self._plan(self._settings, instances)
        self._renewals.shown(self._files)
        await self._balancer.apply(plan, self._folder, names=self._settings.balancer.names)

    def renewed(self) -> bool:
        """Whether certificates were changed, which :meth:`show` puts into use."""
        return self._renewals.due(self._files)

    @property
    def _files(self) -> list[str]:
        said, inner = self._settings.balancer, self._trust.inner
        found = [absolute(path) for path in (said.tls_certificate, said.tls_key, said.tls_client_ca)]
        return found + ([] if inner is None else [inner.certificate, inner.key, inner.ca])

    def _plan(self, settings: Settings, instances: Sequence[Instance]) -> Plan:
        pools, internal = self._pools(instances), self._internal()
        return plan_of(settings, pools, internal=internal, inner=self._trust.inner)

    def lost(self) -> bool:
        """Whether its process has ended."""
        return not self._balancer.running(self._folder)

    async def stop(self) -> None:
        """Refuse new connections, let what is in progress end."""
        await self._balancer.stop()

    def _pools(self, instances: Sequence[Instance]) -> list[Pool]:
        groups = [group for group in self._fleet.groups.values() if group.balanced]
        entry = "gateway" if any(group.role == "gateway" for group in groups) else ""
        found: list[Pool] = []
        for group in groups:
            paths = ("/",) if group.name in {"web", "gateway"} else tuple(self._paths.get(group.name, ()))
            if entry and group.name != entry:
                paths = ()
            members = sorted((i for i in instances if i.group == group.name), key=lambda i: i.number)
            tls_name = self._trust.tls_name(group.name)
            found.append(Pool(group.name, tuple(_upstream(i) for i in members), paths, tls_name))
        return found

    def _internal(self) -> list[Listener]:
        inner = self._trust.inner
        tls = None if inner is None else Tls(inner.certificate, inner.key, inner.ca)
        return [
            Listener(group.name, HOST, group.calls_port, tls, http2=False, pool=group.name, internal=True)
            for group in self._fleet.groups.values()
            if group.calls_port
        ]


def _addresses(settings: Settings) -> list[_Address]:
    said = settings.balancer
    found = [(said.host, said.port, "balancer.port")]
    return found + (
        [(said.host, said.redirect_port, "balancer.redirect_port")] if said.redirect_port is not None else []
    )


def _upstream(instance: Instance) -> Upstream:
    return Upstream(instance.name, HOST, instance.port, instance.ops_port)
