"""Whom a client certificate names, as Kubernetes reads it: the user in the common name, groups in organisations. Pure.

Source: Kubernetes documentation, "X.509 client certificates"; apiserver `authentication/request/x509`.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID

from headrace.cluster.access import Caller

AUTHENTICATED = "system:authenticated"
"""The group of everybody who is known, which is named in no certificate."""


def certificate_caller(certificate: bytes) -> Caller | None:
    """Return whom a certificate (DER) names, None when it names nobody. Whether it is good, TLS has found out."""
    subject = x509.load_der_x509_certificate(certificate).subject
    names = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    # Of several names the last one counts, as in Go, whose reading of a certificate is everybody's here.
    return Caller(name=names[-1], groups=(*groups, AUTHENTICATED)) if names and names[-1] else None
