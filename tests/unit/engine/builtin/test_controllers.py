"""The builtin controllers at work together on a real store: what a cluster does by itself."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from headrace.cluster.protocol import JsonPatch, MergePatch, Scope
from headrace.engine.builtin import sweeping
from headrace.engine.pipeline.refusals import MethodNotAllowed
from headrace.errors import Denied, NotFound
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import (
    CONFIG_MAP,
    CRD,
    DATASET,
    EVENT,
    LEASE,
    NAMESPACE,
    NODE,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    PRIORITY_CLASS,
    SERVICE_ACCOUNT,
    STORAGE_CLASS,
)
from headrace.spec.names import FOREGROUND_FINALIZER, TAINT_UNREACHABLE

pytestmark = pytest.mark.anyio
Engine = Any  # conftest's; test modules cannot import it


async def config_map(engine: Engine, name: str, *owners: Doc[Any], blocks: bool = True, **metadata: Any) -> Doc[Any]:
    references = [owner.owner_reference(controller=False, block_deletion=blocks) for owner in owners]
    meta = {"name": name, "namespace": "default", "ownerReferences": references, **metadata}
    made: Doc[Any] = await engine.create(CONFIG_MAP, {"metadata": meta})
    return made


async def names(engine: Engine) -> set[str]:
    found = await engine.list(CONFIG_MAP, Scope("default"))
    return {doc.name for doc in found.items} - {"kube-root-ca.crt"}


# -- garbage -----------------------------------------------------------------------------------------------------------


async def test_what_has_no_owner_left_goes_in_the_background(engine: Engine) -> None:
    owner = await config_map(engine, "owner")
    child = await config_map(engine, "child", owner)
    grandchild = await config_map(engine, "grandchild", child)
    await config_map(engine, "free")
    await engine.delete(CONFIG_MAP, owner.ref)
    await engine.until_gone(CONFIG_MAP, grandchild.ref)
    assert await names(engine) == {"free"}


async def test_an_owner_that_never_was_counts_as_gone(engine: Engine) -> None:
    owner = await config_map(engine, "owner")
    impostor = Doc(CONFIG_MAP, owner.raw | {"metadata": owner.meta | {"uid": "another"}})
    child = await config_map(engine, "child", impostor)
    await engine.until_gone(CONFIG_MAP, child.ref)
    assert await names(engine) == {"owner"}


async def test_who_has_another_owner_stays_and_forgets_the_one_that_went(engine: Engine) -> None:
    first, second = await config_map(engine, "first"), await config_map(engine, "second")
    child = await config_map(engine, "child", first, second)
    await engine.delete(CONFIG_MAP, first.ref)
    left = await engine.until_there(CONFIG_MAP, child.ref, lambda doc: len(doc.owners) == 1)
    assert [owner["uid"] for owner in left.owners] == [second.uid]


async def test_in_the_foreground_the_owner_goes_last(engine: Engine) -> None:
    owner = await config_map(engine, "owner")
    child = await config_map(engine, "child", owner, finalizers=["example.org/hold"])
    idle = await config_map(engine, "idle", owner, blocks=False)
    await engine.delete(CONFIG_MAP, owner.ref, propagation="Foreground")
    await engine.until_gone(CONFIG_MAP, idle.ref)
    await engine.until_there(CONFIG_MAP, child.ref, lambda doc: doc.is_deleting)
    assert FOREGROUND_FINALIZER in (await engine.get(CONFIG_MAP, owner.ref)).finalizers
    await engine.patch(CONFIG_MAP, child.ref, MergePatch({"metadata": {"finalizers": None}}))
    await engine.until_gone(CONFIG_MAP, owner.ref)


async def test_orphans_stay(engine: Engine) -> None:
    owner = await config_map(engine, "owner")
    child = await config_map(engine, "child", owner)
    await engine.delete(CONFIG_MAP, owner.ref, propagation="Orphan")
    await engine.until_gone(CONFIG_MAP, owner.ref)
    assert (await engine.get(CONFIG_MAP, child.ref)).owners == []


async def test_owners_may_be_cluster_scoped_or_of_another_kind(engine: Engine) -> None:
    node = await engine.add_node("own")
    spec = {"mounts": [{"mountPoint": "s3://a/b", "name": "b"}]}
    meta = {"name": "d", "namespace": "default", "ownerReferences": [node.owner_reference()]}
    dataset = await engine.create(DATASET, {"metadata": meta, "spec": spec})
    child = await config_map(engine, "child", dataset)
    await engine.delete(NODE, node.ref)
    await engine.until_gone(CONFIG_MAP, child.ref)


# -- definitions -------------------------------------------------------------------------------------------------------


def definition() -> Json:
    schema = {"type": "object", "properties": {"spec": {"type": "object"}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "Fleet", "plural": "fleets"}
    return {
        "metadata": {"name": "fleets.e.org"},
        "spec": {"group": "e.org", "scope": "Namespaced", "names": names, "versions": [version]},
    }


async def test_custom_objects_are_collected_and_go_with_their_definition(engine: Engine) -> None:
    made = await engine.create(CRD, definition())
    kind = engine.pipeline.registry.find("e.org", "v1", "fleets").kind
    owner = await config_map(engine, "owner")
    meta = {"namespace": "default"}
    owned = await engine.create(kind, {"metadata": meta | {"name": "a", "ownerReferences": [owner.owner_reference()]}})
    free = await engine.create(kind, {"metadata": meta | {"name": "b"}})
    child = await config_map(engine, "child", free)
    await engine.delete(CONFIG_MAP, owner.ref)
    await engine.until_gone(kind, owned.ref)
    await engine.delete(CRD, made.ref)
    with pytest.raises((MethodNotAllowed, NotFound)):
        await engine.create(kind, {"metadata": meta | {"name": "c"}})
    await engine.until_gone(CRD, made.ref)
    await engine.until_gone(CONFIG_MAP, child.ref)
    again = await engine.create(CRD, definition())
    kind = engine.pipeline.registry.find("e.org", "v1", "fleets").kind
    assert (await engine.list(kind)).items == []
    await engine.delete(CRD, again.ref)
    await engine.until_gone(CRD, again.ref)


# -- namespaces --------------------------------------------------------------------------------------------------------


async def test_a_namespace_is_equipped(engine: Engine) -> None:
    await engine.create(NAMESPACE, {"metadata": {"name": "lab"}})
    await engine.until_there(SERVICE_ACCOUNT, Ref("lab", "default"))
    published = await engine.until_there(CONFIG_MAP, Ref("lab", "kube-root-ca.crt"))
    assert published.raw["data"] == {"ca.crt": "PEM"}
    await engine.delete(SERVICE_ACCOUNT, Ref("lab", "default"))
    await engine.until_there(SERVICE_ACCOUNT, Ref("lab", "default"))
    await engine.patch(CONFIG_MAP, published.ref, MergePatch({"data": {"ca.crt": "forged"}}))
    await engine.until_there(CONFIG_MAP, published.ref, lambda doc: doc.raw["data"] == {"ca.crt": "PEM"})


async def test_a_namespace_that_is_deleted_is_emptied_and_goes(engine: Engine) -> None:
    await engine.create(NAMESPACE, {"metadata": {"name": "lab"}})
    meta = {"namespace": "lab"}
    held = await engine.create(CONFIG_MAP, {"metadata": meta | {"name": "held", "finalizers": ["e.org/hold"]}})
    await engine.create(CONFIG_MAP, {"metadata": meta | {"name": "free"}})
    await engine.delete(NAMESPACE, Ref("", "lab"))
    await engine.until_gone(CONFIG_MAP, Ref("lab", "free"))
    told = await engine.until_there(NAMESPACE, Ref("", "lab"), lambda doc: doc.status.get("conditions"))
    messages = [condition["message"] for condition in told.status["conditions"]]
    assert any("configmaps has" in message for message in messages)
    with pytest.raises(Denied):
        await engine.create(CONFIG_MAP, {"metadata": meta | {"name": "late"}})
    await engine.patch(CONFIG_MAP, held.ref, MergePatch({"metadata": {"finalizers": None}}))
    await engine.until_gone(NAMESPACE, Ref("", "lab"))


# -- scheduler ---------------------------------------------------------------------------------------------------------


def is_bound(doc: Doc[Any]) -> str:
    return str(doc.spec.get("nodeName", ""))


async def test_a_pod_comes_to_a_node(engine: Engine) -> None:
    await engine.add_node("own")
    pod = await engine.add_pod("p")
    found = await engine.until_there(POD, pod.ref, is_bound)
    assert found.spec["nodeName"] == "own"
    assert await engine.until_told(pod, "Scheduled") == "Successfully assigned default/p to own"


async def test_a_pod_that_waits_is_told_why_and_comes_as_soon_as_it_can(engine: Engine) -> None:
    pod = await engine.add_pod("p", cpu="3")
    assert await engine.until_told(pod, "FailedScheduling") == "no nodes available to schedule pods"
    await engine.add_node("small", cpu="2")
    message = "0/1 nodes are available: 1 Insufficient cpu."

    def says(doc: Doc[Any]) -> bool:
        return any(condition.get("message") == message for condition in doc.status.get("conditions", ()))

    told = await engine.until_there(POD, pod.ref, says)
    assert [c["reason"] for c in told.status["conditions"] if c["type"] == "PodScheduled"] == ["Unschedulable"]
    await engine.patch(
        NODE, Ref("", "small"), MergePatch({"status": {"allocatable": {"cpu": "4"}}}), subresource="status"
    )
    await engine.until_there(POD, pod.ref, is_bound)


async def test_room_is_given_once_and_given_back(engine: Engine) -> None:
    await engine.add_node("own", cpu="2")
    for name in ("a", "b", "c"):
        await engine.add_pod(name)

    async def bound() -> list[str]:
        pods = (await engine.list(POD, Scope("default"))).items
        return sorted(pod.name for pod in pods if is_bound(pod))

    await engine.until_told(await engine.get(POD, Ref("default", "c")), "FailedScheduling")
    assert await bound() == ["a", "b"]
    await engine.finish(Ref("default", "a"))
    await engine.until_there(POD, Ref("default", "c"), is_bound)


async def test_the_most_important_waiting_pod_comes_first(engine: Engine) -> None:
    await engine.create(PRIORITY_CLASS, {"metadata": {"name": "high"}, "value": 1000})
    gates = [{"name": "e.org/gate"}]
    await engine.add_pod("low", cpu="2", schedulingGates=gates)
    high = await engine.add_pod("high", cpu="2", priorityClassName="high", schedulingGates=gates)
    assert high.spec["priority"] == 1000
    with pytest.raises(Denied, match="no PriorityClass"):
        await engine.add_pod("none", priorityClassName="none")
    for name in ("low", "high"):
        await engine.until_there(POD, Ref("default", name), lambda doc: doc.status.get("conditions"))
        ungate = JsonPatch([{"op": "remove", "path": "/spec/schedulingGates"}])
        await engine.patch(POD, Ref("default", name), ungate)
    await engine.add_node("own", cpu="3")
    await engine.until_there(POD, Ref("default", "high"), is_bound)
    assert not is_bound(await engine.get(POD, Ref("default", "low")))


async def test_a_gated_pod_waits_for_its_gates(engine: Engine) -> None:
    await engine.add_node("own")
    pod = await engine.add_pod("p", schedulingGates=[{"name": "e.org/gate"}])
    told = await engine.until_there(POD, pod.ref, lambda doc: doc.status.get("conditions"))
    assert told.status["conditions"][0]["reason"] == "SchedulingGated"
    await engine.patch(POD, pod.ref, JsonPatch([{"op": "remove", "path": "/spec/schedulingGates"}]))
    await engine.until_there(POD, pod.ref, is_bound)


# -- volumes -----------------------------------------------------------------------------------------------------------


async def add_class(engine: Engine, mode: str = "WaitForFirstConsumer", reclaim: str = "Delete", **more: Any) -> None:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
    body = {
        "metadata": {"name": "local-path", "annotations": annotations},
        "provisioner": "headrace.io/local-path",
        "volumeBindingMode": mode,
        "reclaimPolicy": reclaim,
        **more,
    }
    await engine.create(STORAGE_CLASS, body)


async def add_claim(engine: Engine, name: str = "data", **spec: Any) -> Doc[Any]:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    body = {"metadata": {"name": name, "namespace": "default"}, "spec": wanted}
    made: Doc[Any] = await engine.create(PERSISTENT_VOLUME_CLAIM, body)
    return made


async def add_volume(engine: Engine, name: str = "pv", **spec: Any) -> Doc[Any]:
    wanted = {
        "capacity": {"storage": "2Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/tmp/x"},
        "storageClassName": "",
        **spec,
    }
    made: Doc[Any] = await engine.create(PERSISTENT_VOLUME, {"metadata": {"name": name}, "spec": wanted})
    return made


def phase(wanted: str) -> Any:
    return lambda doc: doc.status.get("phase") == wanted


async def test_a_late_binding_claim_gets_its_volume_with_its_pod(engine: Engine) -> None:
    await add_class(engine)
    await engine.add_node("own")
    claim = await add_claim(engine)
    assert claim.spec["storageClassName"] == "local-path"
    assert await engine.until_told(claim, "WaitForFirstConsumer")
    pod = await engine.add_pod("p", claim="data")
    await engine.until_there(POD, pod.ref, is_bound)
    bound = await engine.get(PERSISTENT_VOLUME_CLAIM, claim.ref)
    assert bound.annotations["volume.kubernetes.io/selected-node"] == "own"
    assert (bound.status["phase"], bound.status["capacity"]) == ("Bound", {"storage": "1Gi"})
    volume = await engine.get(PERSISTENT_VOLUME, Ref("", bound.spec["volumeName"]))
    assert volume.name == f"pvc-{claim.uid}"
    assert volume.status["phase"] == "Bound"
    path = engine.volumes / f"default_data_{claim.uid[:8]}"
    assert volume.spec["hostPath"]["path"] == str(path)
    assert path.stat().st_mode & 0o777 == 0o777
    assert "Successfully provisioned" in await engine.until_told(claim, "ProvisioningSucceeded")


async def test_a_deleted_claim_is_kept_while_used_and_its_volume_removed_after(engine: Engine) -> None:
    await add_class(engine, "Immediate")
    await engine.add_node("own")
    claim = await add_claim(engine)
    bound = await engine.until_there(PERSISTENT_VOLUME_CLAIM, claim.ref, phase("Bound"))
    volume = Ref("", bound.spec["volumeName"])
    path = engine.volumes / f"default_data_{claim.uid[:8]}"
    (path / "file").write_text("data")
    pod = await engine.add_pod("p", claim="data")
    await engine.until_there(POD, pod.ref, is_bound)
    await engine.delete(PERSISTENT_VOLUME_CLAIM, claim.ref)
    await engine.delete(PERSISTENT_VOLUME, volume)
    other = await engine.add_pod("late", claim="data")
    assert "is being deleted" in await engine.until_told(other, "FailedScheduling")
    assert (path / "file").exists()
    await engine.finish(pod.ref)
    await engine.until_gone(PERSISTENT_VOLUME_CLAIM, claim.ref)
    await engine.until_gone(PERSISTENT_VOLUME, volume)
    assert not path.exists()


async def test_a_claim_grows_where_its_class_allows_it(engine: Engine) -> None:
    await add_class(engine, "Immediate", allowVolumeExpansion=True)
    claim = await add_claim(engine)
    await engine.until_there(PERSISTENT_VOLUME_CLAIM, claim.ref, phase("Bound"))
    more = MergePatch({"spec": {"resources": {"requests": {"storage": "2Gi"}}}})
    await engine.patch(PERSISTENT_VOLUME_CLAIM, claim.ref, more)
    grown = {"storage": "2Gi"}
    await engine.until_there(PERSISTENT_VOLUME_CLAIM, claim.ref, lambda doc: doc.status["capacity"] == grown)
    await engine.patch(STORAGE_CLASS, Ref("", "local-path"), MergePatch({"allowVolumeExpansion": False}))
    yet_more = MergePatch({"spec": {"resources": {"requests": {"storage": "3Gi"}}}})
    with pytest.raises(Denied, match="must support resize"):
        await engine.patch(PERSISTENT_VOLUME_CLAIM, claim.ref, yet_more)


async def test_a_retained_volume_outlives_its_claim(engine: Engine) -> None:
    await add_class(engine, "Immediate", "Retain")
    claim = await add_claim(engine)
    bound = await engine.until_there(PERSISTENT_VOLUME_CLAIM, claim.ref, phase("Bound"))
    await engine.delete(PERSISTENT_VOLUME_CLAIM, claim.ref)
    volume = Ref("", bound.spec["volumeName"])
    await engine.until_there(PERSISTENT_VOLUME, volume, phase("Released"))
    assert (engine.volumes / f"default_data_{claim.uid[:8]}").is_dir()
    await engine.delete(PERSISTENT_VOLUME, volume)
    await engine.until_gone(PERSISTENT_VOLUME, volume)
    assert (engine.volumes / f"default_data_{claim.uid[:8]}").is_dir()


async def test_a_claim_gets_the_smallest_volume_that_fits(engine: Engine) -> None:
    for name, size in (("big", "10Gi"), ("small", "500Mi"), ("right", "2Gi")):
        await add_volume(engine, name, capacity={"storage": size})
    claim = await add_claim(engine, storageClassName="")
    bound = await engine.until_there(PERSISTENT_VOLUME_CLAIM, claim.ref, phase("Bound"))
    assert bound.spec["volumeName"] == "right"
    volume = await engine.get(PERSISTENT_VOLUME, Ref("", "right"))
    assert volume.spec["claimRef"]["uid"] == claim.uid


async def test_a_claim_and_a_volume_that_name_each_other_meet(engine: Engine) -> None:
    await add_volume(engine, "other")
    await add_volume(engine, "mine", claimRef={"namespace": "default", "name": "data"})
    await engine.until_there(PERSISTENT_VOLUME, Ref("", "mine"), phase("Available"))
    claim = await add_claim(engine, storageClassName="")
    bound = await engine.until_there(PERSISTENT_VOLUME_CLAIM, claim.ref, phase("Bound"))
    assert bound.spec["volumeName"] == "mine"
    asked = await add_claim(engine, "asked", storageClassName="", volumeName="other")
    await engine.until_there(PERSISTENT_VOLUME_CLAIM, asked.ref, phase("Bound"))
    late = await add_claim(engine, "late", storageClassName="", volumeName="other")
    assert "already bound to a different claim" in await engine.until_told(late, "FailedBinding")


async def test_a_claim_without_hope_says_so_and_heals(engine: Engine) -> None:
    claim = await add_claim(engine)
    assert "no storage class is set" in await engine.until_told(claim, "FailedBinding")
    await add_class(engine, "Immediate")
    bound = await engine.until_there(PERSISTENT_VOLUME_CLAIM, claim.ref, phase("Bound"))
    assert bound.spec["storageClassName"] == "local-path"
    foreign = await add_claim(engine, "foreign", storageClassName="fast")
    assert '"fast" not found' in await engine.until_told(foreign, "ProvisioningFailed")
    body = {"metadata": {"name": "fast"}, "provisioner": "csi.example.org"}
    await engine.create(STORAGE_CLASS, body)
    assert "csi.example.org" in await engine.until_told(foreign, "ExternalProvisioning")


async def test_a_volume_of_some_nodes_takes_its_pod_there(engine: Engine) -> None:
    await engine.add_node("a", zone="x")
    await engine.add_node("b", zone="y")
    body = {"metadata": {"name": "late"}, "provisioner": "kubernetes.io/no-provisioner"}
    await engine.create(STORAGE_CLASS, body | {"volumeBindingMode": "WaitForFirstConsumer"})
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["y"]}]}
    affinity = {"required": {"nodeSelectorTerms": [term]}}
    await add_volume(engine, "there", storageClassName="late", nodeAffinity=affinity)
    await engine.until_there(PERSISTENT_VOLUME, Ref("", "there"), phase("Available"))
    await add_claim(engine, storageClassName="late")
    pod = await engine.add_pod("p", claim="data")
    assert (await engine.until_there(POD, pod.ref, is_bound)).spec["nodeName"] == "b"
    await add_claim(engine, "second", storageClassName="late")
    stuck = await engine.add_pod("stuck", claim="second")
    told = await engine.until_told(stuck, "FailedScheduling")
    assert told == "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."


# -- nodes -------------------------------------------------------------------------------------------------------------


async def renew(engine: Engine, node: str, number: int) -> None:
    ref = Ref("kube-node-lease", node)
    renewed = {"holderIdentity": node, "renewTime": f"2026-01-01T00:00:{number:02}.000000Z"}
    try:
        await engine.patch(LEASE, ref, MergePatch({"spec": renewed}))
    except NotFound:
        body = {"metadata": {"name": node, "namespace": "kube-node-lease"}, "spec": renewed}
        await engine.create(LEASE, body)


async def poke(engine: Engine, node: str) -> None:
    """Have the node looked at again, as a timer would."""
    stamp = {"metadata": {"annotations": {"poke": str(engine.clock.monotonic_s())}}}
    await engine.patch(NODE, Ref("", node), MergePatch(stamp))


async def test_a_silent_node_is_unreachable_and_its_pods_go_in_their_time(engine: Engine) -> None:
    await engine.add_node("own")
    await renew(engine, "own", 1)
    now = {"key": TAINT_UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}
    hasty = await engine.add_pod("hasty", tolerations=[now])
    patient = await engine.add_pod("patient")
    assert {each.get("tolerationSeconds") for each in patient.spec["tolerations"]} == {300}
    for pod in (hasty, patient):
        await engine.until_there(POD, pod.ref, is_bound)
    await anyio.wait_all_tasks_blocked()
    engine.clock.advance(39)
    await renew(engine, "own", 2)
    await anyio.wait_all_tasks_blocked()
    engine.clock.advance(39)
    await poke(engine, "own")
    await anyio.wait_all_tasks_blocked()
    assert not (await engine.get(NODE, Ref("", "own"))).spec.get("taints")
    engine.clock.advance(1)
    await poke(engine, "own")
    lost = await engine.until_there(NODE, Ref("", "own"), lambda doc: len(doc.spec.get("taints") or []) == 2)
    assert {taint["effect"] for taint in lost.spec["taints"]} == {"NoSchedule", "NoExecute"}
    lost = await engine.until_there(NODE, lost.ref, lambda doc: doc.status["conditions"][0]["status"] == "Unknown")
    going = await engine.until_there(POD, hasty.ref, lambda doc: doc.is_deleting)
    assert going.status["phase"] == "Pending"
    assert not (await engine.get(POD, patient.ref)).is_deleting
    engine.clock.advance(301)
    await poke(engine, "own")
    await engine.until_there(POD, patient.ref, lambda doc: doc.is_deleting)


async def test_a_node_that_is_back_loses_its_taints(engine: Engine) -> None:
    taint = {"key": TAINT_UNREACHABLE, "effect": "NoSchedule"}
    await engine.add_node("own", taints=(taint, {"key": "mine", "effect": "NoSchedule"}))
    back = await engine.until_there(NODE, Ref("", "own"), lambda doc: len(doc.spec["taints"]) == 1)
    assert back.spec["taints"][0]["key"] == "mine"


async def test_pods_of_a_node_that_is_no_more_are_ended_and_removed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.add_node("own")
    pod = await engine.add_pod("p")
    await engine.until_there(POD, pod.ref, is_bound)
    await engine.patch(POD, pod.ref, MergePatch({"metadata": {"finalizers": ["e.org/metered"]}}))
    monkeypatch.setattr(sweeping, "QUARANTINE_S", 0.0)
    await engine.delete(NODE, Ref("", "own"))
    ended = await engine.until_there(POD, pod.ref, lambda doc: doc.is_deleting)
    assert (ended.status["phase"], ended.status["reason"]) == ("Failed", "NodeLost")
    await engine.patch(POD, pod.ref, MergePatch({"metadata": {"finalizers": None}}))
    await engine.until_gone(POD, pod.ref)


async def test_old_events_go(engine: Engine) -> None:
    meta = {"name": "old", "namespace": "default"}
    told = {"involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "X", "message": "x"}
    await engine.create(EVENT, {"metadata": meta, **told, "lastTimestamp": "2025-12-31T22:59:59Z"})
    await engine.create(EVENT, {"metadata": meta | {"name": "new"}, **told, "lastTimestamp": "not a time"})
    await engine.until_gone(EVENT, Ref("default", "old"))
    assert (await engine.get(EVENT, Ref("default", "new"))).name == "new"
