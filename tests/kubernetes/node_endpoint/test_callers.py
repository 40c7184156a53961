"""Who is let in at the endpoint of a node of ours, as a real cluster's users and roles say."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx2
import pytest
from tests.kubernetes.access import Access
from tests.kubernetes.cluster.credentials import Credentials
from tests.kubernetes.cluster.own import OwnCluster
from tests.kubernetes.fixtures import wait
from tests.kubernetes.roles import apply
from tests.kubernetes.virtual_node.machine import Machine

from headrace.clock import SystemClock
from headrace.cluster.access import ACCESS_REVIEWS
from headrace.engine.pki import Authority, Certificate
from headrace.spec.kind import Json

RBAC = "rbac.authorization.k8s.io/v1"


class Caller:
    """Somebody who asks a node's endpoint itself."""

    def __init__(self, endpoint: str, credentials: Credentials) -> None:
        self._endpoint = endpoint
        self._credentials = credentials

    def ask(self, path: str, *, token: str = "", certificate: Certificate | None = None) -> tuple[int, str]:
        tls = ssl.create_default_context(cafile=self._credentials.authority)
        if certificate is not None:
            tls.load_cert_chain(*certificate)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        with httpx2.Client(base_url=self._endpoint, verify=tls, headers=headers, trust_env=False) as client:
            answer = client.get(path)
        return answer.status_code, answer.text

    def certificate(self, user: str, *groups: str) -> Certificate:
        return self._credentials.client(f"caller-{user}", user=user, groups=groups)


@pytest.fixture(scope="session")
def caller(reached: Machine, own_kubernetes: OwnCluster | None) -> Caller:
    assert own_kubernetes is not None
    status = reached.node["status"]
    address = next(each["address"] for each in status["addresses"] if each["type"] == "InternalIP")
    port = status["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    return Caller(f"https://{address}:{port}", own_kubernetes.credentials)


def test_nobody_is_nobody(caller: Caller, reached: Machine, tmp_path: Path) -> None:
    for token in ("", "guessed"):
        status, said = caller.ask("/healthz", token=token)
        assert (status, said.startswith(f"Node {reached.name} does not know who asks for /healthz.")) == (401, True)
    stranger = Authority.open(tmp_path, SystemClock()).client("x", user="kube-apiserver", groups=("system:masters",))
    with pytest.raises(httpx2.TransportError):
        caller.ask("/healthz", certificate=stranger)


def test_the_clusters_roles_say_what_callers_may(caller: Caller, reached: Machine, reached_namespace: str) -> None:
    access, node_name = reached.access, reached.name
    status, said = caller.ask("/pods", certificate=caller.certificate("ann"))
    assert status == 403
    assert said.startswith(f"ann may not get nodes/pods or nodes/proxy of node {node_name}: ")
    assert caller.ask("/pods", certificate=caller.certificate("root", "system:masters"))[0] == 200
    assert caller.ask("/pods", token=access.token)[0] == 200
    reader = token_of_reader(access, reached_namespace, "reader", node_name)
    elsewhere = token_of_reader(access, reached_namespace, "elsewhere", "another-node")
    assert caller.ask("/pods", token=reader)[0] == 200
    assert caller.ask("/pods", token=elsewhere)[0] == 403
    status, said = caller.ask(f"/containerLogs/{reached_namespace}/main/app", token=reader)
    assert (status, "may not get nodes/proxy" in said) == (403, True)
    for account in ("reader", "elsewhere"):
        for kind in ("clusterrolebindings", "clusterroles"):
            access.call("DELETE", f"/apis/{RBAC}/{kind}/{reached_namespace}-{account}")


def token_of_reader(access: Access, namespace: str, account: str, node: str) -> str:
    """Return a token of a new account, which may read the pods of one node."""
    role = f"{namespace}-{account}"
    rule = {"apiGroups": [""], "resources": ["nodes/pods"], "resourceNames": [node], "verbs": ["get"]}
    apply(
        access,
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace}},
        {"apiVersion": RBAC, "kind": "ClusterRole", "metadata": {"name": role}, "rules": [rule]},
        {
            "apiVersion": RBAC,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        },
    )
    asked = {"verb": "get", "resource": "nodes", "subresource": "pods", "name": node}
    spec = {"user": f"system:serviceaccount:{namespace}:{account}", "resourceAttributes": asked}
    review: Json = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    # The node remembers what it is told, so it is not asked before the API server itself has heard of the role.
    wait(lambda: bool(access.call("POST", ACCESS_REVIEWS, review)["status"]["allowed"]), f"{account} may read")
    body: Json = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    return str(access.call("POST", path, body)["status"]["token"])
