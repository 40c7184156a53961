"""The engine's own certificate authority and the few certificates it signs.

One directory holds the authority and one `<name>.crt` and `<name>.key` for each certificate. Everything here is
idempotent: what is there and still good is used again, so a restart changes nothing; what is about to expire, was
signed by another authority, or names other hosts or another subject is made anew. Two processes may open the same
directory. A server reads its certificate when it starts; certificates are renewed 60 days before they end.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from headrace.certificates import KeyPair, is_signed_by, load_pair, make_authority, names_of, sign, subject_of
from headrace.clock import Clock
from headrace.keyfiles import private_directory, write_private

E = TypeVar("E", bound=x509.ExtensionType)

AUTHORITY_VALID = dt.timedelta(days=3650)
CERTIFICATE_VALID = dt.timedelta(days=365)
RENEW_BEFORE = dt.timedelta(days=60)
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Certificate(NamedTuple):
    """Where a PEM certificate and its PEM private key lie."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a directory. Make it with `Authority.open`."""

    def __init__(self, directory: Path, clock: Clock, pair: KeyPair) -> None:
        self._directory = directory
        self._clock = clock
        self._pair = pair

    @classmethod
    def open(cls, directory: Path, clock: Clock) -> Authority:
        """Return the authority in `directory`, making it when there is none or it soon ends. Idempotent."""
        with private_directory(directory):
            loaded = _load(directory, "ca")
            if loaded is None or _ends_soon(loaded.certificate, clock.now(), CERTIFICATE_VALID):
                loaded = make_authority("headrace-ca", clock.now(), AUTHORITY_VALID)
                _save(directory, "ca", loaded)
        return cls(directory, clock, loaded)

    @property
    def certificate(self) -> Path:
        """The PEM file that clients trust (`certificate-authority` of a kubeconfig)."""
        return self._directory / "ca.crt"

    @property
    def signer(self) -> Certificate:
        """The authority's own files, for a program that signs with it."""
        return Certificate(self._directory / "ca.crt", self._directory / "ca.key")

    @property
    def pem(self) -> str:
        """The text of `certificate`, as the ConfigMap `kube-root-ca.crt` holds it."""
        return self._pair.certificate_pem.decode()

    def server(self, name: str, hosts: Sequence[str] = LOOPBACK) -> Certificate:
        """Return a server certificate for `hosts` (addresses and DNS names), kept under `name`. Idempotent."""
        return self._ensure(name, subject_of(name), ExtendedKeyUsageOID.SERVER_AUTH, names_of(hosts))

    def client(self, name: str, *, user: str, groups: Sequence[str] = ()) -> Certificate:
        """Return a client certificate for `user` in `groups` (CN and O, as Kubernetes reads them). Idempotent."""
        return self._ensure(name, subject_of(user, groups), ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def _ensure(
        self,
        name: str,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None,
    ) -> Certificate:
        with private_directory(self._directory):
            loaded = _load(self._directory, name)
            if loaded is None or not self._is_still_good(loaded.certificate, subject, usage, alternatives):
                now = self._clock.now()
                _save(self._directory, name, sign(self._pair, subject, usage, alternatives, now, CERTIFICATE_VALID))
        return Certificate(self._directory / f"{name}.crt", self._directory / f"{name}.key")

    def _is_still_good(
        self,
        found: x509.Certificate,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None,
    ) -> bool:
        return (
            is_signed_by(found, self._pair.certificate)
            and found.subject == subject
            and list(_extension(found, x509.ExtendedKeyUsage) or ()) == [usage]
            and _extension(found, x509.SubjectAlternativeName) == alternatives
            and not _ends_soon(found, self._clock.now(), RENEW_BEFORE)
        )


def _extension(certificate: x509.Certificate, of: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(of).value
    except x509.ExtensionNotFound:
        return None


def _ends_soon(certificate: x509.Certificate, now: dt.datetime, margin: dt.timedelta) -> bool:
    return certificate.not_valid_after_utc - now < margin


def _load(directory: Path, name: str) -> KeyPair | None:
    """Return certificate and key kept under `name`; None when missing, unreadable as PEM, or not a pair."""
    try:
        return load_pair((directory / f"{name}.crt").read_bytes(), (directory / f"{name}.key").read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _save(directory: Path, name: str, pair: KeyPair) -> None:
    # A crash between the two writes leaves a pair that does not match, which `_load` takes for missing.
    write_private(directory / f"{name}.key", pair.key_pem)
    write_private(directory / f"{name}.crt", pair.certificate_pem)
