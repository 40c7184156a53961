"""The cluster that the other tests here stand on: its node runs pods, and can be reached into."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.kubernetes.access import Access
from tests.kubernetes.fixtures import wait

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
    path = f"/api/v1/namespaces/{namespace}/pods"
    bare_kubernetes.call("POST", path, {"metadata": {"name": "p"}, "spec": spec})
    wait(
        lambda: bare_kubernetes.call("GET", f"{path}/p")["status"]["phase"] in {"Succeeded", "Failed"}, "the pod ended"
    )
    with bare_kubernetes.client() as client:
        printed = client.get(f"{path}/p/log").text
    assert printed.startswith("65534\n"), printed
    assert "CapEff:\t0000000000000000" in printed
    assert bare_kubernetes.call("GET", f"{path}/p")["status"]["phase"] == "Succeeded"
