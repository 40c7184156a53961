"""The cluster that the other tests here stand on: its node runs pods, and can be reached into."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.kubernetes.access import Access
from tests.kubernetes.cluster.own import OwnCluster
from tests.kubernetes.fixtures import ready_nodes, wait

from headrace.spec.kind import Json

RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 65534,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture
def namespace(bare_kubernetes: Access) -> Iterator[str]:
    made = bare_kubernetes.call("POST", "/api/v1/namespaces", {"metadata": {"generateName": "node-"}})
    name = made["metadata"]["name"]
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    with bare_kubernetes.client() as client:
        wait(lambda: client.get(account).is_success, f"{name} has its service account")
    yield name
    bare_kubernetes.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest.mark.parametrize("is_host_network", [False, True])
def test_an_unprivileged_pod_runs_to_its_end(
    bare_kubernetes: Access, busybox: str, namespace: str, is_host_network: bool
) -> None:
    command = ["sh", "-c", "id -u; cat /proc/self/status"]
    container = {"name": "main", "image": busybox, "command": command, "securityContext": RESTRICTED}
    spec: Any = {"containers": [container], "restartPolicy": "Never", "hostNetwork": is_host_network}
    make(bare_kubernetes, namespace, "p", spec)
    printed = ended(bare_kubernetes, namespace, "p")
    assert printed.startswith("65534\n"), printed
    assert "CapEff:\t0000000000000000" in printed


def test_pods_of_two_nodes_reach_each_other(
    own_kubernetes: OwnCluster | None, bare_kubernetes: Access, busybox: str, kubernetes_node: str, namespace: str
) -> None:
    if own_kubernetes is None:
        pytest.skip("The cluster of KUBECONFIG is not given a second node. The network between nodes is not tested.")
    other = own_kubernetes.add_node()
    wait(lambda: other in ready_nodes(bare_kubernetes), f"node {other} is Ready")
    command = ["sh", "-c", "while true; do echo well met | nc -l -p 8000; done"]
    host: Any = {"containers": [{"name": "main", "image": busybox, "command": command}], "nodeName": kubernetes_node}
    make(bare_kubernetes, namespace, "host", {**host, "terminationGracePeriodSeconds": 0})
    path = f"/api/v1/namespaces/{namespace}/pods/host"
    wait(lambda: bare_kubernetes.call("GET", path)["status"]["phase"] == "Running", "the host runs")
    address = bare_kubernetes.call("GET", path)["status"]["podIP"]
    command = ["sh", "-c", f"until nc {address} 8000 </dev/null; do sleep 0.1; done"]
    guest: Any = {"containers": [{"name": "main", "image": busybox, "command": command}], "nodeName": other}
    make(bare_kubernetes, namespace, "guest", {**guest, "restartPolicy": "Never"})
    assert ended(bare_kubernetes, namespace, "guest") == "well met\n"


def make(access: Access, namespace: str, name: str, spec: Json) -> None:
    access.call("POST", f"/api/v1/namespaces/{namespace}/pods", {"metadata": {"name": name}, "spec": spec})


def ended(access: Access, namespace: str, name: str) -> str:
    """Wait until a pod has ended well, and return what it has printed."""
    path = f"/api/v1/namespaces/{namespace}/pods/{name}"
    wait(lambda: access.call("GET", path)["status"]["phase"] in {"Succeeded", "Failed"}, f"{name} ended")
    with access.client() as client:
        printed = client.get(f"{path}/log").text
    assert access.call("GET", path)["status"]["phase"] == "Succeeded", printed
    return printed
