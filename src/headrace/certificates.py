"""X.509 for our own servers: an authority, and what it signs. Where certificates are kept is their owners' concern.

Nothing here decides when one is renewed: the engine keeps its own in files (`engine.pki`), an installation on a cluster
in Secrets (`admission.rotation`).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SKEW = dt.timedelta(minutes=5)
"""Clocks differ; a certificate is good a little before it was made."""


class KeyPair(NamedTuple):
    """A certificate and the private key that belongs to it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)


def load_pair(certificate: bytes, key: bytes) -> KeyPair:
    """Return the pair in two PEM texts; raises ValueError for what is none, or does not belong together."""
    found = x509.load_pem_x509_certificate(certificate)
    private = serialization.load_pem_private_key(key, password=None)
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != found.public_key():
        raise ValueError("the key does not belong to the certificate")
    return KeyPair(found, private)


def make_authority(name: str, now: dt.datetime, lasts: dt.timedelta) -> KeyPair:
    """Return a new authority. Each has a name of its own, so that a client who trusts two is never confused."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = subject_of(f"{name}-{x509.random_serial_number() & 0xFFFFFFFF:08x}")
    builder = (
        _builder(subject, subject, key.public_key(), now, now + lasts)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
    )
    return KeyPair(builder.sign(key, hashes.SHA256()), key)


def sign(
    authority: KeyPair,
    subject: x509.Name,
    usage: x509.ObjectIdentifier,
    alternatives: x509.SubjectAlternativeName | None,
    now: dt.datetime,
    lasts: dt.timedelta,
) -> KeyPair:
    """Return a new key with a certificate by `authority`, no longer good than its authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = authority.certificate
    builder = (
        _builder(subject, signer.subject, key.public_key(), now, min(now + lasts, signer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if alternatives is not None:
        builder = builder.add_extension(alternatives, critical=False)
    return KeyPair(builder.sign(authority.key, hashes.SHA256()), key)


class Request(NamedTuple):
    """What a certificate signing request asks for, whoever sent it.

    Args:
        others: alternative names that are neither DNS names nor addresses, such as mail addresses and URIs.
    """

    common_name: str
    organisations: tuple[str, ...]
    dns_names: tuple[str, ...]
    addresses: tuple[str, ...]
    others: tuple[str, ...]


def request_for(key: ec.EllipticCurvePrivateKey, subject: x509.Name, hosts: Iterable[str] = ()) -> bytes:
    """Return the PEM text of a request (PKCS #10) for `subject`, naming `hosts`: addresses and DNS names."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    names = list(hosts)
    if names:
        builder = builder.add_extension(names_of(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def read_request(pem: bytes) -> Request:
    """Read a PEM request; raises ValueError for what is none, or is not signed by the key that it names."""
    found = x509.load_pem_x509_csr(pem)
    if not found.is_signature_valid:
        raise ValueError("the request is not signed by its own key")
    try:
        names = list(found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    return Request(
        common_name=_only_text(found.subject, NameOID.COMMON_NAME),
        organisations=tuple(
            str(each.value) for each in found.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        ),
        dns_names=tuple(each.value for each in names if isinstance(each, x509.DNSName)),
        addresses=tuple(str(each.value) for each in names if isinstance(each, x509.IPAddress)),
        others=tuple(str(each.value) for each in names if not isinstance(each, x509.DNSName | x509.IPAddress)),
    )


def make_key() -> ec.EllipticCurvePrivateKey:
    """Return a new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM text, which nothing protects."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _only_text(subject: x509.Name, oid: x509.ObjectIdentifier) -> str:
    """Return an attribute that is there once; empty where it is missing, ValueError where it is there twice."""
    found = [str(each.value) for each in subject.get_attributes_for_oid(oid)]
    if len(found) > 1:
        raise ValueError(f"the subject has {oid._name} {len(found)} times")
    return found[0] if found else ""


def is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Tell whether `authority` signed a certificate itself."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def subject_of(common_name: str, organisations: Iterable[str] = ()) -> x509.Name:
    """Return a subject; Kubernetes reads a user in the common name and groups in organisations."""
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in organisations]
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def names_of(hosts: Iterable[str]) -> x509.SubjectAlternativeName:
    """Return the extension that names servers: addresses and DNS names."""
    return x509.SubjectAlternativeName([_general_name(host) for host in hosts])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, ends: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs: bool) -> x509.KeyUsage:
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
