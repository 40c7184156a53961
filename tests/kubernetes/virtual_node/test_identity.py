"""What a joined node's credential is and can do: tried on a real API server with Node authorizer and NodeRestriction."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from tests.kubernetes import objects
from tests.kubernetes.access import Access
from tests.kubernetes.roles import apply, path_of, removed, until
from tests.kubernetes.virtual_node import pods
from tests.kubernetes.virtual_node.machine import Machine

from headrace.clock import SystemClock
from headrace.cluster.remote import RemoteCluster
from headrace.cluster.remote.connection import from_kubeconfig
from headrace.cluster.remote.renewal import RenewableTransport
from headrace.cluster.signing import kubelet_client
from headrace.node import certificates
from headrace.node.certificates import KeptCertificate
from headrace.spec.kind import Json
from headrace.spec.names import NODE_POOL_LABEL, POOL_LABEL

MERGE = "application/merge-patch+json"
REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@pytest.fixture
def thief(machine: Machine, tmp_path: Path) -> Iterator[httpx2.Client]:
    """Somebody who has copied the node's credential."""
    subprocess.run(["cp", "-r", machine.home / "kubeconfig", machine.home / "identity", tmp_path], check=True)
    connection = from_kubeconfig(tmp_path / "kubeconfig")
    with httpx2.Client(base_url=connection.server, verify=connection.tls, trust_env=False, timeout=20) as client:
        yield client


def test_the_node_is_known_by_a_certificate_of_its_own(machine: Machine, thief: httpx2.Client) -> None:
    user: Json = thief.post(WHO, json=REVIEW).json()["status"]["userInfo"]
    assert user["username"] == f"system:node:{machine.name}"
    assert "system:nodes" in user["groups"]
    for file in (machine.home / "kubeconfig", machine.home / "identity" / "client.pem"):
        assert file.stat().st_mode & 0o777 == 0o600
    operators = machine.access.token
    kept = [path for path in machine.home.rglob("*") if path.is_file() and path.stat().st_size < 100_000]
    assert operators
    assert not [path for path in kept if operators.encode() in path.read_bytes()]


def test_only_what_its_pods_name_can_be_read(machine: Machine, thief: httpx2.Client, space: str, pool: Json) -> None:
    access = machine.access
    apply(access, objects.secret(space, "mine"), objects.secret(space, "others"))
    volumes = [{"name": "s", "secret": {"secretName": "mine"}}]
    mounts = [{"name": "s", "mountPath": "/s"}]
    script = "test $(cat /s/password) = hush && test -s /var/run/secrets/kubernetes.io/serviceaccount/token"
    body = pods.pod(space, "reader", pool["metadata"]["name"], script, volumes=volumes, main={"volumeMounts": mounts})
    pods.run(machine, body)
    secrets = f"/api/v1/namespaces/{space}/secrets"
    assert thief.get(f"{secrets}/mine").status_code == 200
    assert thief.get(f"{secrets}/others").status_code == 403
    assert thief.get(secrets).status_code == 403
    assert thief.get(f"/api/v1/namespaces/{space}/pods/reader").status_code == 200
    assert thief.get("/api/v1/pods").status_code == 403
    assert thief.get(f"/api/v1/namespaces/{space}/pods").status_code == 403
    token: Any = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    account = f"/api/v1/namespaces/{space}/serviceaccounts/default/token"
    assert thief.post(account, json=token).status_code == 403


def test_a_stolen_credential_brings_no_other_pools_pods(
    machine: Machine, thief: httpx2.Client, space: str, suffix: str
) -> None:
    access = machine.access

    def patched(name: str, body: Json) -> int:
        headers = {"content-type": MERGE}
        return thief.request("PATCH", f"/api/v1/nodes/{name}", json=body, headers=headers).status_code

    rich = objects.pool(f"rich-{suffix}", kind="own")
    other = objects.node(f"other-{suffix}", rich["metadata"]["name"])
    apply(access, rich, {key: value for key, value in other.items() if key != "status"})
    try:
        join = {"metadata": {"labels": {NODE_POOL_LABEL: rich["metadata"]["name"]}}}
        assert patched(machine.name, join) == 403
        assert patched(machine.name, {"metadata": {"labels": {NODE_POOL_LABEL: None}}}) == 403
        assert patched(machine.name, {"spec": {"taints": []}}) == 403
        assert patched(other["metadata"]["name"], {"metadata": {"labels": {"a": "b"}}}) == 403
        assert patched(machine.name, {"metadata": {"labels": {POOL_LABEL: rich["metadata"]["name"]}}}) == 200
        body = pods.pod(space, "precious", rich["metadata"]["name"], "true")
        apply(access, body)
        until(lambda: _is_unschedulable(access, body), "the scheduler has looked for a node", machine.told)
        assert "nodeName" not in access.call("GET", path_of(body))["spec"]
    finally:
        removed(access, [path_of(body), path_of(other), path_of(rich)])


def _is_unschedulable(access: Access, body: Json) -> bool:
    conditions = access.call("GET", path_of(body)).get("status", {}).get("conditions") or []
    return any(each["type"] == "PodScheduled" and each.get("reason") == "Unschedulable" for each in conditions)


def test_it_approves_nothing_and_makes_no_other_node(thief: httpx2.Client, suffix: str) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"made-up-{suffix}"}}
    assert thief.post("/api/v1/nodes", json=node).status_code == 403
    requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    name = thief.get(requests).json()["items"][0]["metadata"]["name"]
    approved: Any = {"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "x", "message": "x"}]}}
    headers = {"content-type": MERGE}
    assert thief.request("PATCH", f"{requests}/{name}/approval", json=approved, headers=headers).status_code == 403


def test_the_certificate_is_renewed_with_its_own_rights(machine: Machine, tmp_path: Path) -> None:
    """With nobody's help: kube-controller-manager approves what the node's role lets it ask for."""
    subprocess.run(["cp", "-r", machine.home / "kubeconfig", machine.home / "identity", tmp_path], check=True)
    file = tmp_path / "identity" / "client.pem"
    before = certificates.read(file)
    said: list[str] = []

    async def renew() -> Json:
        transport = RenewableTransport(lambda: from_kubeconfig(tmp_path / "kubeconfig"))
        connection = from_kubeconfig(tmp_path / "kubeconfig")
        async with RemoteCluster(connection.open(transport)) as cluster:
            wanted = kubelet_client(machine.name, lasts_s=3600, approver="kube-controller-manager")
            kept = KeptCertificate(file, cluster, wanted, SystemClock(), say=said.append, renewed=transport.renew)
            assert kept.due_in_s() > 3600
            with anyio.fail_after(30):
                await kept.renew()
            answer: Json = await cluster.request("POST", WHO, body=REVIEW)
            return answer

    user = anyio.run(renew)["status"]["userInfo"]
    after = certificates.read(file)
    assert before is not None
    assert after is not None
    assert after.serial_number != before.serial_number
    assert after.not_valid_after_utc < before.not_valid_after_utc
    assert user["username"] == f"system:node:{machine.name}"
    shown = user["extra"]["authentication.kubernetes.io/credential-id"]
    assert shown != [f"X509SHA256={before.fingerprint(before.signature_hash_algorithm).hex()}"]  # type: ignore[arg-type]
    assert shown == [f"X509SHA256={after.fingerprint(after.signature_hash_algorithm).hex()}"]  # type: ignore[arg-type]
