"""Asks a cluster for a certificate: CertificateSigningRequest, approval, signature, each wait with its reason.

Source: Kubernetes, "Certificates and Certificate Signing Requests" (certificates.k8s.io/v1). A request is kept by the
server for an hour after it was decided and for a day while nobody decides; who still waits then asks again.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import anyio
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from headrace.certificates import key_pem, load_pair, request_for, subject_of
from headrace.cluster.protocol import Cluster, MergePatch
from headrace.errors import AlreadyExists, Conflict, Denied, EngineFailed, NotFound
from headrace.ids import short_hash
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.names import NODE_USER_PREFIX, NODES_GROUP

KUBELET_CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING_SIGNER = "kubernetes.io/kubelet-serving"
CLIENT_USAGES = ("digital signature", "client auth")
SERVING_USAGES = ("digital signature", "server auth")

_LOOK_FIRST_S, _LOOK_LAST_S = 0.1, 5.0
_SIGNED_WITHIN_S = 10.0
"""A signer that works takes a second; who waits longer is told what may be missing."""


class SigningRequest(msgspec.Struct, frozen=True):
    """A CertificateSigningRequest, read as raw JSON."""


CERTIFICATE_SIGNING_REQUEST: Kind[SigningRequest] = Kind(
    group="certificates.k8s.io",
    version="v1",
    name="CertificateSigningRequest",
    plural="certificatesigningrequests",
    view=SigningRequest,
    namespaced=False,
)

Decision = Literal["Approved", "Denied"]
Say = Callable[[str], None]
"""Told why it waits, and an empty text when it does not any more."""


@dataclass(frozen=True)
class Issued:
    """A certificate with what its signer sent along, and its key, both as PEM texts."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A certificate to ask for.

    Args:
        prefix: begins the request's name.
        hosts: addresses and DNS names of a server.
        lasts_s: seconds it should be good for; the signer may give less.
        approver: who is expected to approve, for the sentence that tells what is waited for.
    """

    prefix: str
    signer: str
    usages: tuple[str, ...]
    subject: x509.Name
    hosts: tuple[str, ...] = ()
    lasts_s: int
    approver: str

    def name(self, key: ec.EllipticCurvePrivateKey) -> str:
        """Return the request's name: the same key asks for the same thing only once."""
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        asked = (public.hex(), self.signer, self.subject.rfc4514_string(), *self.hosts, str(self.lasts_s))
        return f"{self.prefix}-{short_hash(*asked, length=12)}"

    def body(self, key: ec.EllipticCurvePrivateKey) -> Json:
        """Return the object to create."""
        return {
            "apiVersion": CERTIFICATE_SIGNING_REQUEST.api_version,
            "kind": CERTIFICATE_SIGNING_REQUEST.name,
            "metadata": {"name": self.name(key)},
            "spec": {
                "request": base64.b64encode(request_for(key, self.subject, self.hosts)).decode(),
                "signerName": self.signer,
                "usages": list(self.usages),
                "expirationSeconds": self.lasts_s,
            },
        }


def kubelet_client(name: str, *, lasts_s: int, approver: str) -> Wanted:
    """Return what a node asks for to be known by: user `system:node:NAME` of the group `system:nodes`."""
    return Wanted(
        prefix=f"node-client-{name}",
        signer=KUBELET_CLIENT_SIGNER,
        usages=CLIENT_USAGES,
        subject=subject_of(f"{NODE_USER_PREFIX}{name}", [NODES_GROUP]),
        lasts_s=lasts_s,
        approver=approver,
    )


def kubelet_serving(name: str, addresses: Sequence[str], *, lasts_s: int, approver: str) -> Wanted:
    """Return what a node asks for to serve logs and exec with, at its name and these addresses."""
    return Wanted(
        prefix=f"node-serving-{name}",
        signer=KUBELET_SERVING_SIGNER,
        usages=SERVING_USAGES,
        subject=subject_of(f"{NODE_USER_PREFIX}{name}", [NODES_GROUP]),
        hosts=(name, *addresses),
        lasts_s=lasts_s,
        approver=approver,
    )


