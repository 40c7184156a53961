"""kubectl 1.37 on the cluster as a whole: nodes, namespaces, and kinds that users define."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

MERGE = "application/merge-patch+json"


@pytest.fixture
def node(facade: Any, namespace: str) -> Iterator[str]:
    """A node that is Ready."""
    name = f"{namespace}-worker"
    ready = {
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        "nodeInfo": {"kubeletVersion": "v1.36.3", "osImage": "Debian"},
        "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
    }
    facade.call("POST", "/api/v1/nodes", {"metadata": {"name": name}})
    facade.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": ready}, MERGE)
    yield name
    facade.call("DELETE", f"/api/v1/nodes/{name}")


def test_nodes(kubectl: Any, node: str) -> None:
    assert kubectl("get", "node", node, "--no-headers").stdout.split()[:3] == [node, "Ready", "<none>"]
    assert "Debian" in kubectl("get", "node", node, "-o", "wide").stdout
    described = kubectl("describe", "node", node).stdout
    assert "KubeletReady" in described
    assert "Allocated resources" in described


def test_cordon_taint_and_drain(kubectl: Any, facade: Any, namespace: str, node: str) -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "host"}]}}
    facade.call("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
    assert "cordoned" in kubectl("cordon", node).stdout
    assert "SchedulingDisabled" in kubectl("get", "node", node).stdout
    assert "tainted" in kubectl("taint", "node", node, "dedicated=ml:NoSchedule").stdout
    taints = facade.call("GET", f"/api/v1/nodes/{node}")["spec"]["taints"]
    assert {"key": "dedicated", "value": "ml", "effect": "NoSchedule"} in taints
    assert "untainted" in kubectl("taint", "node", node, "dedicated-").stdout
    drained = kubectl("drain", node, "--force", "--ignore-daemonsets", "--grace-period=0", "--timeout=10s")
    assert "pod/p evicted" in drained.stdout
    assert "not found" in kubectl("get", "pod/p", fails=True).stderr
    assert "uncordoned" in kubectl("uncordon", node).stdout


def test_namespaces(kubectl: Any, facade: Any, namespace: str) -> None:
    assert kubectl("get", "ns", namespace, "--no-headers").stdout.split()[:2] == [namespace, "Active"]
    assert f"{namespace}" in kubectl("get", "ns", "-o", "name").stdout
    kubectl("create", "namespace", f"{namespace}-more")
    facade.call("POST", f"/api/v1/namespaces/{namespace}-more/configmaps", {"metadata": {"name": "there"}})
    everywhere = kubectl("get", "configmaps", "-A").stdout
    assert f"{namespace}-more" in everywhere
    assert everywhere.startswith("NAMESPACE")
    assert "deleted" in kubectl("delete", "namespace", f"{namespace}-more", "--wait=false").stdout
    refused = kubectl("create", "configmap", "c", "-n", "nowhere", fails=True).stderr
    assert 'namespaces "nowhere" not found' in refused


DEFINITION: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gadgets.example.org"},
    "spec": {
        "group": "example.org",
        "scope": "Namespaced",
        "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "shortNames": ["gd"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "size": {"type": "integer", "minimum": 1, "description": "How big it is."}
                                },
                            }
                        },
                    }
                },
            }
        ],
    },
}


@pytest.fixture
def gadgets(kubectl: Any, tmp_path: Path) -> Iterator[None]:
    """A kind that a user has defined."""
    file = tmp_path / "crd.yaml"
    file.write_bytes(msgspec.yaml.encode(DEFINITION))
    kubectl("apply", "-f", str(file))
    kubectl("wait", "--for=condition=Established", "crd/gadgets.example.org", "--timeout=5s")
    yield
    kubectl("delete", "crd", "gadgets.example.org", "--wait=false")


def test_a_kind_of_the_users_own(kubectl: Any, gadgets: None, tmp_path: Path) -> None:
    gadget = {"apiVersion": "example.org/v1", "kind": "Gadget", "metadata": {"name": "g"}, "spec": {"size": 3}}
    file = tmp_path / "g.yaml"
    file.write_bytes(msgspec.yaml.encode(gadget))
    assert "created" in kubectl("apply", "-f", str(file)).stdout
    header, row = (line.split() for line in kubectl("get", "gd").stdout.splitlines())
    assert (header, row) == (["NAME", "SIZE"], ["g", "3"])
    assert "How big it is." in kubectl("explain", "gadget.spec.size").stdout
    gadget["spec"] = {"size": 0}
    file.write_bytes(msgspec.yaml.encode(gadget))
    assert "spec.size" in kubectl("apply", "-f", str(file), fails=True).stderr
    gadget["spec"] = {"sise": 3}
    file.write_bytes(msgspec.yaml.encode(gadget))
    assert 'unknown field "spec.sise"' in kubectl("apply", "-f", str(file), fails=True).stderr
    assert "deleted" in kubectl("delete", "gadget", "g").stdout


def test_our_kinds_show_as_definitions(kubectl: Any) -> None:
    printed = kubectl("get", "crd").stdout
    assert "trainjobs.headrace.io" in printed
    assert printed.splitlines()[0].split() == ["NAME", "CREATED", "AT"]
    found = json.loads(kubectl("get", "crd", "datasets.data.fluid.io", "-o", "json").stdout)
    assert "Established" in {c["type"] for c in found["status"]["conditions"] if c["status"] == "True"}
