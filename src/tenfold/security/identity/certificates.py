"""Certificates of services (X.509, RFC 5280) with their SPIFFE names, and the authority that signs them.

The authority is made by ``tenfold identity issue`` for one machine or a small fleet; its key stays in ``ca/``, which no
running service needs. Where another authority signs, put its certificates at ``public/ca.pem`` and each service's at
``<service>/certificate.pem`` and ``certificate.key``: what is asked of them is the same (the X.509-SVID of SPIFFE,
§ 2: one URI, which is the name).
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from tenfold.errors import ConfigError
from tenfold.security.identity import files
from tenfold.security.identity.keys import PUBLIC
from tenfold.security.identity.names import ServiceName, parse

AUTHORITY_DAYS = 1825
SERVICE_DAYS = 30
BACK_S = 60.0
"""Certificates begin so long before they are made, for clocks that are behind."""
DAY_S = 86_400.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")

CA, CERTIFICATE, KEY = "ca.pem", "certificate.pem", "certificate.key"


class Certificate(Struct, frozen=True):
    """What a certificate of a service says. Times are seconds since the epoch."""

    name: ServiceName | None
    not_before: float
    not_after: float
    serial: str


def issue(folder: Path, name: ServiceName, now: float, *, hosts: Sequence[str] = LOOPBACK) -> Certificate:
    """A new key and certificate for a service, good for 30 days, signed by the folder's authority, which is made when
    there is none. ``hosts`` are names and addresses under which clients that know nothing of SPIFFE reach it."""
    key, authority = _authority(folder, name.domain, now)
    own = ec.generate_private_key(ec.SECP256R1())
    made = _builder(name.service, authority.subject, own.public_key(), now, SERVICE_DAYS)
    made = made.add_extension(x509.SubjectAlternativeName(_names(name, hosts)), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    made = made.add_extension(_usage(signs_certificates=False), critical=True)
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    made = made.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    signed = made.add_extension(issuer, critical=False).sign(key, SHA256())
    home = folder / name.service
    files.make_folder(home, private=True)
    # One after the other: who reads in between finds a pair that does not belong together, keeps the former one, and
    # looks again.
    files.write(home / KEY, _private_pem(own), private=True)
    files.write(home / CERTIFICATE, signed.public_bytes(Encoding.PEM), private=False)
    return _described(signed)


def check(folder: Path, name: ServiceName, now: float) -> Certificate:
    """The certificate of a service, once it is good now, for this name, for its key, and signed by who is trusted.

    Raises ConfigError with what is wrong and what to do.
    """
    path = folder / name.service / CERTIFICATE
    remedy = f"Run: tenfold identity issue {name.service} --tls"
    if not path.exists():
        raise ConfigError(
            "there is no such file.",
            where=str(path),
            remedy=f"Make it by: tenfold identity issue {name.service} --tls",
        )
    found = read(path)
    said = _described(found)
    if said.not_after <= now:
        raise ConfigError(
            f"the certificate of {name} expired {_ago(now - said.not_after)} ago.",
            where=str(path),
            remedy=remedy,
        )
    if said.not_before > now:
        begins = _ago(said.not_before - now)
        raise ConfigError(
            f"the certificate of {name} is good from {begins} from now on.",
            where=str(path),
            remedy="Set this machine's clock right, or wait.",
        )
    if said.name != name:
        whose = str(said.name) if said.name is not None else "nobody: it has no SPIFFE name"
        raise ConfigError(
            f"the certificate is of {whose}, and this is {name}.", where=str(path), remedy=remedy
        )
    _check_key(folder / name.service / KEY, found, remedy)
    _check_issuer(folder / PUBLIC / CA, found, path)
    return said


def read(path: Path) -> x509.Certificate:
    """A file's first certificate. Raises ConfigError where there is none."""
    try:
        return x509.load_pem_x509_certificate(files.read_public(path))
    except ValueError:
        raise ConfigError("it does not hold a certificate (PEM).", where=str(path)) from None


