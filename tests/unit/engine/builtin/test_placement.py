"""Where a pod may run and why not, case by case, in kube-scheduler's words."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.engine.builtin.placement import NodeState, Unplaced, place
from headrace.engine.builtin.pod_volumes import PodVolumes, Storage, choose, pod_volumes
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import NODE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD, STORAGE_CLASS
from headrace.spec.resources import pod_requests


def node(name: str, *, cpu: str = "4", memory: str = "8Gi", pods: str = "10", **more: Any) -> Doc[Any]:
    labels = {"kubernetes.io/hostname": name, **more.pop("labels", {})}
    allocatable = {"cpu": cpu, "memory": memory, "pods": pods, **more.pop("allocatable", {})}
    return Doc(
        NODE, {"metadata": {"name": name, "labels": labels}, "spec": more, "status": {"allocatable": allocatable}}
    )


def pod(name: str = "p", *, labels: dict[str, str] | None = None, namespace: str = "a", **spec: Any) -> Doc[Any]:
    requests = spec.pop("requests", {"cpu": "1"})
    containers = spec.pop("containers", [{"name": "c", "resources": {"requests": requests}}])
    metadata = {"name": name, "namespace": namespace, "uid": name, "labels": labels or {}}
    return Doc(POD, {"metadata": metadata, "spec": {"containers": containers, **spec}})


def state(there: Doc[Any], *pods: Doc[Any]) -> NodeState:
    return NodeState(there, [(each, pod_requests(each.raw)) for each in pods])


def found(wanted: Doc[Any], *nodes: NodeState | Doc[Any], volumes: PodVolumes = PodVolumes()) -> str:
    states = [each if isinstance(each, NodeState) else state(each) for each in nodes]
    answer = place(wanted, pod_requests(wanted.raw), states, volumes)
    return answer.message if isinstance(answer, Unplaced) else answer.node.name


def required(key: str, *values: str) -> dict[str, Any]:
    expression = {"key": key, "operator": "In", "values": list(values)}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


TAINT = {"key": "virtual", "value": "yes", "effect": "NoSchedule"}
SIDECAR = {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "2"}}}
INIT = {"name": "i", "resources": {"requests": {"cpu": "5"}}}


@pytest.mark.parametrize(
    ("wanted", "nodes", "expected"),
    [
        pytest.param(pod(), [], "no nodes available to schedule pods", id="no nodes"),
        pytest.param(pod(), [node("a")], "a", id="fits"),
        pytest.param(pod(requests={"cpu": "5"}), [node("a")], "0/1 nodes are available: 1 Insufficient cpu.", id="cpu"),
        pytest.param(
            pod(requests={"cpu": "5", "memory": "9Gi", "nvidia.com/gpu": "1"}), [node("a"), node("b", cpu="8")],
            "0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient memory, 2 Insufficient nvidia.com/gpu.",
            id="reasons are counted and sorted",
        ),
        pytest.param(
            pod(requests={"nvidia.com/gpu": "1"}), [node("a"), node("b", allocatable={"nvidia.com/gpu": "1"})], "b",
            id="extended resources",
        ),
        pytest.param(
            pod(containers=[{"name": "c", "resources": {"requests": {"cpu": "3"}}}], initContainers=[SIDECAR]), [node("a")],
            "0/1 nodes are available: 1 Insufficient cpu.", id="sidecars count",
        ),
        pytest.param(pod(initContainers=[INIT]), [node("a")], "0/1 nodes are available: 1 Insufficient cpu.", id="the greediest init container counts"),
        pytest.param(pod(), [node("a", pods="0")], "0/1 nodes are available: 1 Too many pods.", id="pod count"),
        pytest.param(pod(), [node("a", unschedulable=True)], "0/1 nodes are available: 1 node(s) were unschedulable.", id="cordoned"),
        pytest.param(
            pod(), [node("a", taints=[TAINT]), node("b", cpu="0")],
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {virtual: yes}.", id="taint",
        ),
        pytest.param(pod(tolerations=[{"key": "virtual", "operator": "Exists"}]), [node("a", taints=[TAINT])], "a", id="toleration"),
        pytest.param(pod(tolerations=[{"operator": "Exists"}]), [node("a", unschedulable=True)], "a", id="tolerates the cordon"),
        pytest.param(
            pod(nodeSelector={"pool": "own"}), [node("a")],
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", id="selector",
        ),
        pytest.param(pod(nodeSelector={"pool": "own"}), [node("a"), node("b", labels={"pool": "own"})], "b", id="selected"),
        pytest.param(pod(affinity=required("pool", "x", "own")), [node("a"), node("b", labels={"pool": "own"})], "b", id="affinity"),
        pytest.param(
            pod(), [node("a", taints=[TAINT | {"effect": "PreferNoSchedule"}], cpu="16"), node("b")], "b", id="soft taints are avoided",
        ),
        pytest.param(pod(), [node("a"), node("b", cpu="64", memory="64Gi")], "b", id="where most is left"),
        pytest.param(pod(), [node("b"), node("a")], "b", id="of equals the first"),
    ],
)  # fmt: skip
def test_filters_and_scores(wanted: Doc[Any], nodes: list[Doc[Any]], expected: str) -> None:
    assert found(wanted, *nodes) == expected


def test_what_runs_on_a_node_counts() -> None:
    busy = state(node("a"), pod("x", requests={"cpu": "2"}), pod("y", requests={"cpu": "1500m"}))
    assert found(pod(), busy) == "0/1 nodes are available: 1 Insufficient cpu."
    assert found(pod(requests={"cpu": "500m"}), busy) == "a"
    full = state(node("a", pods="1"), pod("x", requests={}))
    assert found(pod(), full) == "0/1 nodes are available: 1 Too many pods."


def test_preferred_affinity_weighs_more_than_room() -> None:
    wish = {"weight": 10, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}}
    assert found(pod(affinity=affinity), node("a", labels={"disk": "ssd"}), node("b", cpu="64")) == "a"


def beside(kind: str, topology: str = "kubernetes.io/hostname", **selector: Any) -> dict[str, Any]:
    term = {"topologyKey": topology, "labelSelector": {"matchLabels": {"app": "web"}}, **selector}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def web(name: str, **more: Any) -> Doc[Any]:
    return pod(name, labels={"app": "web"}, **more)


def test_affinity_between_pods() -> None:
    there, empty = state(node("a"), web("x")), state(node("b"))
    assert found(pod(affinity=beside("podAffinity")), there, empty) == "a"
    assert found(pod(affinity=beside("podAntiAffinity")), there, empty) == "b"
    nowhere = "0/1 nodes are available: 1 node(s) didn't match pod affinity rules."
    assert found(pod(affinity=beside("podAffinity")), empty) == nowhere
    crowded = "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules."
    assert found(pod(affinity=beside("podAntiAffinity")), there) == crowded


def test_the_first_of_a_group_may_go_anywhere() -> None:
    assert found(web("first", affinity=beside("podAffinity")), node("a")) == "a"


def test_affinity_keeps_to_namespaces() -> None:
    other = state(node("a"), web("x", namespace="elsewhere"))
    assert found(pod(affinity=beside("podAntiAffinity")), other) == "a"
    everywhere = beside("podAntiAffinity", namespaceSelector={})
    assert "anti-affinity" in found(pod(affinity=everywhere), other)
    named = beside("podAntiAffinity", namespaces=["elsewhere"])
    assert "anti-affinity" in found(pod(affinity=named), other)


def test_topologies_are_larger_than_nodes() -> None:
    zone: dict[str, Any] = {"labels": {"zone": "z"}}
    there, near = state(node("a", **zone, cpu="1"), web("x")), state(node("b", **zone))
    assert found(pod(affinity=beside("podAffinity", "zone")), there, near) == "b"
    assert "anti-affinity" in found(pod(affinity=beside("podAntiAffinity", "zone")), near, there)


def test_pods_that_want_to_be_alone_are_left_alone() -> None:
    alone = state(node("a"), pod("hermit", affinity=beside("podAntiAffinity")))
    message = "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules."
    assert found(web("visitor"), alone) == message
    assert found(pod("other"), alone) == "a"


# -- claims ------------------------------------------------------------------------------------------------------------


def claim(name: str = "c", *, bound: str = "", storage_class: str = "late", **more: Any) -> Doc[Any]:
    annotations = {"pv.kubernetes.io/bind-completed": "yes"} if bound else {}
    annotations |= more.pop("annotations", {})
    modes = more.pop("modes", ["ReadWriteOnce"])
    spec: dict[str, Any] = {
        "storageClassName": storage_class,
        "accessModes": modes,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    if bound:
        spec["volumeName"] = bound
    metadata = {
        "name": name,
        "namespace": "a",
        "uid": f"uid-{name}",
        "annotations": annotations,
        "resourceVersion": "1",
    }
    return Doc(PERSISTENT_VOLUME_CLAIM, {"metadata": metadata | more, "spec": spec})


def volume(name: str = "v", *, zone: str = "", size: str = "1Gi", **spec: Any) -> Doc[Any]:
    body = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "late", **spec}
    if zone:
        term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}
        body["nodeAffinity"] = {"required": {"nodeSelectorTerms": [term]}}
    meta = {"name": name, "resourceVersion": "7"}
    return Doc(PERSISTENT_VOLUME, {"metadata": meta, "spec": body, "status": {"phase": "Available"}})


def storage_class(name: str = "late", mode: str = "WaitForFirstConsumer", provisioner: str = "x") -> Doc[Any]:
    return Doc(STORAGE_CLASS, {"metadata": {"name": name}, "volumeBindingMode": mode, "provisioner": provisioner})


def storage(*docs: Doc[Any], users: tuple[Doc[Any], ...] = ()) -> Storage:
    def of(kind: Any) -> dict[Ref, Doc[Any]]:
        return {doc.ref: doc for doc in docs if doc.kind is kind}

    return Storage(
        claim=of(PERSISTENT_VOLUME_CLAIM).get,
        volume=of(PERSISTENT_VOLUME).get,
        storage_class=of(STORAGE_CLASS).get,
        users=lambda _: users,
        volumes=lambda: list(of(PERSISTENT_VOLUME).values()),
    )


def reader(name: str = "p", **more: Any) -> Doc[Any]:
    return pod(name, volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}], **more)


ONCE = ["ReadWriteOncePod"]


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        pytest.param(storage(), 'persistentvolumeclaim "c" not found', id="no claim"),
        pytest.param(storage(claim(deletionTimestamp="t")), 'persistentvolumeclaim "c" is being deleted', id="going"),
        pytest.param(storage(claim(), storage_class(mode="Immediate")), "pod has unbound immediate PersistentVolumeClaims", id="immediate"),
        pytest.param(storage(claim()), "pod has unbound immediate PersistentVolumeClaims", id="no class"),
        pytest.param(storage(claim(bound="v")), 'persistentvolumeclaim "c" bound to non-existent persistentvolume "v"', id="lost"),
        pytest.param(
            storage(claim(bound="v", modes=ONCE), volume(), users=(reader("other", nodeName="n"),)),
            "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode", id="taken",
        ),
        pytest.param(storage(claim(bound="v", modes=ONCE), volume(), users=(reader("waits"),)), "", id="nobody runs with it"),
        pytest.param(storage(claim(), storage_class()), "", id="late binding"),
        pytest.param(storage(claim(bound="v"), volume()), "", id="bound"),
    ],
)  # fmt: skip
def test_what_claims_mean(there: Storage, expected: str) -> None:
    found = pod_volumes(reader(), there)
    assert found.problem == expected
    if expected:
        answer = place(reader(), {}, [state(node("a"))], found)
        assert answer == Unplaced(f"0/1 nodes are available: {expected}.")


def test_a_bound_volume_ties_its_pod_to_nodes() -> None:
    volumes = pod_volumes(reader(), storage(claim(bound="v"), volume(zone="y")))
    here, there = node("a", labels={"zone": "x"}), node("b", labels={"zone": "y"})
    assert found(reader(), here, there, volumes=volumes) == "b"
    message = "0/1 nodes are available: 1 node(s) had volume node affinity conflict."
    assert found(reader(), here, volumes=volumes) == message


def test_late_binding_chooses_a_volume_or_asks_for_one() -> None:
    here, there = node("a", labels={"zone": "x"}), node("b", labels={"zone": "y"})
    volumes = pod_volumes(reader(), storage(claim(), storage_class(), volume(zone="y")))
    (reserve,) = choose(volumes, there)
    assert reserve.ref == Ref("", "v")  # type: ignore[union-attr]
    assert reserve.body["spec"]["claimRef"]["uid"] == "uid-c"  # type: ignore[union-attr]
    assert reserve.body["metadata"]["resourceVersion"] == "7"  # type: ignore[union-attr]
    (ask,) = choose(volumes, here)
    assert ask.body == {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "a"}}}  # type: ignore[union-attr]
    asked = claim(annotations={"volume.kubernetes.io/selected-node": "a"})
    assert choose(pod_volumes(reader(), storage(asked, storage_class())), here) == []