async def obtain(
    cluster: Cluster, wanted: Wanted, key: ec.EllipticCurvePrivateKey, *, say: Say, approves: str = ""
) -> Issued:
    """Return `key` with a certificate, when it was approved and signed. Waits as long as that takes.

    Args:
        approves: approve the request with the rights of `cluster`, giving this reason.

    Raises:
        Denied: the request was denied, or the credential of `cluster` may not ask or approve.
        EngineFailed: the signer cannot sign it.
    """
    ref = Ref("", wanted.name(key))
    waited_s = pause_s = 0.0
    while True:
        found = await _ensure(cluster, ref, wanted, key)
        decision, message = decision_of(found)
        if approves and not decision:
            with contextlib.suppress(Conflict):  # kube-controller-manager approves for some, too
                await decide(cluster, found, "Approved", reason="Joined", message=approves)
            continue
        if decision == "Denied":
            raise Denied(f"Certificate request {ref.name} was denied: {message or 'no reason was given'}")
        certificate = str(found.status.get("certificate") or "")
        if certificate:
            say("")
            return _issued(base64.b64decode(certificate), key, ref)
        if failure := _condition(found, "Failed"):
            raise EngineFailed(
                f"Certificate request {ref.name} cannot be signed: {failure.get('message') or failure.get('reason')}",
                hint=f"See: kubectl describe csr {ref.name}",
            )
        if why := why_waits(wanted, ref.name, is_approved=decision == "Approved", waited_s=waited_s):
            say(why)
        pause_s = min(_LOOK_LAST_S, 2 * pause_s or _LOOK_FIRST_S)
        waited_s += pause_s
        await anyio.sleep(pause_s)


def why_waits(wanted: Wanted, name: str, *, is_approved: bool, waited_s: float) -> str:
    """Return what is waited for; empty while it is too soon to wonder. Pure."""
    if not is_approved:
        return (
            f"Certificate request {name} waits to be approved by {wanted.approver}. "
            f"By hand: kubectl certificate approve {name}"
            if waited_s >= 1
            else ""
        )
    if waited_s < _SIGNED_WITHIN_S:
        return ""
    return (
        f"Certificate request {name} is approved, and nobody signs it: the cluster has no signer for {wanted.signer}. "
        "It is part of kube-controller-manager, which needs --cluster-signing-cert-file and --cluster-signing-key-file."
    )


async def decide(cluster: Cluster, request: Doc[Any], decision: Decision, *, reason: str, message: str) -> None:
    """Approve or deny a request that is not decided yet; raises Conflict when it has changed meanwhile."""
    condition = {"type": decision, "status": "True", "reason": reason, "message": message}
    conditions = [*(request.status.get("conditions") or []), condition]
    body = {"metadata": {"resourceVersion": request.version}, "status": {"conditions": conditions}}
    await cluster.patch(CERTIFICATE_SIGNING_REQUEST, request.ref, MergePatch(body), subresource="approval")


def decision_of(request: Doc[Any]) -> tuple[Decision | None, str]:
    """Return what was decided, and the message with it. Denied wins, as for signers."""
    for kind in ("Denied", "Approved"):
        found = _condition(request, kind)
        if found is not None:
            return kind, str(found.get("message") or "")
    return None, ""


def _condition(request: Doc[Any], kind: str) -> Json | None:
    conditions: list[Json] = request.status.get("conditions") or []
    return next((each for each in conditions if each.get("type") == kind and each.get("status") != "False"), None)


async def _ensure(cluster: Cluster, ref: Ref, wanted: Wanted, key: ec.EllipticCurvePrivateKey) -> Doc[Any]:
    try:
        return await cluster.get(CERTIFICATE_SIGNING_REQUEST, ref)
    except NotFound:
        pass
    try:
        return await cluster.create(CERTIFICATE_SIGNING_REQUEST, wanted.body(key))
    except AlreadyExists:
        return await cluster.get(CERTIFICATE_SIGNING_REQUEST, ref)


def _issued(certificate: bytes, key: ec.EllipticCurvePrivateKey, ref: Ref) -> Issued:
    pem = key_pem(key)
    try:
        load_pair(certificate, pem)
    except ValueError as error:
        raise EngineFailed(f"The certificate of request {ref.name} cannot be used: {error}.") from error
    return Issued(certificate, pem)
