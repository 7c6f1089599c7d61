"""Is this certificate any good? Asked before a balancer is, since its answer would be a line of OpenSSL."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from tenfold.errors import ConfigError
from tenfold.runtime.balance.model import Tls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

log = logging.getLogger("tenfold.balancer")

WARN_DAYS = 14
"""A certificate that ends within so many days is named in the log."""

CERTIFICATE, KEY, CLIENT_CA = "balancer.tls_certificate", "balancer.tls_key", "balancer.tls_client_ca"


def check_tls(tls: Tls, names: Sequence[str], now: float) -> None:
    """Raise :class:`ConfigError` when the files cannot serve clients that ask for ``names`` at ``now``.

    Looked at: whether they can be read, the time of each certificate of the chain, the order of the chain, whether the key
    belongs to the first one, and the names it is valid for. Whom the clients trust is not known here.
    """
    chain = _certificates(tls.certificate, CERTIFICATE)
    at = datetime.fromtimestamp(now, UTC)
    for each in chain:
        _check_time(each, at, tls.certificate)
    for lower, upper in pairwise(chain):
        if lower.issuer != upper.subject:
            raise ConfigError(
                f"{tls.certificate} does not hold a chain: {_subject(upper)} did not sign {_subject(lower)}.",
                where=CERTIFICATE,
                remedy="Put the server's certificate first, and each one's signer behind it.",
            )
    _check_key(chain[0], _key(tls.key), tls)
    for name in names:
        _check_name(chain[0], name)
    if tls.client_ca:
        for each in _certificates(tls.client_ca, CLIENT_CA):
            _check_time(each, at, tls.client_ca, CLIENT_CA)


def _certificates(path: str, where: str) -> list[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(_read(path, where))
    except ValueError:
        raise ConfigError(
            f"{path} holds no certificate in PEM.",
            where=where,
            remedy="It has to have a line -----BEGIN CERTIFICATE-----.",
        ) from None


def _key(path: str) -> PrivateKeyTypes:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(_read(path, KEY), password=None)
    except TypeError:
        raise ConfigError(
            f"{path} is encrypted with a password.",
            where=KEY,
            remedy=f"Decrypt it: openssl pkey -in {path} -out decrypted.pem, readable by its owner only.",
        ) from None
    except ValueError:
        raise ConfigError(
            f"{path} holds no private key in PEM.",
            where=KEY,
            remedy="It has to have a line -----BEGIN PRIVATE KEY-----.",
        ) from None


def _read(path: str, where: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.", where=where) from None


def _check_time(certificate: Certificate, now: datetime, path: str, where: str = CERTIFICATE) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if ends <= now:
        raise ConfigError(
            f"the certificate of {_subject(certificate)} in {path} expired on {ends:%Y-%m-%d %H:%M} UTC.",
            where=where,
            remedy="Renew it, and put the new one there.",
        )
    if begins > now:
        raise ConfigError(
            f"the certificate of {_subject(certificate)} in {path} is not valid before {begins:%Y-%m-%d %H:%M} UTC.",
            where=where,
            remedy="Use an older one, or set this machine's clock right.",
        )
    left = (ends - now).days
    if left < WARN_DAYS:
        log.warning("the certificate of %s in %s expires in %d days", _subject(certificate), path, left)


def _check_key(certificate: Certificate, key: PrivateKeyTypes, tls: Tls) -> None:
    if certificate.public_key() != key.public_key():
        raise ConfigError(
            f"the key in {tls.key} is not the one of the certificate of {_subject(certificate)} in {tls.certificate}.",
            where=KEY,
            remedy="Put the key there that the certificate was asked for with; of a chain, the server's comes first.",
        )


def _check_name(certificate: Certificate, name: str) -> None:
    valid_for = names_of(certificate)
    if not any(matches(pattern, name) for pattern in valid_for):
        raise ConfigError(
            f"the certificate is not valid for {name}, but for {', '.join(valid_for) or 'no name at all'}.",
            where=CERTIFICATE,
            remedy=f"Get one for {name}, or take that name out of balancer.names.",
        )


def names_of(certificate: Certificate) -> list[str]:
    """Names and addresses that it is valid for (its subjectAltName; the common name counts no more, RFC 9525)."""
    from cryptography.x509 import DNSName, ExtensionNotFound, IPAddress, SubjectAlternativeName

    try:
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        return []
    return [*names.get_values_for_type(DNSName), *map(str, names.get_values_for_type(IPAddress))]


def matches(pattern: str, name: str) -> bool:
    """Whether a certificate for ``pattern`` is one for ``name``. A star stands for one label (RFC 9525, 6.3)."""
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    if pattern.startswith("*."):
        label, _, rest = name.partition(".")
        return bool(label) and rest == pattern[2:]
    return pattern == name


def _subject(certificate: Certificate) -> str:
    from cryptography.x509.oid import NameOID

    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else certificate.subject.rfc4514_string() or "nobody"
