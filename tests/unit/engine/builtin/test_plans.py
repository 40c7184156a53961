"""The other controllers' decisions, each a pure function of what was observed."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.builtin import binding_plan, garbage_plan, nodes_plan, protection, sweeping, volume_plan
from headrace.engine.builtin.actions import (
    NOTHING,
    Create,
    Delete,
    MakeDirectory,
    Patch,
    Plan,
    RemoveDirectory,
    Tell,
)
from headrace.spec.kind import Doc, Kind, Ref
from headrace.spec.kinds import (
    CONFIG_MAP,
    EVENT,
    NODE,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    STORAGE_CLASS,
)

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DIRECTORY = Path("/home/volumes")


def doc(kind: Kind[Any], name: str = "x", *, namespace: str = "a", **more: Any) -> Doc[Any]:
    meta = {"name": name, "uid": f"uid-{name}", "resourceVersion": "5", **more.pop("metadata", {})}
    if kind.namespaced:
        meta["namespace"] = namespace
    return Doc(kind, {"metadata": meta, **more})


def did(plan: Plan) -> list[str]:
    """The plan in words: what is done to what."""
    said = []
    for action in plan.actions:
        match action:
            case Patch():
                said.append(f"patch {action.ref.name}/{action.subresource}".rstrip("/"))
            case Delete():
                said.append(f"delete {action.ref.name} {action.propagation}")
            case Create():
                said.append(f"create {action.body['metadata']['name']}")
            case Tell():
                said.append(f"tell {action.reason}")
            case MakeDirectory() | RemoveDirectory():
                said.append(f"{type(action).__name__} {action.path.name}")
            case _:
                said.append(repr(action))
    return said


# -- garbage -----------------------------------------------------------------------------------------------------------


def owner(uid: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": uid, "uid": uid, **more}


def dependant(name: str, *, blocks: bool = True) -> garbage_plan.Dependant:
    owners = [owner("uid-x"), owner("other")]
    return garbage_plan.Dependant(CONFIG_MAP, Ref("a", name), owners, "9", blocks)


FOREGROUND = {"deletionTimestamp": "t", "finalizers": ["foregroundDeletion"]}
ORPHAN = {"deletionTimestamp": "t", "finalizers": ["orphan", "e.org/f"]}


@pytest.mark.parametrize(
    ("metadata", "states", "dependants", "expected"),
    [
        pytest.param({}, [], [], [], id="no owners"),
        pytest.param({}, ["present"], [], [], id="owner there"),
        pytest.param({}, ["unknown"], [], [], id="owner of a kind nobody serves"),
        pytest.param({}, ["absent"], [], ["delete x Background"], id="owner gone"),
        pytest.param({}, ["absent", "present"], [], ["patch x"], id="one of two owners gone"),
        pytest.param({}, ["waiting", "present"], [], ["patch x"], id="one of two owners waits"),
        pytest.param({}, ["waiting"], [], ["delete x Background"], id="owner waits for it"),
        pytest.param({}, ["waiting"], [dependant("d")], ["delete x Foreground"], id="owner waits, and others wait for it"),
        pytest.param({"finalizers": ["orphan"]}, ["absent"], [], ["delete x Orphan"], id="wants to orphan"),
        pytest.param({"deletionTimestamp": "t"}, ["absent"], [], [], id="is going anyway"),
        pytest.param(FOREGROUND, [], [dependant("d")], [], id="waits for what blocks it"),
        pytest.param(FOREGROUND, [], [dependant("d", blocks=False)], ["patch x"], id="does not wait for the others"),
        pytest.param(FOREGROUND, [], [], ["patch x"], id="has nothing to wait for"),
        pytest.param(ORPHAN, [], [dependant("d")], ["patch d", "patch x"], id="cuts its dependants loose"),
    ],
)  # fmt: skip
def test_garbage(metadata: dict[str, Any], states: Any, dependants: Any, expected: list[str]) -> None:
    owners = [owner(f"o{number}") for number in range(len(states))]
    thing = doc(CONFIG_MAP, metadata={**metadata, "ownerReferences": owners})
    assert did(garbage_plan.plan(garbage_plan.Observed(thing, states, dependants))) == expected


def test_references_are_cut_and_finalizers_taken_off_one_by_one() -> None:
    thing = doc(CONFIG_MAP, metadata=ORPHAN)
    plan = garbage_plan.plan(garbage_plan.Observed(thing, [], [dependant("d")]))
    assert [action.body for action in plan.actions if isinstance(action, Patch)] == [
        {"metadata": {"resourceVersion": "9", "ownerReferences": [owner("other")]}},
        {"metadata": {"resourceVersion": "5", "finalizers": ["e.org/f"]}},
    ]


# -- protection and sweeping -------------------------------------------------------------------------------------------


def pod(phase: str = "Running", node: str = "own", **spec: Any) -> Doc[Any]:
    ready = [{"type": "Ready", "status": "True", "lastTransitionTime": "t"}]
    status = {"phase": phase, "conditions": ready}
    return doc(POD, "p", spec={"nodeName": node, **spec}, status=status)


GOING = {"deletionTimestamp": "t", "finalizers": ["kubernetes.io/pvc-protection", "e.org/f"]}


@pytest.mark.parametrize(
    ("metadata", "pods", "is_released"),
    [
        (GOING, [], True),
        (GOING, [pod()], False),
        (GOING, [pod(node="")], True),
        (GOING, [pod("Succeeded")], True),
        (GOING, [pod("Failed"), pod("Pending")], False),
        ({"finalizers": GOING["finalizers"]}, [], False),
        ({"deletionTimestamp": "t"}, [], False),
    ],
)
def test_claims_are_protected(metadata: Any, pods: list[Doc[Any]], is_released: bool) -> None:
    plan = protection.plan_claim(doc(PERSISTENT_VOLUME_CLAIM, metadata=metadata), pods)
    assert did(plan) == (["patch x"] if is_released else [])


@pytest.mark.parametrize(("phase", "is_released"), [("Bound", False), ("Available", True), ("Released", True)])
def test_volumes_are_protected(phase: str, is_released: bool) -> None:
    metadata = {"deletionTimestamp": "t", "finalizers": ["kubernetes.io/pv-protection"]}
    plan = protection.plan_volume(doc(PERSISTENT_VOLUME, metadata=metadata, status={"phase": phase}))
    assert did(plan) == (["patch x"] if is_released else [])


@pytest.mark.parametrize(
    ("found", "has_node", "missing_s", "expected", "again_after_s"),
    [
        (pod(), True, 0.0, [], None),
        (pod(node=""), False, 99.0, [], None),
        (pod(), False, 10.0, [], 30.0),
        (pod(), False, 40.0, ["patch p/status", "delete p Background"], None),
        (pod("Succeeded"), False, 40.0, ["delete p Background"], None),
    ],
)
def test_pods_without_a_node(
    found: Doc[Any], has_node: bool, missing_s: float, expected: list[str], again_after_s: float | None
) -> None:
    plan = sweeping.plan_orphan(found, has_node=has_node, missing_s=missing_s, now=NOW)
    assert (did(plan), plan.again_after_s) == (expected, again_after_s)


@pytest.mark.parametrize(
    ("told", "again_after_s"),
    [("2025-12-31T23:00:00Z", None), ("2025-12-31T23:30:00Z", 1800.0), ("2026-01-01T00:00:00.000000Z", 3600.0)],
)
def test_events_live_an_hour(told: str, again_after_s: float | None) -> None:
    plan = sweeping.plan_event(
        doc(EVENT, lastTimestamp=told, metadata={"creationTimestamp": "2020-01-01T00:00:00Z"}), NOW
    )
    assert plan.again_after_s == again_after_s
    assert did(plan) == ([] if again_after_s else ["delete x Background"])


# -- nodes -------------------------------------------------------------------------------------------------------------


def node(ready: str = "True", *taints: dict[str, Any]) -> Doc[Any]:
    conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": "t"}] if ready else []
    return doc(NODE, "own", spec={"taints": list(taints)}, status={"conditions": conditions})


def taint(key: str = "node.kubernetes.io/unreachable", effect: str = "NoExecute", **more: Any) -> dict[str, Any]:
    return {"key": key, "effect": effect, "timeAdded": "2025-12-31T23:59:00Z", **more}


UNREACHABLE = (taint(effect="NoSchedule"), taint())
NOT_READY = (taint("node.kubernetes.io/not-ready", "NoSchedule"), taint("node.kubernetes.io/not-ready"))


def tolerant(seconds: int | None = None, key: str = "node.kubernetes.io/unreachable") -> Doc[Any]:
    toleration: dict[str, Any] = {"key": key, "operator": "Exists", "effect": "NoExecute"}
    if seconds is not None:
        toleration["tolerationSeconds"] = seconds
    return pod(tolerations=[toleration])


EVICTED = ["tell TaintManagerEviction", "patch p/status", "delete p Background"]


@pytest.mark.parametrize(
    ("found", "silent_s", "pods", "expected", "again_after_s"),
    [
        pytest.param(node(), 10.0, [pod()], [], 30.0, id="well"),
        pytest.param(node(""), 10.0, [], [], 30.0, id="newly made"),
        pytest.param(node(), 40.0, [], ["patch own", "patch own/status", "tell NodeNotReady"], None, id="silent"),
        pytest.param(node("Unknown", *UNREACHABLE), 90.0, [], [], None, id="silent for long"),
        pytest.param(node("Unknown", *UNREACHABLE), 1.0, [], [], 39.0, id="heard of, but not yet ready"),
        pytest.param(node("True", *UNREACHABLE), 1.0, [], ["patch own"], 39.0, id="well again"),
        pytest.param(node("False"), 1.0, [tolerant(key="node.kubernetes.io/not-ready")], ["patch own", "patch p/status"], 39.0, id="says it is not ready"),
        pytest.param(node("False", *NOT_READY), 1.0, [pod()], EVICTED, 39.0, id="a pod that tolerates nothing goes"),
        pytest.param(node("Unknown", *UNREACHABLE), 90.0, [tolerant()], ["patch p/status"], None, id="a pod that tolerates it for ever"),
        pytest.param(node("Unknown", *UNREACHABLE), 90.0, [tolerant(100)], ["patch p/status"], 40.0, id="a pod that has time left"),
        pytest.param(node("Unknown", *UNREACHABLE), 90.0, [tolerant(60)], EVICTED, None, id="a pod whose time is up"),
        pytest.param(node("True", taint("mine")), 1.0, [pod()], EVICTED, 39.0, id="any NoExecute taint evicts"),
        pytest.param(node("Unknown", *UNREACHABLE), 90.0, [pod("Succeeded")], ["patch p/status"], None, id="an ended pod stays"),
    ],
)  # fmt: skip
def test_nodes(
    found: Doc[Any], silent_s: float, pods: list[Doc[Any]], expected: list[str], again_after_s: float | None
) -> None:
    plan = nodes_plan.plan(nodes_plan.Observed(found, silent_s, pods), NOW)
    assert (did(plan), plan.again_after_s) == (expected, again_after_s)


def test_taints_of_a_silent_node_replace_those_of_one_that_was_not_ready() -> None:
    plan = nodes_plan.plan(nodes_plan.Observed(node("False", *NOT_READY, taint("mine")), 50.0, []), NOW)
    patch = plan.actions[0]
    assert isinstance(patch, Patch)
    found = [(each["key"], each["effect"]) for each in patch.body["spec"]["taints"]]
    unreachable = "node.kubernetes.io/unreachable"
    assert found == [("mine", "NoExecute"), (unreachable, "NoSchedule"), (unreachable, "NoExecute")]
    assert patch.body["metadata"]["resourceVersion"] == "5"


# -- claims and volumes ------------------------------------------------------------------------------------------------


def claim(name: str = "c", *, phase: str = "Pending", annotations: Any = None, **spec: Any) -> Doc[Any]:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    metadata = {"annotations": annotations or {}}
    return doc(PERSISTENT_VOLUME_CLAIM, name, metadata=metadata, spec=wanted | spec, status={"phase": phase})


def volume(name: str = "v", *, phase: str = "Available", annotations: Any = None, **spec: Any) -> Doc[Any]:
    given = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}
    metadata = {"annotations": annotations or {}, "labels": {"tier": name}}
    return doc(PERSISTENT_VOLUME, name, metadata=metadata, spec=given | spec, status={"phase": phase})


def storage_class(mode: str = "Immediate", provisioner: str = volume_plan.PROVISIONER, **more: Any) -> Doc[Any]:
    return doc(STORAGE_CLASS, "late", provisioner=provisioner, volumeBindingMode=mode, reclaimPolicy="Delete", **more)


def reference(name: str = "c", uid: str | None = "uid-c") -> dict[str, Any]:
    return {"namespace": "a", "name": name} | ({"uid": uid} if uid else {})


def best(wanted: Doc[Any], *volumes: Doc[Any], **more: Any) -> str:
    found = binding_plan.best_volume(wanted, volumes, **more)
    return "" if found is None else found.name


@pytest.mark.parametrize(
    ("wanted", "volumes", "expected"),
    [
        pytest.param(claim(), [], "", id="none"),
        pytest.param(claim(), [volume("b", capacity={"storage": "3Gi"}), volume("a", capacity={"storage": "2Gi"})], "a", id="the smallest"),
        pytest.param(claim(), [volume(capacity={"storage": "1G"})], "", id="too small"),
        pytest.param(claim(accessModes=["ReadWriteMany"]), [volume()], "", id="access modes"),
        pytest.param(
            claim(), [volume("a", accessModes=["ReadWriteOnce", "ReadWriteMany"]), volume("b", capacity={"storage": "9Gi"})], "b",
            id="the fewest access modes",
        ),
        pytest.param(claim(storageClassName="late"), [volume()], "", id="class"),
        pytest.param(claim(volumeMode="Block"), [volume()], "", id="mode"),
        pytest.param(claim(selector={"matchLabels": {"tier": "b"}}), [volume("a"), volume("b")], "b", id="selector"),
        pytest.param(claim(), [volume(phase="Released")], "", id="not free"),
        pytest.param(claim(), [volume(claimRef=reference("other", None))], "", id="for another"),
        pytest.param(claim(), [volume("a"), volume("b", claimRef=reference(uid=None))], "b", id="reserved by name"),
        pytest.param(claim(), [volume(claimRef=reference(uid="old"))], "", id="reserved for an earlier claim of the name"),
        pytest.param(claim(), [volume(claimRef=reference(), storageClassName="odd", phase="Pending")], "v", id="reserved of another class"),
    ],
)  # fmt: skip
def test_the_best_volume(wanted: Doc[Any], volumes: list[Doc[Any]], expected: str) -> None:
    assert best(wanted, *volumes) == expected


def test_late_binding_leaves_free_volumes_to_the_scheduler() -> None:
    assert best(claim(), volume(), is_delayed=True) == ""
    assert best(claim(), volume(claimRef=reference()), is_delayed=True) == "v"


BOUND = {"pv.kubernetes.io/bind-completed": "yes"}
SELECTED = {"volume.kubernetes.io/selected-node": "own"}


@pytest.mark.parametrize(
    ("wanted", "found_class", "volumes", "expected"),
    [
        pytest.param(claim(), None, [volume()], ["patch v", "patch v/status", "patch c", "patch c/status"], id="binds"),
        pytest.param(
            claim(volumeName="v", annotations=BOUND), None, [volume(phase="Bound", claimRef=reference())], ["patch c/status"],
            id="goes on where it was interrupted",
        ),
        pytest.param(claim(), None, [], ["tell FailedBinding"], id="nothing there and no class"),
        pytest.param(claim(storageClassName="late"), None, [], ["tell ProvisioningFailed"], id="no such class"),
        pytest.param(claim(storageClassName="late"), storage_class("WaitForFirstConsumer"), [], ["tell WaitForFirstConsumer"], id="waits for its pod"),
        pytest.param(claim(phase="", storageClassName="late"), storage_class("WaitForFirstConsumer"), [], ["patch c/status", "tell WaitForFirstConsumer"], id="first of all pending"),
        pytest.param(claim(volumeName="v"), None, [], ["tell FailedBinding"], id="its volume is not there"),
        pytest.param(claim(volumeName="v"), None, [volume(capacity={"storage": "1Ki"})], ["tell VolumeMismatch"], id="its volume does not fit"),
        pytest.param(claim(volumeName="v"), None, [volume(claimRef=reference("other"))], ["tell FailedBinding"], id="its volume is another's"),
        pytest.param(claim(phase="Bound", volumeName="v", annotations=BOUND), None, [], ["patch c/status", "tell ClaimLost"], id="its volume was lost"),
        pytest.param(claim(phase="Lost", volumeName="v", annotations=BOUND), None, [], [], id="and stays lost"),
        pytest.param(claim(phase="Bound", volumeName="v", annotations=BOUND), None, [volume(claimRef=reference("other"))], ["patch c/status", "tell ClaimMisbound"], id="its volume was taken"),
    ],
)  # fmt: skip
def test_claims(wanted: Doc[Any], found_class: Any, volumes: list[Doc[Any]], expected: list[str]) -> None:
    plan = binding_plan.plan_claim(binding_plan.ClaimObserved(wanted, found_class, volumes))
    assert isinstance(plan, Plan)
    assert did(plan) == expected


@pytest.mark.parametrize(
    ("wanted", "found_class"),
    [
        (claim(storageClassName="late"), storage_class()),
        (claim(storageClassName="late", annotations=SELECTED), storage_class("WaitForFirstConsumer")),
    ],
)
def test_a_claim_has_its_volume_made(wanted: Doc[Any], found_class: Doc[Any]) -> None:
    free = volume(storageClassName="late") if found_class.raw["volumeBindingMode"] != "Immediate" else volume("odd")
    plan = binding_plan.plan_claim(binding_plan.ClaimObserved(wanted, found_class, [free]))
    assert isinstance(plan, binding_plan.NeedsVolume)
    made = volume_plan.plan_provisioning(wanted, plan.storage_class, DIRECTORY)
    assert did(made) == ["patch c", "MakeDirectory a_c_uid-c", "create pvc-uid-c", "tell ProvisioningSucceeded"]


def test_what_a_directory_cannot_be_is_refused() -> None:
    block = claim(storageClassName="late", volumeMode="Block")
    assert did(volume_plan.plan_provisioning(block, storage_class(), DIRECTORY)) == [
        "patch c",
        "tell ProvisioningFailed",
    ]
    foreign = storage_class(provisioner="csi.example.org")
    assert did(volume_plan.plan_provisioning(claim(), foreign, DIRECTORY)) == ["patch c", "tell ExternalProvisioning"]


OURS = {"pv.kubernetes.io/provisioned-by": volume_plan.PROVISIONER}
INSIDE = {"path": "/home/volumes/a_c_12345678"}


@pytest.mark.parametrize(
    ("found", "owner", "expected"),
    [
        pytest.param(volume(phase=""), None, ["patch v/status"], id="free"),
        pytest.param(volume(claimRef=reference(uid=None)), None, [], id="reserved by name is free"),
        pytest.param(volume(claimRef=reference()), claim(), [], id="about to be bound"),
        pytest.param(volume(claimRef=reference()), claim(volumeName="v"), ["patch v/status"], id="bound"),
        pytest.param(volume(phase="Bound", claimRef=reference()), None, ["patch v/status"], id="released"),
        pytest.param(volume(phase="Bound", claimRef=reference(uid="old")), claim(), ["patch v/status"], id="released by an earlier claim of the name"),
        pytest.param(volume(phase="Released", claimRef=reference()), None, [], id="kept"),
        pytest.param(
            volume(phase="Bound", claimRef=reference(), annotations=OURS, persistentVolumeReclaimPolicy="Delete", hostPath=INSIDE), None,
            ["RemoveDirectory a_c_12345678", "patch v/status", "delete v Background"], id="reclaimed",
        ),
        pytest.param(
            volume(phase="Bound", claimRef=reference(), annotations=OURS, persistentVolumeReclaimPolicy="Delete", hostPath={"path": "/etc"}), None,
            ["patch v/status", "tell VolumeFailedDelete"], id="nothing outside is removed",
        ),
        pytest.param(
            volume(phase="Bound", claimRef=reference(), annotations=OURS, persistentVolumeReclaimPolicy="Delete", hostPath={"path": "/home/volumes/.."}), None,
            ["patch v/status", "tell VolumeFailedDelete"], id="nor by a detour",
        ),
        pytest.param(
            volume(phase="Bound", claimRef=reference(), persistentVolumeReclaimPolicy="Delete"), None, ["patch v/status"],
            id="another's to delete",
        ),
        pytest.param(
            volume(claimRef=reference(), annotations={"pv.kubernetes.io/bound-by-controller": "yes"}), claim(volumeName="w"), ["patch v"],
            id="its claim found another",
        ),
    ],
)  # fmt: skip
def test_volumes(found: Doc[Any], owner: Doc[Any] | None, expected: list[str]) -> None:
    assert did(volume_plan.plan_volume(volume_plan.VolumeObserved(found, owner), DIRECTORY)) == expected


def test_a_failure_to_reclaim_is_told_once() -> None:
    found = volume()
    plan = volume_plan.failed(found, "no")
    assert did(plan) == ["patch v/status", "tell VolumeFailedDelete"]
    patch = plan.actions[0]
    assert isinstance(patch, Patch)
    told = Doc(PERSISTENT_VOLUME, found.raw | {"status": patch.body["status"]})
    assert volume_plan.failed(told, "no") == NOTHING
