"""Certificates of an installation's own servers on a cluster: an authority, and what it signs. Pure but for randomness.

Texts in, texts out (PEM), because they live in Secrets. Nothing here decides when anything is renewed: `rotation` does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from headrace import certificates
from headrace.certificates import KeyPair, load_pair


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
    return _texts(certificates.make_authority(name, now, lasts))


def issue(authority: Pair, hosts: Sequence[str], now: dt.datetime, lasts: dt.timedelta) -> Pair:
    """Return a server certificate for `hosts` (DNS names and addresses), no longer good than its authority."""
    subject, names = certificates.subject_of(hosts[0][:64]), certificates.names_of(hosts)
    usage = ExtendedKeyUsageOID.SERVER_AUTH
    return _texts(certificates.sign(_loaded(authority), subject, usage, names, now, lasts))


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
    return Seen(found.not_valid_before_utc + certificates.SKEW, found.not_valid_after_utc, hosts)


def is_whole(pair: Pair | None) -> bool:
    """Tell whether certificate and key can be read and belong together."""
    if pair is None:
        return False
    try:
        _loaded(pair)
    except (ValueError, TypeError):
        return False
    return True


def is_signed_by(certificate: str, authority: str) -> bool:
    """Tell whether a certificate was signed by an authority's."""
    try:
        issued, signer = (x509.load_pem_x509_certificate(text.encode()) for text in (certificate, authority))
    except ValueError:
        return False
    return certificates.is_signed_by(issued, signer)


def common_name(certificate: bytes) -> str:
    """Return the common name of a DER certificate; empty when it has none."""
    names = x509.load_der_x509_certificate(certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _loaded(pair: Pair) -> KeyPair:
    return load_pair(pair.certificate.encode(), pair.key.encode())


def _texts(pair: KeyPair) -> Pair:
    return Pair(pair.certificate_pem.decode(), pair.key_pem.decode())
