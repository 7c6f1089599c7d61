"""Certificates for tests, made by an authority of their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from tenfold.runtime.balance import Tls


class Authority:
    """Signs certificates that are valid from a day before ``now`` on, and keeps them in ``folder``."""

    def __init__(self, folder: Path, now: float) -> None:
        self.folder = folder
        self.begins = datetime.fromtimestamp(now, UTC) - timedelta(days=1)
        self._now = datetime.fromtimestamp(now, UTC)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign(_name("Test authority"), self._key.public_key(), 3650, ca=True)
        self.pem = self._certificate.public_bytes(Encoding.PEM)
        self.path = folder / "authority.pem"
        self.path.write_bytes(self.pem)

    def issue(self, *names: str, days: int = 90, password: bytes = b"") -> Tls:
        """A certificate for ``names``, followed by the authority's, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [_alternative(name) for name in names]
        certificate = self._sign(_name(names[0]), key.public_key(), days, alternatives)
        at = self.folder / names[0].replace("*", "star")
        at.with_suffix(".crt").write_bytes(certificate.public_bytes(Encoding.PEM) + self.pem)
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        at.with_suffix(".secret").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        )
        return Tls(str(at.with_suffix(".crt")), str(at.with_suffix(".secret")))

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        days: int,
        names: list[x509.GeneralName] | None = None,
        ca: bool = False,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(_name("Test authority"))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.begins)
            .not_valid_after(self._now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