@lru_cache(maxsize=256)
def told(text: str) -> ServiceName | None:
    """Whose certificate a balancer tells that it was shown: PEM, percent-encoded (NGINX), or DER in base64 (HAProxy).
    None for what is neither, or names no service. It was verified by the balancer, and is not here."""
    try:
        if text.startswith("-"):
            return _name_of(x509.load_pem_x509_certificate(unquote(text).encode()))
        return _name_of(x509.load_der_x509_certificate(base64.b64decode(text, validate=True)))
    except ValueError:
        return None


def known_by_host(folder: Path, name: ServiceName) -> bool:
    """Whether a service's certificate has the name that balancers look for: see :attr:`ServiceName.host`."""
    try:
        names = read(folder / name.service / CERTIFICATE).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return False
    return name.host in names.value.get_values_for_type(x509.DNSName)


def listed(folder: Path, service: str) -> Certificate | None:
    """What a service's certificate says, good or not; None where it has none."""
    path = folder / service / CERTIFICATE
    return _described(read(path)) if path.exists() else None


def _authority(folder: Path, domain: str, now: float) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_path, path = folder / "ca" / "ca.key", folder / PUBLIC / CA
    if path.exists() and not key_path.exists():
        raise ConfigError(
            "its key is not here, so nothing can be signed.",
            where=str(path),
            remedy=f"Issue where {key_path} is kept, and copy the service's folder here.",
        )
    if path.exists():
        key = load_pem_private_key(files.read_private(key_path), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key, read(path)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{domain} services"[:64])])
    made = _builder("", subject, key.public_key(), now, AUTHORITY_DAYS).subject_name(subject)
    made = made.add_extension(
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{domain}")]), critical=False
    )
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    signed = made.add_extension(_usage(signs_certificates=True), critical=True).sign(key, SHA256())
    files.make_folder(folder / "ca", private=True)
    files.make_folder(folder / PUBLIC, private=False)
    files.write(key_path, _private_pem(key), private=True)
    files.write(path, signed.public_bytes(Encoding.PEM), private=False)
    return key, signed


def _builder(
    common: str, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: float, days: int
) -> x509.CertificateBuilder:
    made = x509.CertificateBuilder().issuer_name(issuer).public_key(public)
    made = made.serial_number(x509.random_serial_number())
    made = made.not_valid_before(_time(now - BACK_S)).not_valid_after(_time(now + days * DAY_S))
    made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    if not common:
        return made
    return made.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])]))


def _names(name: ServiceName, hosts: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(name)), x509.DNSName(name.host)]
    for host in hosts:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            found.append(x509.DNSName(host))
    return found


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _check_key(path: Path, found: x509.Certificate, remedy: str) -> None:
    try:
        key = load_pem_private_key(files.read_private(path), None)
    except (ValueError, TypeError):
        raise ConfigError(
            "it does not hold a private key (PEM, without a passphrase).", where=str(path)
        ) from None
    if _public_bytes(key.public_key()) != _public_bytes(found.public_key()):
        raise ConfigError("the key is not that of the certificate beside it.", where=str(path), remedy=remedy)


def _check_issuer(trusted: Path, found: x509.Certificate, path: Path) -> None:
    try:
        authorities = x509.load_pem_x509_certificates(files.read_public(trusted))
    except ValueError:
        raise ConfigError("it does not hold certificates (PEM).", where=str(trusted)) from None
    for authority in authorities:
        try:
            found.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return
    raise ConfigError(
        f"the certificate was not signed by an authority in {trusted}, so no other service would believe it.",
        where=str(path),
        remedy="Issue it where that authority's key is, or add its issuer to that file.",
    )


def _described(found: x509.Certificate) -> Certificate:
    return Certificate(
        _name_of(found),
        found.not_valid_before_utc.timestamp(),
        found.not_valid_after_utc.timestamp(),
        f"{found.serial_number:x}",
    )


def _name_of(found: x509.Certificate) -> ServiceName | None:
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return parse(uris[0]) if len(uris) == 1 else None


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public_bytes(key: object) -> bytes:
    made: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return made


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _ago(seconds: float) -> str:
    return f"{seconds / DAY_S:.0f} days" if seconds > 2 * DAY_S else f"{seconds / 3600:.1f} hours"
