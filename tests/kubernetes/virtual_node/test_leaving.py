"""How a node is stopped, started again and taken out of its cluster, by its command."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.kubernetes.access import Access
from tests.kubernetes.roles import apply, gone, missing, path_of, until
from tests.kubernetes.virtual_node import pods
from tests.kubernetes.virtual_node.machine import Machine, begin, leave

from headrace.spec.kind import Json

CERTIFICATES = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture
def other(cluster: Access, pool: Json, suffix: str, tmp_path: Path) -> Iterator[Machine]:
    """A second node of this machine, beside the first."""
    name = f"other-vm-{suffix}"
    made = begin(cluster, tmp_path / "home", name, "--name", name, "--pool", pool["metadata"]["name"])
    try:
        made.await_ready()
        yield made
    finally:
        if made.process.poll() is None:
            made.interrupt(signal.SIGTERM)
        leave(made)


def test_a_stopped_node_keeps_its_pods_until_it_leaves(
    cluster: Access, machine: Machine, other: Machine, space: str, pool: Json
) -> None:
    body = pods.pod(space, "going", pool["metadata"]["name"], "exec sleep 3600")
    body["spec"]["nodeSelector"] |= {"kubernetes.io/hostname": other.name}
    apply(cluster, body)
    pods.await_phase(other, body, "Running")
    assert other.interrupt(signal.SIGINT) == 130
    assert "One pod goes on without it" in other.told()
    assert pods.phase(cluster, body) == "Running"
    assert not any("headrace.roles.joined" in words for words in _processes(other.home))
    assert any("headrace.sandbox.world" in words for words in _processes(other.home))

    again = begin(cluster, other.home, other.name, joins=False)
    again.await_ready()
    (container,) = cluster.call("GET", path_of(body))["status"]["containerStatuses"]
    assert container["restartCount"] == 0
    cluster.call("DELETE", path_of(body))
    gone(cluster, path_of(body))
    assert again.interrupt(signal.SIGINT) == 130
    assert "no pod ran" in again.told()
    until(lambda: not _processes(other.home), "nothing runs", lambda: _processes(other.home))

    said = leave(other)
    assert f"node/{other.name} deleted" in said
    assert not other.home.exists()
    for path in (
        f"/apis/storage.k8s.io/v1/csinodes/{other.name}",
        f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{other.name}",
        f"{RBAC}/clusterrolebindings/headrace-joined-node:{other.name}",
        f"{RBAC}/namespaces/kube-system/rolebindings/headrace-joined-node:{other.name}",
    ):
        assert missing(cluster, path), path
    assert not [each for each in cluster.call("GET", CERTIFICATES)["items"] if other.name in json.dumps(each["spec"])]
    assert not missing(cluster, machine.path)


def _processes(home: Path) -> list[list[str]]:
    """Return the command lines of those who have the home as theirs."""
    return [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline", "environ"])
        if (process.info["environ"] or {}).get("HEADRACE_HOME") == str(home) and process.info["cmdline"]
    ]
