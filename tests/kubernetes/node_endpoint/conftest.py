"""One node of ours in the session's cluster, and a namespace for pods on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.kubernetes.access import Access
from tests.kubernetes.cluster.own import OwnCluster
from tests.kubernetes.fixtures import wait
from tests.kubernetes.node_endpoint.node import virtual_node
from tests.kubernetes.node_endpoint.pods import ECHO, Pods

from headrace.sandbox.testing import missing_features

TALK = "echo first line; echo oops >&2; exec sleep 1000"


@pytest.fixture(scope="session")
def node_name() -> str:
    return "reached-node"


@pytest.fixture(scope="session")
def endpoint(
    own_kubernetes: OwnCluster | None,
    bare_kubernetes: Access,
    node_name: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The URL of a node's endpoint."""
    if own_kubernetes is None:
        pytest.skip("The cluster of KUBECONFIG does not know this machine. Nodes of ours are not tested.")
    if why := missing_features().get("userns"):
        pytest.skip(f"NO USER NAMESPACES, PODS ARE NOT RUN: {why}")
    log = tmp_path_factory.mktemp("node") / "agent.log"
    with virtual_node(bare_kubernetes, own_kubernetes.credentials, own_kubernetes.address, node_name, log) as url:
        yield url


@pytest.fixture(scope="session")
def reached_namespace(endpoint: str, bare_kubernetes: Access) -> Iterator[str]:
    made = bare_kubernetes.call("POST", "/api/v1/namespaces", {"metadata": {"generateName": "reached-"}})
    name: str = made["metadata"]["name"]
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    with bare_kubernetes.client() as client:
        wait(lambda: client.get(account).is_success, f"{name} has its service account")
    yield name
    bare_kubernetes.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session", params=["websocket", "websocket-translated", "spdy"])
def pods(
    request: pytest.FixtureRequest,
    bare_kubernetes: Access,
    node_name: str,
    reached_namespace: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Pods:
    """A pod `main`, which says two lines, and `echo`, which listens at a port that it says."""
    made = Pods(bare_kubernetes, node_name, reached_namespace, tmp_path_factory.mktemp("client"), request.param)
    made.be_reached()
    made.make("main", "sh", "-c", TALK)
    made.make("echo", "python3", "-c", ECHO)
    return made
