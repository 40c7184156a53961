"""The engine's own certificate authority and the few certificates it signs.

One directory holds the authority and one `<name>.crt` and `<name>.key` for each certificate. Everything here is
idempotent: what is there and still good is used again, so a restart changes nothing; what is about to expire, was
signed by another authority, or names other hosts or another subject is made anew. Two processes may open the same
directory. A server reads its certificate when it starts; certificates are renewed 60 days before they end.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from headrace.clock import Clock
from headrace.engine.keyfiles import private_directory, write_private

E = TypeVar("E", bound=x509.ExtensionType)

AUTHORITY_VALID = dt.timedelta(days=3650)
CERTIFICATE_VALID = dt.timedelta(days=365)
RENEW_BEFORE = dt.timedelta(days=60)
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CLOCK_SKEW = dt.timedelta(minutes=5)


class Certificate(NamedTuple):
    """Where a PEM certificate and its PEM private key lie."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a directory. Make it with `Authority.open`."""

    def __init__(self, directory: Path, clock: Clock, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey):
        self._directory = directory
        self._clock = clock
        self._certificate = certificate
        self._key = key

    @classmethod
    def open(cls, directory: Path, clock: Clock) -> Authority:
        """Return the authority in `directory`, making it when there is none or it soon ends. Idempotent."""
        with private_directory(directory):
            loaded = _load(directory, "ca")
            if loaded is None or _ends_soon(loaded[0], clock.now(), CERTIFICATE_VALID):
                loaded = _make_authority(clock.now())
                _save(directory, "ca", *loaded)
        return cls(directory, clock, *loaded)

    @property
    def certificate(self) -> Path:
        """The PEM file that clients trust (`certificate-authority` of a kubeconfig)."""
        return self._directory / "ca.crt"

    @property
    def pem(self) -> str:
        """The text of `certificate`, as the ConfigMap `kube-root-ca.crt` holds it."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def server(self, name: str, hosts: Sequence[str] = LOOPBACK) -> Certificate:
        """Return a server certificate for `hosts` (addresses and DNS names), kept under `name`. Idempotent."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        alternatives = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        return self._ensure(name, subject, ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def client(self, name: str, *, user: str, groups: Sequence[str] = ()) -> Certificate:
        """Return a client certificate for `user` in `groups` (CN and O, as Kubernetes reads them). Idempotent."""
        organisations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*organisations, x509.NameAttribute(NameOID.COMMON_NAME, user)])
        return self._ensure(name, subject, ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def _ensure(
        self,
        name: str,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None,
    ) -> Certificate:
        with private_directory(self._directory):
            loaded = _load(self._directory, name)
            if loaded is None or not self._is_still_good(loaded[0], subject, usage, alternatives):
                _save(self._directory, name, *self._sign(subject, usage, alternatives))
        return Certificate(self._directory / f"{name}.crt", self._directory / f"{name}.key")

    def _is_still_good(
        self,
        found: x509.Certificate,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None,
    ) -> bool:
        try:
            found.verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return (
            found.subject == subject
            and list(_extension(found, x509.ExtendedKeyUsage) or ()) == [usage]
            and _extension(found, x509.SubjectAlternativeName) == alternatives
            and not _ends_soon(found, self._clock.now(), RENEW_BEFORE)
        )

    def _sign(
        self, subject: x509.Name, usage: x509.ObjectIdentifier, alternatives: x509.SubjectAlternativeName | None
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        end = min(self._clock.now() + CERTIFICATE_VALID, self._certificate.not_valid_after_utc)
        builder = (
            _builder(subject, self._certificate.subject, key.public_key(), self._clock.now(), end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self._key, hashes.SHA256()), key


def _make_authority(now: dt.datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    # Two installations' authorities differ in name too, so that a client that trusts both is never confused.
    serial = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"headrace-ca-{serial & 0xFFFFFFFF:08x}")])
    builder = (
        _builder(name, name, key.public_key(), now, now + AUTHORITY_VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True), critical=True)
    )
    return builder.sign(key, hashes.SHA256()), key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _extension(certificate: x509.Certificate, of: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(of).value
    except x509.ExtensionNotFound:
        return None


def _ends_soon(certificate: x509.Certificate, now: dt.datetime, margin: dt.timedelta) -> bool:
    return certificate.not_valid_after_utc - now < margin


def _load(directory: Path, name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
    """Return certificate and key kept under `name`; None when missing, unreadable as PEM, or not a pair."""
    try:
        certificate = x509.load_pem_x509_certificate((directory / f"{name}.crt").read_bytes())
        key = serialization.load_pem_private_key((directory / f"{name}.key").read_bytes(), password=None)
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        return None
    return certificate, key


def _save(directory: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    # A crash between the two writes leaves a pair that does not match, which `_load` takes for missing.
    write_private(
        directory / f"{name}.key",
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    write_private(directory / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))
