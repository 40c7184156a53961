"""Asking for a certificate: what is sent, what is waited for, and what is said meanwhile."""

from __future__ import annotations

import base64
import datetime as dt
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from headrace.certificates import KeyPair, make_authority, make_key, read_request, sign
from headrace.cluster.fake import FakeCluster
from headrace.cluster.signing import (
    CERTIFICATE_SIGNING_REQUEST,
    Issued,
    Wanted,
    kubelet_client,
    kubelet_serving,
    obtain,
    why_waits,
)
from headrace.errors import Denied, EngineFailed

pytestmark = pytest.mark.anyio

NOW = dt.datetime(2026, 11, 29, tzinfo=dt.UTC)
WANTED = kubelet_serving("vm", ["10.0.0.7"], lasts_s=3600, approver="somebody")


def signed(wanted: Wanted, key: Any) -> str:
    """Return a certificate for `key`, as a signer puts it into the status."""
    authority: KeyPair = make_authority("ca", NOW, dt.timedelta(days=9))
    pattern = sign(authority, wanted.subject, ExtendedKeyUsageOID.SERVER_AUTH, None, NOW, dt.timedelta(days=1))
    found = pattern.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(found.subject)
        .issuer_name(found.issuer)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(found.not_valid_before_utc)
        .not_valid_after(found.not_valid_after_utc)
    )
    pem = builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return base64.b64encode(pem).decode()


async def outcome(status: Any) -> tuple[Any, list[str]]:
    """Ask, where the request has come to a state already; `status` may be made for the key."""
    cluster, key, said = FakeCluster(), make_key(), list[str]()
    found = status(key) if callable(status) else status
    cluster.seed(CERTIFICATE_SIGNING_REQUEST, {**WANTED.body(key), "status": found})
    return await obtain(cluster, WANTED, key, say=said.append), said


def approved(**more: Any) -> dict[str, Any]:
    return {"conditions": [{"type": "Approved", "status": "True"}], **more}


async def test_a_certificate_comes_with_its_key() -> None:
    issued, said = await outcome(lambda key: approved(certificate=signed(WANTED, key)))
    assert isinstance(issued, Issued)
    assert issued.certificate.startswith(b"-----BEGIN CERTIFICATE")
    assert b"PRIVATE KEY" in issued.key
    assert said[-1] == ""


async def test_a_denial_is_told_with_its_reason() -> None:
    with pytest.raises(Denied, match="was denied: Not yours"):
        await outcome({"conditions": [{"type": "Denied", "status": "True", "message": "Not yours."}]})


async def test_what_cannot_be_signed_is_told() -> None:
    failed = {"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": "bad usages"}
    with pytest.raises(EngineFailed, match="cannot be signed: bad usages"):
        await outcome({"conditions": [failed]})


async def test_a_certificate_of_another_key_is_refused() -> None:
    with pytest.raises(EngineFailed, match="does not belong"):
        await outcome(approved(certificate=signed(WANTED, make_key())))


def test_every_wait_has_a_reason() -> None:
    told = [
        why_waits(WANTED, "csr", is_approved=is_approved, waited_s=waited_s)
        for is_approved, waited_s in ((False, 0.1), (False, 5), (True, 5), (True, 60))
    ]
    assert told[0] == told[2] == ""
    assert "approved by somebody. By hand: kubectl certificate approve csr" in told[1]
    assert "nobody signs it" in told[3]
    assert "--cluster-signing-cert-file" in told[3]


@pytest.mark.parametrize(
    ("wanted", "hosts"),
    [(WANTED, (("vm",), ("10.0.0.7",))), (kubelet_client("vm", lasts_s=60, approver="x"), ((), ()))],
)
def test_requests_are_those_of_a_kubelet(wanted: Wanted, hosts: Any) -> None:
    key = make_key()
    body = wanted.body(key)
    asked = read_request(base64.b64decode(body["spec"]["request"]))
    assert (asked.common_name, asked.organisations) == ("system:node:vm", ("system:nodes",))
    assert (asked.dns_names, asked.addresses) == hosts
    assert body["spec"]["expirationSeconds"] == wanted.lasts_s
    assert wanted.name(key) == wanted.name(key) == body["metadata"]["name"]
    assert wanted.name(make_key()) != wanted.name(key)
