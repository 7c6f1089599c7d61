"""The identity of one process: of every service that it serves, to everybody that it calls or is called by."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tenfold._core.clock import Clock
from tenfold._core.sections import IdentitySettings
from tenfold.errors import CallRefused, ConfigError, InvalidToken
from tenfold.security.identity.keys import PUBLIC, Keys
from tenfold.security.identity.names import ServiceName, service_name
from tenfold.security.identity.tokens import ServiceTokens

if TYPE_CHECKING:
    from tenfold.security.identity.edges import Edges
    from tenfold.security.identity.tls import Material


class Identity:
    """A part: reads keys and certificates at :meth:`start`, which raises ConfigError for those that are missing or bad.

    ``served`` are the services of this process, which sign with their keys; ``shown`` is who shows a certificate where
    ``[identity] tls`` is on: one of them, the gateway, or nobody in a process that connects to none and takes no
    connections. ``folder`` is the one of ``[identity] folder``, ``domain`` what stands for ``[identity] trust_domain``
    where that is empty.
    """

    def __init__(
        self,
        settings: IdentitySettings,
        folder: Path,
        domain: str,
        served: Sequence[str],
        shown: Sequence[str],
        edges: Edges,
        clock: Clock,
    ) -> None:
        self._settings, self._folder, self._clock, self._edges = settings, folder, clock, edges
        domain = settings.trust_domain or domain
        self._names = {service: service_name(domain, service) for service in served}
        self._shown = [service_name(domain, name) for name in shown] if settings.tls else []
        self._tokens: dict[str, ServiceTokens] = {}
        self._material: Material | None = None

    async def start(self) -> None:
        if len(self._shown) > 1:
            several = ", ".join(name.service for name in self._shown)
            raise ConfigError(
                f"a process of several services ({several}) has no one name to show in its certificate.",
                where="identity.tls",
                remedy="Serve one in each: tenfold run --service NAME",
            )
        for service, name in self._names.items():
            keys = Keys(self._folder, self._clock, service=service)
            keys.signing()  # there is one
            tokens = ServiceTokens(name, keys, self._clock, ttl_s=self._settings.token_ttl_s)
            self._try_out(tokens)
            self._tokens[service] = tokens
        for name in self._shown:
            # X.509 is a twentieth of the time of a start, and most processes show no certificate.
            from tenfold.security.identity.tls import Material

            self._material = Material(self._folder, name, self._clock)

    def _try_out(self, tokens: ServiceTokens) -> None:
        """Sign and verify once: what others would not believe is found now, and not by the first call; nor does that one
        wait until libraries are imported."""
        try:
            tokens.verify(tokens.issue(tokens.name))
        except InvalidToken as error:
            raise ConfigError(
                f"nobody would believe what {tokens.name.service} signs. {error}",
                where=str(self._folder / PUBLIC),
                remedy="Copy there what `tenfold identity` wrote into the public folder.",
            ) from None

    async def stop(self) -> None:
        self._tokens, self._material = {}, None

    def issue(self, caller: str, audience: str) -> str:
        """A token by which the service ``caller`` proves itself to the service ``audience``. Work of no service (a shell)
        and services that are not served here have none: ConfigError."""
        tokens = self._tokens.get(caller)
        if tokens is None:
            raise ConfigError(
                f"this process has no key of {caller or 'work that belongs to no service'}, so it cannot call {audience}.",
                where="identity.folder",
                remedy=f"It serves {', '.join(self._tokens) or 'nothing'}.",
            )
        return tokens.issue(audience)

    def admit(self, token: str, operation: str, shown: ServiceName | None) -> str:
        """The service that sends ``token`` with a call of ``operation``, over a connection that showed the certificate of
        ``shown``. Raises :class:`~tenfold.errors.InvalidToken` and :class:`~tenfold.errors.CallRefused`; deny by default."""
        callee = operation.partition(".")[0]
        tokens = self._tokens.get(callee) or next(iter(self._tokens.values()))
        caller = tokens.verify(token, ServiceName(tokens.name.domain, callee))
        if self._material is not None and shown != caller:
            raise CallRefused(
                f"The token is of {caller}, and the connection showed {_certificate_of(shown)}.",
                caller="" if shown is None else shown.service,
                operation=operation,
                reason="certificate",
            )
        self._edges.check(caller.service, operation)
        return caller.service

    def client_context(self, callee: str) -> ssl.SSLContext | None:
        """What to connect to who shows the certificate of ``callee``; None where ``[identity] tls`` is off."""
        material = self._material
        if material is None:
            return None
        from tenfold.security.identity.tls import client_context

        return client_context(material, service_name(material.name.domain, callee))

    def server_context(self) -> ssl.SSLContext | None:
        """What to take connections of services with; None where ``[identity] tls`` is off."""
        if self._material is None:
            return None
        from tenfold.security.identity.tls import server_context

        return server_context(self._material)

    def numbers(self) -> Mapping[str, float]:
        """For metrics: seconds until the certificate expires, and how often files were read again."""
        found: dict[str, float] = {
            "changes_total": sum(tokens.keys.changes for tokens in self._tokens.values())
        }
        if self._material is not None:
            found["certificate_left_seconds"] = self._material.left_s()
        return found


def _certificate_of(shown: ServiceName | None) -> str:
    return "no certificate of a service" if shown is None else f"the certificate of {shown}"
