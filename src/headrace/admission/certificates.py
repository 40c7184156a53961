"""Certificates of an installation's own servers on a cluster: an authority, and what it signs. Pure but for randomness.

Texts in, texts out (PEM), because they live in Secrets. Nothing here decides when anything is renewed: `rotation` does.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_SKEW = dt.timedelta(minutes=5)
"""Clocks differ; a certificate is good a little before it was made."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, PEM."""

    certificate: str
    key: str


@dataclass(frozen=True)
class Seen:
    """What a certificate says of itself. `made` is when it was made, not the earlier moment it is good from."""

    made: dt.datetime
    ends: dt.datetime
    hosts: frozenset[str] = frozenset()


def make_authority(name: str, now: dt.datetime, lasts: dt.timedelta) -> Pair:
    """Return a new authority. Each has a name of its own, so that a client who trusts two is never confused."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}-{serial & 0xFFFFFFFF:08x}")])
    builder = (
        _builder(subject, subject, key.public_key(), now, now + lasts)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
    )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def issue(authority: Pair, hosts: Sequence[str], now: dt.datetime, lasts: dt.timedelta) -> Pair:
    """Return a server certificate for `hosts` (DNS names and addresses), no longer good than its authority."""
    signer, signing_key = _loaded(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    builder = (
        _builder(subject, signer.subject, key.public_key(), now, min(now + lasts, signer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
    )
    return _pair(builder.sign(signing_key, hashes.SHA256()), key)


def seen(certificate: str) -> Seen | None:
    """Return what a certificate says; None for what is no certificate."""
    try:
        found = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError:
        return None
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        hosts: frozenset[str] = frozenset()
    else:
        hosts = frozenset(str(name.value) for name in names)
    return Seen(found.not_valid_before_utc + _SKEW, found.not_valid_after_utc, hosts)


def is_whole(pair: Pair | None) -> bool:
    """Tell whether certificate and key can be read and belong together."""
    if pair is None:
        return False
    try:
        certificate, key = _loaded(pair)
    except (ValueError, TypeError):
        return False
    return certificate.public_key() == key.public_key()


def is_signed_by(certificate: str, authority: str) -> bool:
    """Tell whether a certificate was signed by an authority's."""
    try:
        issued, signer = (x509.load_pem_x509_certificate(text.encode()) for text in (certificate, authority))
        issued.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def common_name(certificate: bytes) -> str:
    """Return the common name of a DER certificate; empty when it has none."""
    names = x509.load_der_x509_certificate(certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _loaded(pair: Pair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = x509.load_pem_x509_certificate(pair.certificate.encode())
    key = serialization.load_pem_private_key(pair.key.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not an elliptic curve key")
    return certificate, key


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, ends: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
