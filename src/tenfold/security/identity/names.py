"""Names of services, as SPIFFE writes them: ``spiffe://<trust domain>/service/<name>``.

The rules are those of the SPIFFE ID specification (https://spiffe.io/docs/latest/spiffe-specs/spiffe-id/, § 2), so
that certificates which carry such a name are understood by whoever knows the format. There is one form of each name:
nothing is decoded, lower-cased or trimmed, because two names that look alike to one side and not to the other are an
attack.
"""

from __future__ import annotations

import re

from msgspec import Struct

from tenfold.errors import ConfigError

BALANCER = "balancer"
"""What stands in front of services, takes connections for them, and tells them whose certificate it was shown."""
GATEWAY = "gateway"
"""The role that passes on what comes from outside."""
IN_FRONT = (BALANCER, GATEWAY)
"""No services, but they connect to services by certificates of their own."""

SHOWN = "tenfold.certificate"
"""Key of a request's scope: the :class:`ServiceName` of the certificate that its connection has shown, where it is TLS."""

NAME_BYTES_MAX = 2048
DOMAIN_BYTES_MAX = 255

_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SERVICE = re.compile(r"[a-z][a-z0-9_-]*")
_HEAD, _MIDDLE = "spiffe://", "/service/"


class ServiceName(Struct, frozen=True, order=True):
    """One service of one trust domain. ``str()`` is its URI; make one by :func:`service_name` or :func:`parse`,
    which check it."""

    domain: str
    service: str

    @property
    def host(self) -> str:
        """The name for who looks at names in the DNS only, as balancers do. No name server knows it."""
        return f"{self.service}.{self.domain}.internal"

    def __str__(self) -> str:
        return f"{_HEAD}{self.domain}{_MIDDLE}{self.service}"


def service_name(domain: str, service: str) -> ServiceName:
    """The name of ``service`` in a trust domain. Raises ConfigError for what cannot be part of one."""
    if not _DOMAIN.fullmatch(domain):
        raise ConfigError(
            f"{domain!r} cannot be a trust domain.",
            where="identity.trust_domain",
            remedy=f"Use up to {DOMAIN_BYTES_MAX} lower-case letters, digits, '.', '-' and '_'.",
        )
    if not _SERVICE.fullmatch(service) or len(_HEAD + domain + _MIDDLE + service) > NAME_BYTES_MAX:
        raise ConfigError(
            f"{service!r} cannot be the name of a service.",
            remedy="Use lower-case letters, digits, '-' and '_', beginning with a letter.",
        )
    return ServiceName(domain, service)


def parse(text: str) -> ServiceName | None:
    """The service that a URI names; None for any other text."""
    if len(text) > NAME_BYTES_MAX or not text.startswith(_HEAD):
        return None
    domain, middle, service = text[len(_HEAD) :].partition(_MIDDLE)
    if not middle or not _DOMAIN.fullmatch(domain) or not _SERVICE.fullmatch(service):
        return None
    return ServiceName(domain, service)
