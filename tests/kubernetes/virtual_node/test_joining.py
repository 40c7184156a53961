"""`headrace node` on a real API server: the node is a node, and pods come to it through the real scheduler."""

from __future__ import annotations

import platform
from typing import Any

from tests.kubernetes.roles import apply, path_of, until
from tests.kubernetes.virtual_node import pods
from tests.kubernetes.virtual_node.machine import Machine

from headrace.spec.kind import Json
from headrace.spec.names import NODE_POOL_LABEL, VIRTUAL_NODE_TAINT

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def test_the_node_is_what_a_kubelets_node_is(machine: Machine, pool: Json) -> None:
    node = machine.node
    labels = node["metadata"]["labels"]
    assert labels[NODE_POOL_LABEL] == pool["metadata"]["name"]
    assert labels["kubernetes.io/hostname"] == machine.name
    assert (labels["type"], labels["kubernetes.io/os"]) == ("virtual-kubelet", "linux")
    assert VIRTUAL_NODE_TAINT in {taint["key"] for taint in node["spec"]["taints"]}
    status = node["status"]
    assert {each["type"]: each["status"] for each in status["conditions"]}["Ready"] == "True"
    assert int(status["allocatable"]["cpu"]) > 0
    assert status["nodeInfo"]["kernelVersion"] == platform.release()
    csi = machine.access.call("GET", f"/apis/storage.k8s.io/v1/csinodes/{machine.name}")
    assert [driver["name"] for driver in csi["spec"]["drivers"]] == ["fuse.headrace.io"]


def test_the_lease_is_renewed(machine: Machine) -> None:
    path = f"{LEASES}/{machine.name}"
    first: Any = machine.access.call("GET", path)["spec"]["renewTime"]
    until(lambda: machine.access.call("GET", path)["spec"]["renewTime"] > first, "the lease is renewed", machine.told)


def test_a_pod_runs_and_its_status_is_kubelets(machine: Machine, space: str, pool: Json) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words", "namespace": space}}
    apply(machine.access, {**config, "data": {"word": "hello"}})
    word = {"name": "WORD", "valueFrom": {"configMapKeyRef": {"name": "words", "key": "word"}}}
    body = pods.pod(space, "first", pool["metadata"]["name"], "test $WORD = hello", main={"env": [word]})
    found = pods.run(machine, body)
    assert found["spec"]["nodeName"] == machine.name
    (container,) = found["status"]["containerStatuses"]
    assert container["state"]["terminated"]["exitCode"] == 0
    assert {each["type"]: each["status"] for each in found["status"]["conditions"]}["PodScheduled"] == "True"
    machine.access.call("DELETE", path_of(body))
    failing = pods.pod(space, "fails", pool["metadata"]["name"], "echo why; exit 3")
    state = pods.run(machine, failing, "Failed")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["message"]) == (3, "why\n")
