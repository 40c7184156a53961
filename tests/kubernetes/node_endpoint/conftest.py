"""This machine as a node of the session's cluster, whose serving certificate the administrator approves."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from tests.kubernetes import objects
from tests.kubernetes.access import Access
from tests.kubernetes.cluster.own import OwnCluster
from tests.kubernetes.node_endpoint.pods import ECHO, Pods
from tests.kubernetes.roles import MERGE, apply, missing, path_of, removed, until
from tests.kubernetes.virtual_node.machine import Machine, joined

from headrace.sandbox.testing import missing_features
from headrace.spec.kind import Json

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
TALK = "echo first line; echo oops >&2; exec sleep 1000"


@pytest.fixture(scope="session")
def reached(
    own_kubernetes: OwnCluster | None, kubernetes: Access, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A node whose endpoint has a certificate."""
    if own_kubernetes is None:
        pytest.skip("The cluster of KUBECONFIG does not know this machine. Nodes of ours are not tested.")
    if why := missing_features().get("userns"):
        pytest.skip(f"NO USER NAMESPACES, PODS ARE NOT RUN: {why}")
    name = f"reached-{secrets.token_hex(2)}"
    pool = objects.pool(name, kind="serverless", capacity={"cpu": "4", "memory": "8Gi"}, dataAccess={"mode": "broker"})
    apply(kubernetes, pool)
    with joined(kubernetes, tmp_path_factory.mktemp("node") / "home", name, name) as machine:
        certificate = machine.home / "identity" / "serving.pem"
        until(lambda: approve(kubernetes, name) or certificate.is_file(), "there is a certificate", machine.told)
        yield machine
    removed(kubernetes, [path_of(pool)])


def approve(access: Access, node: str) -> bool:
    """Approve what a node asks for, as `kubectl certificate approve` does; never has it the certificate by then."""
    for request in access.call("GET", REQUESTS)["items"]:
        is_its = request["spec"]["username"] == f"system:node:{node}"
        if is_its and not request.get("status", {}).get("conditions"):
            yes = {"type": "Approved", "status": "True", "reason": "Tests", "message": "approved by hand"}
            body: Json = {"status": {"conditions": [yes]}}
            access.call("PATCH", f"{REQUESTS}/{request['metadata']['name']}/approval", body, MERGE)
    return False


@pytest.fixture(scope="session")
def reached_namespace(reached: Machine) -> Iterator[str]:
    """A namespace whose pods have their account."""
    name = f"{reached.name}-pods"
    body: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    apply(reached.access, body)
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    until(lambda: not missing(reached.access, account), "there is an account")
    yield name
    removed(reached.access, [path_of(body)])


@pytest.fixture(scope="session", params=["websocket", "websocket-translated", "spdy"])
def pods(
    request: pytest.FixtureRequest, reached: Machine, reached_namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Pods:
    """A pod `main`, which says two lines, and `echo`, which listens at a port that it says."""
    home = tmp_path_factory.mktemp("client")
    made = Pods(reached.access, reached.name, reached_namespace, home, request.param)
    made.be_reached()
    made.make("main", "sh", "-c", TALK)
    made.make("echo", "python3", "-c", ECHO)
    return made
