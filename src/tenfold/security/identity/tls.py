"""Mutual TLS between services: contexts for our servers and our clients, whose files change without a restart.

Each side shows its certificate and asks for the other's, which an authority of ``public/ca.pem`` must have signed and
which must name a service of the same trust domain; a client also says which one it wants. Names in the network (DNS,
addresses) prove nothing and are not looked at. Files are looked at again every ``LOOK_S`` seconds, when somebody
connects; connections that are open stay as they are. What cannot be used is reported, and what was there before goes
on being used.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenfold._core.clock import Clock
from tenfold.errors import ConfigError
from tenfold.security.identity import certificates, files
from tenfold.security.identity.certificates import CA, CERTIFICATE, KEY, Certificate
from tenfold.security.identity.keys import LOOK_S, PUBLIC
from tenfold.security.identity.names import ServiceName, parse

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("tenfold.identity")

SOON_S = 3 * certificates.DAY_S
"""From so long before its end on, a certificate is complained of."""


class Material:
    """The certificate, key and authorities of one service, for as many contexts as are wanted.

    Raises ConfigError at once for what is missing, expired, of another service, or readable by others.
    """

    def __init__(self, folder: Path, name: ServiceName, clock: Clock) -> None:
        self.name = name
        self._folder, self._clock = folder, clock
        self.changes = 0
        """Grows when the files were read again."""
        self._stamp = self._stamped()
        self._looked_at = clock.monotonic()
        self.certificate: Certificate = certificates.check(folder, name, clock.now())
        self._warned = False

    def look(self) -> None:
        """Heed changed files. Blocks for as long as a few small files take, every two seconds at most."""
        now = self._clock.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        self._warn()
        stamp = self._stamped()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.certificate = certificates.check(self._folder, self.name, self._clock.now())
            self.changes, self._warned = self.changes + 1, False
        except ConfigError as error:
            log.warning("the certificate has changed and cannot be used; the one from before is. %s", error)

    def load(self, context: ssl.SSLContext) -> None:
        """Put certificate, key and authorities into a context. Raises ConfigError."""
        home = self._folder / self.name.service
        try:
            context.load_cert_chain(home / CERTIFICATE, home / KEY)
            context.load_verify_locations(self._folder / PUBLIC / CA)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"TLS cannot use it: {error}.", where=str(home / CERTIFICATE)) from None

    def left_s(self) -> float:
        """Until the certificate expires; negative when it has."""
        return self.certificate.not_after - self._clock.now()

    def _warn(self) -> None:
        left_s = self.left_s()
        if left_s > SOON_S or self._warned:
            return
        self._warned = True
        when = (
            f"expires in {left_s / 3600:.0f} hours" if left_s > 0 else "has expired: nobody takes it any more"
        )
        log.warning(
            "the certificate of %s %s. Run: tenfold identity issue %s --tls",
            self.name,
            when,
            self.name.service,
        )

    def _stamped(self) -> files.Stamp:
        return files.stamp(self._folder / self.name.service, self._folder / PUBLIC)


def server_context(material: Material) -> ssl.SSLContext:
    """For a listener: takes connections of services of the trust domain only. It stays the same object; each new
    connection gets what the files hold."""
    holder = _Current(material, lambda: _context(ssl.PROTOCOL_TLS_SERVER, material, None))
    front = _context(ssl.PROTOCOL_TLS_SERVER, material, None)

    def choose(connection: ssl.SSLObject, _host: str | None, _context: ssl.SSLContext) -> None:
        connection.context = holder.now()  # who is trusted is asked of the context, so this changes it, too

    front.sni_callback = choose
    return front


def client_context(material: Material, callee: ServiceName) -> ssl.SSLContext:
    """To call ``callee`` with: the connection ends before a byte is sent when anybody else answers. It stays the same
    object; each new connection gets what the files hold."""
    context = _Following(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.follow(_Current(material, lambda: _context(ssl.PROTOCOL_TLS_CLIENT, material, callee)))
    return context


def peer_of(connection: ssl.SSLObject | ssl.SSLSocket | None) -> ServiceName | None:
    """The service at the other end of a TLS connection; None where it has shown no certificate of one."""
    return _name_in((connection.getpeercert() or {}) if connection is not None else {})


class _Current:
    """A context made of what the files hold now; the former one where that cannot be used."""

    def __init__(self, material: Material, make: Callable[[], ssl.SSLContext]) -> None:
        self._material, self._make = material, make
        self._changes = material.changes
        self._context = make()

    def now(self) -> ssl.SSLContext:
        self._material.look()
        if self._changes != self._material.changes:
            self._changes = self._material.changes
            try:
                self._context = self._make()
            except ConfigError as error:  # the files have changed once more since they were checked
                log.warning("the certificate cannot be used; the one from before is. %s", error)
        return self._context


class _Following(ssl.SSLContext):
    """Every connection is made by the context that a :class:`_Current` has. (Servers have a callback for it, clients
    have not.)"""

    _current: _Current
    _protocols: list[str] | None = None

    def follow(self, current: _Current) -> None:
        self._current = current

    def set_alpn_protocols(self, alpn_protocols: Any) -> None:
        self._protocols = list(alpn_protocols)

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        context = self._current.now()
        if self._protocols is not None:
            context.set_alpn_protocols(self._protocols)
        return context.wrap_bio(*args, **options)


def _context(protocol: int, material: Material, wanted: ServiceName | None) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        # Each connection shows its certificate anew: one that was believed yesterday has no ticket to today.
        context.num_tickets = 0
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.sslobject_class = _judging(material.name.domain, wanted)
    material.load(context)
    return context


def _judging(domain: str, wanted: ServiceName | None) -> type[ssl.SSLObject]:
    """Connections that end with the handshake when the other end is not who it has to be: ``wanted``, or any service
    of the domain. OpenSSL has verified the certificate by then, but knows nothing of SPIFFE."""

    class Judged(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            found = _name_in(self.getpeercert() or {})
            if found is None or (found != wanted if wanted is not None else found.domain != domain):
                shown = str(found) if found is not None else "nobody: its certificate has no SPIFFE name"
                expected = str(wanted) if wanted is not None else f"a service of {domain}"
                raise ssl.SSLCertVerificationError(f"the other end is {shown}, and not {expected}.")

    return Judged


def _name_in(certificate: dict[str, Any]) -> ServiceName | None:
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    return parse(uris[0]) if len(uris) == 1 else None
